//! The files of a K3s release.

use thiserror::Error;

use super::Artifact;

/// An architecture that K3s is released for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum K3sArch {
    /// x86_64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit ARM with hardware floating point.
    Armhf,
}

/// K3s has no release for an architecture.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("K3s has no release for the architecture `{0}`; it runs on x86_64, aarch64 and armv7l")]
pub struct UnsupportedArch(
    /// What `uname -m` said.
    pub String,
);

impl K3sArch {
    /// From what `uname -m` prints.
    ///
    /// # Errors
    /// Where K3s has no release for it.
    pub fn from_uname(machine: &str) -> Result<Self, UnsupportedArch> {
        match machine {
            "x86_64" | "amd64" => Ok(Self::Amd64),
            "aarch64" | "arm64" => Ok(Self::Arm64),
            "armv7l" | "armhf" => Ok(Self::Armhf),
            _ => Err(UnsupportedArch(machine.to_owned())),
        }
    }

    /// The binary's name in the release.
    pub fn asset(self) -> &'static str {
        match self {
            Self::Amd64 => "k3s",
            Self::Arm64 => "k3s-arm64",
            Self::Armhf => "k3s-armhf",
        }
    }

    /// The checksum list's name in the release.
    pub fn checksums(self) -> &'static str {
        match self {
            Self::Amd64 => "sha256sum-amd64.txt",
            Self::Arm64 => "sha256sum-arm64.txt",
            Self::Armhf => "sha256sum-arm.txt",
        }
    }
}

impl Artifact {
    /// The K3s binary of a version; `base` is the mirror's address without the version.
    pub fn k3s(version: &str, arch: K3sArch, base: &str) -> Self {
        Self {
            product: "k3s".into(),
            version: version.into(),
            base_url: base.trim_end_matches('/').into(),
            asset: arch.asset().into(),
            checksums: arch.checksums().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_upstream_layout() {
        let base = "https://github.com/k3s-io/k3s/releases/download/";
        let url = |machine| {
            let artifact = Artifact::k3s("v1.36.5+k3s1", K3sArch::from_uname(machine).unwrap(), base);
            (artifact.url(), artifact.checksums_url())
        };
        let at = |file: &str| format!("https://github.com/k3s-io/k3s/releases/download/v1.36.5%2Bk3s1/{file}");
        assert_eq!(url("x86_64"), (at("k3s"), at("sha256sum-amd64.txt")));
        assert_eq!(url("aarch64"), (at("k3s-arm64"), at("sha256sum-arm64.txt")));
        assert_eq!(url("armv7l"), (at("k3s-armhf"), at("sha256sum-arm.txt")));
    }

    #[test]
    fn another_architecture_is_named() {
        assert_eq!(
            K3sArch::from_uname("riscv64").unwrap_err().to_string(),
            "K3s has no release for the architecture `riscv64`; it runs on x86_64, aarch64 and armv7l"
        );
    }
}
