//! Simulated release files: a K3s binary is one line that says what it is.

use sha2::{Digest, Sha256};

use crate::engine::action::hex;

/// The content of a K3s asset of a release; `None` for an asset K3s does not have.
pub fn content(version: &str, asset: &str) -> Option<Vec<u8>> {
    if let Some(arch) = arch_of(asset) {
        return Some(format!("xgenctl simulated k3s {version} {arch}\n").into_bytes());
    }
    let (arch, binary) = match asset {
        "sha256sum-amd64.txt" => ("amd64", "k3s"),
        "sha256sum-arm64.txt" => ("arm64", "k3s-arm64"),
        "sha256sum-arm.txt" => ("arm", "k3s-armhf"),
        _ => return None,
    };
    let mut list = String::new();
    for other in [format!("k3s-airgap-images-{arch}.tar.zst"), "k3s-images.txt".to_owned()] {
        list.push_str(&format!("{}  {other}\n", hex(&Sha256::digest(format!("{version} {other}")))));
    }
    list.push_str(&format!("{}  {binary}\n", hex(&Sha256::digest(content(version, binary)?))));
    Some(list.into_bytes())
}

fn arch_of(asset: &str) -> Option<&'static str> {
    match asset {
        "k3s" => Some("amd64"),
        "k3s-arm64" => Some("arm64"),
        "k3s-armhf" => Some("armhf"),
        _ => None,
    }
}

/// What a simulated K3s binary is: version and architecture.
pub fn identify(content: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(content).ok()?;
    let mut words = text.strip_prefix("xgenctl simulated k3s ")?.strip_suffix('\n')?.split(' ');
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

/// Whether a machine (`uname -m`) runs a binary of that architecture.
pub fn runs_on(arch: &str, machine: &str) -> bool {
    matches!((arch, machine), ("amd64", "x86_64") | ("arm64", "aarch64") | ("armhf", "armv7l" | "aarch64"))
}

/// The first line of `k3s --version`.
pub fn version_line(version: &str) -> String {
    format!("k3s version {version} ({})", &hex(&Sha256::digest(version))[..8])
}
