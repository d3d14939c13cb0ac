//! One server and two agents over SSH, from blank machines through what happens to a cluster in its life.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::XGENCTL;
use crate::servers::api::Api;
use crate::servers::image::{USER, USER_PASSWORD};
use crate::servers::lab::{Lab, MirrorFor};
use crate::servers::wanted;

const NODES: [(&str, bool); 3] = [("master", true), ("worker-1", true), ("worker-2", true)];
const CONFIG: &str = "/etc/rancher/k3s/config.yaml";
/// What somebody adds to it by hand: a setting that takes effect at a restart.
const EDIT: &str = "kubelet-arg: [max-pods=50]";
const EDIT_VALUE: &str = "max-pods=50";

#[test]
fn a_cluster_is_set_up_kept_repaired_and_changed() {
    if !wanted("cluster") {
        return;
    }
    let lab = Lab::new(XGENCTL, &["master", "worker-1", "worker-2"], MirrorFor::Operator);
    // Two nodes are reached as root, the third as a user whose sudo asks for a password.
    let key = "key: ~/.ssh/id_ed25519";
    let root = format!("{{ user: root, {key} }}");
    let user = format!("{{ user: {USER}, {key}, sudoPassword: \"${{secret:SUDO}}\" }}");
    let mut project = lab.project_head() + "nodes:\n";
    for (name, role, ssh) in [("master", "server", &root), ("worker-1", "agent", &root), ("worker-2", "agent", &user)] {
        project += &format!("  - {}\n", lab.node(lab.server(name), role, ssh));
    }
    lab.operator.write("project.yaml", &project);
    lab.operator.write("secrets.yaml", &format!("SUDO: {USER_PASSWORD}\n"));

    a_dry_run_touches_nothing(&lab);
    let api = setup_installs_every_node(&lab);
    a_second_run_changes_nothing(&lab);
    a_file_edited_by_hand_is_found_and_repaired(&lab);
    a_node_leaves_and_comes_back(&lab, &api);
    one_run_excludes_another_and_a_killed_one_frees_the_lock(&lab, &api);
    nothing_secret_is_left_on_the_operators_machine(&lab);
}

fn a_dry_run_touches_nothing(lab: &Lab) {
    let before: Vec<_> = lab.servers.iter().map(|server| server.tree()).collect();
    let run = lab.xgenctl(&["setup", "all", "--dry-run", "--exit-code", "-o", "json"]).expect(4);
    let planned: Vec<Value> = run.events().into_iter().filter(|event| event["event"] == "module_planned").collect();
    assert!(planned.iter().any(|event| event.to_string().contains("/usr/local/bin/k3s")), "{run}");
    for (server, before) in lab.servers.iter().zip(before) {
        let changed: Vec<_> = {
            let after = server.tree();
            let paths = before.keys().chain(after.keys());
            paths.filter(|path| before.get(*path) != after.get(*path)).cloned().collect()
        };
        assert!(changed.is_empty(), "{}: a dry run changed {changed:?}\n{run}", server.name);
    }
    assert_eq!(binaries_downloaded(lab), 0, "a dry run downloads nothing");
    lab.xgenctl(&["status"]).expect(4);
}

fn setup_installs_every_node(lab: &Lab) -> Api {
    let run = lab.xgenctl(&["setup", "all", "-o", "json"]).expect(0);
    let finished = run.finished();
    assert_eq!((&finished["ok"], &finished["failed"]), (&Value::Bool(true), &Value::from(0)), "{run}");
    assert_eq!(binaries_downloaded(lab), 1, "one download serves all nodes\n{run}");
    let api = Api::of(lab.server("master"));
    // Ready at once: that is what setup waited for.
    let nodes = api.nodes();
    assert_eq!(nodes, NODES.map(|(name, ready)| (name.to_owned(), ready)).into(), "{run}");
    for server in &lab.servers {
        assert_eq!(server.sh(&format!("stat -c '%a %U:%G' {CONFIG}")), "600 root:root", "{}", server.name);
    }
    assert_no_leftovers(lab);
    api
}

fn a_second_run_changes_nothing(lab: &Lab) {
    let pids = lab.main_pids();
    assert!(pids.values().all(|pid| *pid > 0), "{pids:?}");
    let run = lab.xgenctl(&["setup", "all", "-o", "json"]).expect(0);
    assert_eq!(run.finished()["changed"], 0, "{run}");
    for event in run.events().iter().filter(|event| event["event"] == "module_finished") {
        assert_eq!(event["outcome"], "unchanged", "{run}");
    }
    assert_eq!(lab.main_pids(), pids, "nothing may restart");
    assert_eq!(binaries_downloaded(lab), 0);
    let status = lab.xgenctl(&["status", "-o", "json"]).expect(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap_or_else(|e| panic!("{e}\n{status}"));
    assert_eq!(status["converged"], true, "{status}");
}

fn a_file_edited_by_hand_is_found_and_repaired(lab: &Lab) {
    let (worker, pids) = (lab.server("worker-1"), lab.main_pids());
    let wanted = worker.read(CONFIG);
    worker.sh(&format!("echo '{EDIT}' >>{CONFIG}"));

    let status = lab.xgenctl(&["status", "-o", "json"]).expect(4);
    let found: Value = serde_json::from_str(&status.stdout).unwrap_or_else(|e| panic!("{e}\n{status}"));
    let states: Vec<_> = found["modules"].as_array().into_iter().flatten().collect();
    let state =
        |module: &str| states.iter().find(|state| state["module"] == module).map(|state| state["state"].clone());
    assert_eq!((state("k3s"), state("agents")), (Some("converged".into()), Some("drifted".into())), "{status}");

    let shown = lab.xgenctl(&["setup", "all", "--dry-run"]).expect(0);
    assert!(shown.stdout.contains(EDIT_VALUE), "the diff shows what was changed\n{shown}");
    assert_ne!(worker.read(CONFIG), wanted, "a dry run repairs nothing");

    lab.xgenctl(&["setup", "all"]).expect(0);
    assert_eq!(worker.read(CONFIG), wanted);
    let changed: Vec<_> =
        lab.main_pids().into_iter().filter(|(name, pid)| pids[name] != *pid).map(|(name, _)| name).collect();
    assert_eq!(changed, ["worker-1"], "only the unit whose file changed restarts");
    lab.xgenctl(&["status"]).expect(0);
}

fn a_node_leaves_and_comes_back(lab: &Lab, api: &Api) {
    let (worker, pids) = (lab.server("worker-1"), lab.main_pids());
    lab.xgenctl(&["node", "remove", "worker-1", "--yes", "--keep-in-project"]).expect(0);
    api.wait_for_nodes(&[("master", true), ("worker-2", true)]);
    for path in [
        "/usr/local/bin/k3s",
        "/usr/local/bin/kubectl",
        "/etc/systemd/system/k3s-agent.service",
        "/etc/rancher",
        "/var/lib/rancher/k3s",
        "/var/lib/kubelet/*",
    ] {
        assert!(!worker.test(&format!("ls -d {path}")), "{path} is left on a removed node");
    }
    lab.xgenctl(&["status"]).expect(4);

    // Its name is taken as long as its old password is remembered: coming back proves that it was forgotten.
    lab.xgenctl(&["node", "add", "worker-1", "--yes"]).expect(0);
    api.wait_for_nodes(&NODES);
    let now = lab.main_pids();
    for name in ["master", "worker-2"] {
        assert_eq!(now[name], pids[name], "{name} is not touched when another node leaves or joins");
    }
    lab.xgenctl(&["status"]).expect(0);
}

fn one_run_excludes_another_and_a_killed_one_frees_the_lock(lab: &Lab, api: &Api) {
    let (master, worker) = (lab.server("master"), lab.server("worker-1"));
    // A unit that takes its time keeps a run busy.
    worker.write("/etc/systemd/system/k3s-agent.service.d/slow.conf", b"[Service]\nExecStartPre=/bin/sleep 15\n");
    worker.sh(&format!("systemctl daemon-reload; echo '{EDIT}' >>{CONFIG}"));
    let mut first = lab.operator.start(lab.args(&["setup", "all"]));
    let started = Instant::now();
    while worker.main_pid("k3s-agent.service") != 0 && !worker.test("pgrep -x sleep") {
        assert!(first.is_running() && started.elapsed() < Duration::from_secs(60), "the first run is not at work");
        std::thread::sleep(Duration::from_millis(100));
    }
    let second = lab.xgenctl(&["setup", "all"]).expect(5);
    let holder = master.sh("cat /run/xgenctl/holder");
    assert!(second.stderr.contains(holder.trim()), "the message names the holder {holder:?}\n{second}");
    lab.xgenctl(&["status", "-o", "json"]);

    first.kill();
    let killed = Instant::now();
    let third = loop {
        let run = lab.xgenctl(&["setup", "all", "-o", "json"]);
        if run.code != 5 {
            break run.expect(0);
        }
        assert!(killed.elapsed() < Duration::from_secs(30), "the lock of a killed run is not freed\n{run}");
        std::thread::sleep(Duration::from_millis(300));
    };
    assert_eq!(third.finished()["failed"], 0, "{third}");
    api.wait_for_nodes(&NODES);
    assert_eq!(lab.xgenctl(&["setup", "all", "-o", "json"]).expect(0).finished()["changed"], 0);
    assert_no_leftovers(lab);
}

/// Whatever the runs printed or kept: logs and caches hold neither the cluster's token nor the user's password.
fn nothing_secret_is_left_on_the_operators_machine(lab: &Lab) {
    let token = lab.server("master").sh("cat /var/lib/rancher/k3s/server/token");
    let password = token.rsplit(':').next().expect("a password in the token");
    let mut seen = 0;
    for (path, content) in files(lab.operator.home()) {
        if path.ends_with("secrets.yaml") || path.starts_with(lab.operator.home().join(".ssh")) {
            continue;
        }
        seen += 1;
        for secret in [password, USER_PASSWORD] {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a secret", path.display());
        }
    }
    assert!(seen > 1, "the runs kept logs");
}

fn files(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("its kind");
        // The cached binary is no text and a hundred times longer than everything else.
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() && entry.metadata().expect("its size").len() < 4 << 20 {
            found.push((entry.path(), fs::read(entry.path()).expect("its content")));
        }
    }
    found
}

/// How often the K3s binary was downloaded since this was last asked.
fn binaries_downloaded(lab: &Lab) -> usize {
    let requests = lab.mirror.take_requests();
    requests.iter().filter(|line| line.starts_with("GET ") && !line.ends_with(".txt")).count()
}

#[track_caller]
fn assert_no_leftovers(lab: &Lab) {
    for server in &lab.servers {
        let left =
            server.sh("find / -xdev \\( -name '*.xgenctl-tmp' -o -name '*.xgenctl-part' \\) 2>/dev/null || true");
        assert_eq!(left, "", "{}: temporary files", server.name);
    }
}
