//! How long a run takes that has nothing to do, on three servers over SSH; beside it k3s-ansible on servers of the same
//! kind, where `XGENCTL_BENCH_K3S_ANSIBLE` names a copy of it. docs/benchmarks.md says how to run it.

// The harness serves the end-to-end tests too, which use more of it.
#[allow(dead_code)]
#[path = "../tests/support/servers/mod.rs"]
mod servers;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use servers::lab::{Lab, MirrorFor};
use servers::server::Server;

const XGENCTL: &str = env!("CARGO_BIN_EXE_xgenctl");
const NAMES: [&str; 3] = ["bench-1", "bench-2", "bench-3"];
/// Runs of which the median counts.
const RUNS: usize = 5;
/// The same for k3s-ansible, of which a run takes far longer.
const THEIR_RUNS: usize = 3;
/// What Ansible needs on a server: its package_facts reads packages through python3-apt.
const FOR_ANSIBLE: &[&str] = &["python3", "python3-apt"];

fn main() {
    if !servers::wanted("rerun") {
        return;
    }
    let size = std::fs::metadata(XGENCTL).expect("the program").len();
    println!("xgenctl, size of the program: {:.1} MB", size as f64 / 1e6);
    let version = median(25, || ran(Command::new(XGENCTL).arg("--version")));
    println!("xgenctl --version: {:.1} ms", version.as_secs_f64() * 1e3);

    let lab = Lab::new(XGENCTL, &NAMES, MirrorFor::Operator);
    lab.operator.write("project.yaml", &lab.project(1));
    let first = Instant::now();
    lab.xgenctl(&["setup", "all"]).expect(0);
    println!("xgenctl setup all, three blank servers: {:.1} s", first.elapsed().as_secs_f64());
    let ours = median(RUNS, || {
        let run = lab.xgenctl(&["setup", "all", "-o", "json"]).expect(0);
        assert_eq!(run.finished()["changed"], 0, "{run}");
    });
    println!("xgenctl setup all, nothing to do: {:.2} s (median of {RUNS})", ours.as_secs_f64());
    drop(lab);

    match std::env::var_os("XGENCTL_BENCH_K3S_ANSIBLE").map(PathBuf::from) {
        Some(folder) => {
            let (theirs, check) = k3s_ansible(&folder);
            for (what, time) in [("site.yml", theirs), ("site.yml --check", check)] {
                let ratio = time.as_secs_f64() / ours.as_secs_f64();
                let time = time.as_secs_f64();
                println!("k3s-ansible {what}, nothing to do: {time:.2} s (median of {THEIR_RUNS}), ratio {ratio:.1}");
            }
        }
        None => println!("k3s-ansible: left out, XGENCTL_BENCH_K3S_ANSIBLE names no copy of it"),
    }
}

/// Has k3s-ansible set up three servers without a download, then measures its further runs: whole ones, which run K3s'
/// install script and restart K3s each time, and those with `--check`, which only look.
fn k3s_ansible(folder: &Path) -> (Duration, Duration) {
    let lab = Lab::with(XGENCTL, &NAMES, MirrorFor::Operator, FOR_ANSIBLE);
    assert!(lab.k3s.real, "k3s-ansible asks K3s for more than the stand-in has: set XGENCTL_E2E_K3S");
    let airgap = lab.operator.home().join("airgap");
    std::fs::create_dir(&airgap).expect("a folder");
    std::fs::write(airgap.join("k3s"), &lab.k3s.binary).expect("the binary");
    let script = std::env::var_os("XGENCTL_BENCH_INSTALL_SH").expect("XGENCTL_BENCH_INSTALL_SH names K3s' install.sh");
    std::fs::copy(script, airgap.join("k3s-install.sh")).expect("the install script");

    let hosts = |servers: &[Server]| servers.iter().map(|s| format!("        {}:\n", s.ip)).collect::<String>();
    let inventory = format!(
        "k3s_cluster:\n  children:\n    server:\n      hosts:\n{}    agent:\n      hosts:\n{}  vars:\n    ansible_user: root\n    \
         ansible_ssh_private_key_file: {key}\n    ansible_ssh_common_args: -F none -o UserKnownHostsFile={known}\n    \
         k3s_version: {version}\n    token: benchmark-of-a-converged-run\n    airgap_dir: {airgap}\n    api_endpoint: {api}\n    \
         user_kubectl: false\n    server_config_yaml: |\n      {config}\n",
        hosts(&lab.servers[..1]),
        hosts(&lab.servers[1..]),
        key = lab.operator.home().join(".ssh/id_ed25519").display(),
        known = lab.operator.home().join(".ssh/known_hosts").display(),
        version = lab.k3s.version,
        airgap = airgap.display(),
        api = lab.servers[0].ip,
        config = lab.k3s_config(),
    );
    lab.operator.write("inventory.yml", &inventory);
    let playbook = |arguments: &[&str]| {
        let mut command = Command::new("ansible-playbook");
        command.current_dir(folder).env("HOME", lab.operator.home()).env("LC_ALL", "C.UTF-8");
        command.arg("-i").arg(lab.operator.home().join("inventory.yml")).args(arguments);
        ran(command.arg("playbooks/site.yml"));
    };
    let first = Instant::now();
    playbook(&[]);
    println!("k3s-ansible site.yml, three blank servers: {:.1} s", first.elapsed().as_secs_f64());
    let nodes: Vec<(&str, bool)> = NAMES.iter().map(|name| (*name, true)).collect();
    servers::api::Api::of(&lab.servers[0]).wait_for_nodes(&nodes);
    (median(THEIR_RUNS, || playbook(&[])), median(THEIR_RUNS, || playbook(&["--check"])))
}

/// Runs a program that must succeed; its output is shown only where it fails.
fn ran(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&text));
}

fn median(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[runs / 2]
}
