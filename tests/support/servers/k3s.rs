//! The K3s binary that the mirror serves: a real one where `XGENCTL_E2E_K3S` names it, else the stand-in.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;

use super::server::Server;

/// The variable that names a real K3s binary.
const REAL_K3S: &str = "XGENCTL_E2E_K3S";

/// The version that the stand-in says it is.
const STAND_IN_VERSION: &str = "v1.36.5+k3s1";

/// A K3s binary.
pub struct K3s {
    /// The file's content.
    pub binary: Bytes,
    /// Its version, such as `v1.36.5+k3s1`.
    pub version: String,
    /// Whether it is a real K3s: then servers have to be able to run containers.
    pub real: bool,
}

/// A container may not make itself harder to kill than its host allows, so neither may what runs in it. Otherwise the
/// template that K3s 1.21 brings, with the network plugins of Debian in place of flannel's.
const CONTAINERD: &str = r#"[plugins.opt]
  path = "{{ .NodeConfig.Containerd.Opt }}"
[plugins.cri]
  stream_server_address = "127.0.0.1"
  stream_server_port = "10010"
  enable_selinux = {{ .NodeConfig.SELinux }}
  restrict_oom_score_adj = true
{{- if .NodeConfig.AgentConfig.PauseImage }}
  sandbox_image = "{{ .NodeConfig.AgentConfig.PauseImage }}"
{{end}}
{{- if .NodeConfig.AgentConfig.Snapshotter }}
[plugins.cri.containerd]
  disable_snapshot_annotations = true
  snapshotter = "{{ .NodeConfig.AgentConfig.Snapshotter }}"
{{end}}
[plugins.cri.cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
[plugins.cri.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"#;

/// A bridge per node: flannel needs a kernel module that a container cannot load.
const NETWORK: &str = r#"{"cniVersion": "0.3.1", "name": "lab", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.42.NODE.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
"#;

impl K3s {
    /// The packages that servers need for this K3s, beside others.
    pub fn packages(&self, others: &[&'static str]) -> Vec<&'static str> {
        let mut packages = others.to_vec();
        if self.real {
            packages.push("containernetworking-plugins");
        }
        packages
    }

    /// Lays out what a real K3s needs to run in a container; `index` tells servers apart.
    pub fn prepare(&self, server: &Server, index: usize) {
        if self.real {
            let config = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl";
            server.write(config, CONTAINERD.as_bytes());
            let network = NETWORK.replace("NODE", &index.to_string());
            server.write("/etc/cni/net.d/10-lab.conflist", network.as_bytes());
        }
    }
}

/// The binary of this test run; the stand-in is built beside the program under test, of which the path is given.
pub fn get(xgenctl: &Path) -> &'static K3s {
    static K3S: OnceLock<K3s> = OnceLock::new();
    K3S.get_or_init(|| match std::env::var_os(REAL_K3S).filter(|path| !path.is_empty()) {
        Some(path) => real(Path::new(&path)),
        None => stand_in(xgenctl),
    })
}

fn real(path: &Path) -> K3s {
    let output = Command::new(path).arg("--version").output().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().and_then(|line| line.split_whitespace().nth(2));
    let version = version.unwrap_or_else(|| panic!("{} --version printed: {text}", path.display())).to_owned();
    K3s { binary: read(path).into(), version, real: true }
}

fn stand_in(xgenctl: &Path) -> K3s {
    let profile = xgenctl.parent().expect("the folder of the built program");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut build = Command::new(cargo);
    build.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--quiet",
        "--example",
        "k3s-standin",
        "--target-dir",
    ]);
    build.arg(profile.parent().expect("the target folder"));
    // What cargo tells this test about its package would have build scripts of dependencies run again, here and there.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
            .iter()
            .any(|told| name.to_string_lossy().starts_with(told))
        {
            build.env_remove(name);
        }
    }
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let built = build.output().expect("cargo");
    assert!(built.status.success(), "{build:?}\n{}", String::from_utf8_lossy(&built.stderr));

    let mut binary = stripped(&profile.join("examples/k3s-standin"));
    // It tells its version from its last line.
    binary.extend_from_slice(format!("\nk3s-standin {STAND_IN_VERSION}\n").as_bytes());
    K3s { binary: binary.into(), version: STAND_IN_VERSION.to_owned(), real: false }
}

/// A program as it is copied to servers: without what only a debugger reads, which is most of it.
pub fn stripped(program: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stripped = folder.path().join("program");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(program).status();
    read(if strip.is_ok_and(|status| status.success()) { &stripped } else { program })
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
