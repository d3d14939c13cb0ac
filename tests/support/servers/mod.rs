//! Fresh Debian servers for tests and benchmarks: systemd and sshd in containers of the local Docker Engine.
//!
//! * [`docker`]: the engine by its command line; everything made here is labelled and removed again.
//! * [`image`]: a Debian system made from Debian's packages, once per machine.
//! * [`server`]: one running server, and the network that several of them share.
//! * [`operator`]: the machine xgenctl runs on: a home folder of its own, keys, known_hosts.
//! * [`mirror`]: an HTTP server in the layout of the upstream releases, with faults on demand.
//! * [`k3s`]: the K3s binary that the mirror serves: a real one, or the stand-in.
//! * [`upstream`]: K3s installed as upstream's script does it.
//! * [`api`]: the cluster's API, asked directly.
//! * [`lab`]: all of it together, as most tests want it.

pub mod api;
pub mod docker;
pub mod image;
pub mod k3s;
pub mod lab;
pub mod mirror;
pub mod operator;
pub mod server;
pub mod upstream;

/// The variable that lets tests use root, Docker and sshd.
pub const REAL: &str = "XGENCTL_REAL";

/// Whether tests may use root, Docker and sshd; says in one line that `test` is skipped where they may not.
///
/// # Panics
/// Where they are asked for, but no Docker Engine answers: a test that was asked for must not pass unseen.
pub fn wanted(test: &str) -> bool {
    if std::env::var_os(REAL).is_none_or(|v| v != "1") {
        eprintln!("{test}: skipped, needs root and Docker Engine: set {REAL}=1 to run it");
        return false;
    }
    if let Err(reason) = docker::try_run(["version", "--format", "{{.Server.Version}}"]) {
        panic!("{REAL}=1 is set, but Docker Engine does not answer: {reason}");
    }
    docker::remove_leftovers();
    true
}
