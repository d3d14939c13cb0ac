//! `setup` and `status` on rehearsed servers.

use std::fs::{self, File};

use super::site::Site;

/// Every character that a terminal would not show as it is.
fn control_characters(text: &str) -> String {
    text.chars().filter(|c| c.is_control() && *c != '\n').collect()
}

#[test]
fn a_checkout_with_the_example_converges_and_says_so_the_second_time() {
    let site = Site::empty();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/projects/xgen.yaml");
    site.write("projects/xgen.yaml", fs::read(example).unwrap());
    let first = site.rehearse("setup all").ok().complains("");
    assert!(first.stdout.contains("\nDone: 27 changed, 3 as wanted ("), "{}", first.stdout);
    assert_eq!(control_characters(&first.stdout), "");
    let second = site.rehearse("setup all").ok().complains("");
    assert!(second.stdout.contains("\nNothing to do: 33 as wanted ("), "{}", second.stdout);
    let status = site.rehearse("status").ok().complains("");
    assert!(status.stdout.ends_with("\nEverything is as wanted.\n"), "{}", status.stdout);
    assert_eq!(control_characters(&status.stdout), "");
    // Nothing of the operator's files is touched: a rehearsal makes up its secrets and saves none.
    let mut names: Vec<_> = fs::read_dir(site.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["projects", "r"]);
    assert_eq!(fs::read_dir(site.path("projects")).unwrap().count(), 1);
}

#[test]
fn a_second_run_restarts_nothing() {
    let site = Site::converged();
    let before = site.main_pids();
    assert_eq!(before.len(), 3, "{before:?}");
    site.rehearse("setup all").ok();
    assert_eq!(site.main_pids(), before);
}

#[test]
fn without_a_folder_a_rehearsal_begins_with_fresh_servers_each_time() {
    let site = Site::three();
    for _ in 0..2 {
        site.run("setup all --rehearse").ok().says("\nDone: 27 changed, 3 as wanted (");
    }
    site.run("status --rehearse").ends_with_code(4).says("2 of 2 modules not as wanted.");
    // In front of the command too, where a value would be taken for the command.
    site.run("--rehearse setup k3s --dry-run").ok();
    let names: Vec<_> = fs::read_dir(site.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["project.yaml"]);
}

#[test]
fn only_one_rehearsal_uses_a_folder() {
    let site = Site::converged();
    let lock = File::create(site.path("r/lock")).unwrap();
    lock.lock().unwrap();
    site.rehearse("setup all").ends_with_code(2).complains(
        "error: the rehearsal cannot begin
  caused by: r: another rehearsal uses this folder
hint: wait for it to end, or give another folder to `--rehearse=DIR`
",
    );
    lock.unlock().unwrap();
    site.rehearse("status").ok();
}

#[test]
fn a_state_that_cannot_be_understood_is_an_error_and_stays_as_it_is() {
    let site = Site::three();
    let cases = [
        ("{\"format\":1,\n", "not the state of a rehearsal: EOF while parsing a value at line 2 column 0"),
        ("nonsense", "not the state of a rehearsal: expected ident at line 1 column 2"),
        (
            "{\"format\":1,\"state\":{\"hosts\":7}}",
            "not the state of a rehearsal: invalid type: integer `7`, expected a map at line 1 column 30",
        ),
        ("{\"format\":7,\"state\":{}}", "the state has format 7, but this version of xgenctl reads format 1"),
    ];
    for (text, reason) in cases {
        site.write("r/state.json", text);
        site.rehearse("setup all").ends_with_code(2).complains(&format!(
            "error: the rehearsal cannot begin
  caused by: r/state.json: {reason}
hint: remove r/state.json to rehearse from fresh servers, or give another folder to `--rehearse=DIR`
"
        ));
        assert_eq!(site.read("r/state.json"), text);
    }
    site.write("file", "");
    let output = site.run("status --rehearse=file").ends_with_code(2);
    assert!(output.stderr.starts_with("error: the rehearsal cannot begin\n  caused by: file: "), "{}", output.stderr);
    assert!(
        output.stderr.ends_with("\nhint: give `--rehearse=DIR` a folder that you may write\n"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_dry_run_tells_everything_and_touches_nothing() {
    let site = Site::three();
    site.rehearse("status").ends_with_code(4);
    let before = site.still_state();
    let dry = site.rehearse("setup all --dry-run").ok().complains("");
    assert!(dry.stdout.contains("\n30 actions; nothing was changed ("), "{}", dry.stdout);
    for part in [
        "    master  install K3s v1.36.5+k3s1 (k3s)  (missing)\n",
        "      +++ /etc/rancher/k3s/config.yaml\n",
        "      +node-name: one\n",
        "    two  wait until node two is Ready  (follows from another change)\n",
    ] {
        assert!(dry.stdout.contains(part), "{part} in {}", dry.stdout);
    }
    site.rehearse("setup all --dry-run --exit-code").ends_with_code(4);
    site.rehearse("setup agents --dry-run").ok().says("20 actions; nothing was changed (");
    assert_eq!(site.still_state(), before);

    let site = Site::converged();
    let before = site.still_state();
    site.rehearse("setup all --dry-run --exit-code").ok().says("\nNothing to do: 33 as wanted (");
    // To force is to act, so there is something to do.
    site.rehearse("setup all --dry-run --exit-code --force").ends_with_code(4);
    assert_eq!(site.still_state(), before);
}

#[test]
fn force_acts_on_one_module_and_asks_before_it_acts_on_all() {
    let site = Site::converged();
    let before = site.main_pids();
    let forced = site.rehearse("setup agents --force -o json").ok().complains("");
    let touched: Vec<_> = forced.events().into_iter().filter(|e| e["event"] == "action_started").collect();
    assert!(!touched.is_empty() && touched.iter().all(|e| e["module"] == "agents"), "{touched:?}");
    let pids = site.main_pids();
    assert_eq!(pids.iter().find(|p| p.0 == "master/k3s.service"), before.iter().find(|p| p.0 == "master/k3s.service"));
    assert_ne!(pids, before);
    // Forced, but the same afterwards.
    site.rehearse("status").ok();

    let state = site.still_state();
    site.rehearse("setup all --force")
        .ends_with_code(2)
        .complains("error: `setup all --force` was not confirmed\nhint: add --yes to confirm it\n");
    assert_eq!(site.still_state(), state);
    let all = site.rehearse("setup all --force --yes").ok();
    assert!(all.stdout.contains("[master] k3s: done: restart k3s.service ("), "{}", all.stdout);
    site.rehearse("status").ok();
}

#[test]
fn modules_can_be_chosen_left_out_and_run_one_after_another() {
    let site = Site::three();
    let first = site.rehearse("setup all --skip agents --jobs 1 -o json").ok();
    assert_eq!(first.events()[0]["modules"], serde_json::json!(["k3s"]));
    let rest = site.rehearse("setup all --from agents --jobs 1 -o json").ok();
    assert_eq!(rest.events()[0]["modules"], serde_json::json!(["agents"]));
    site.rehearse("status agents").ok();
    site.rehearse("setup k3s agents").ok().says("\nNothing to do: 33 as wanted (");

    let strictly = Site::three().rehearse("setup all --jobs 1 -o json").ok();
    assert_eq!(strictly.finished()["changed"], 27);
}

#[test]
fn an_unknown_module_is_told_with_the_nearest_one() {
    let site = Site::three();
    let unknown = "error: unknown module `agnts`, did you mean `agents`?; the modules are: k3s, agents\n";
    for args in ["setup agnts", "setup all --from agnts", "setup all --skip agnts", "status agnts"] {
        site.rehearse(args).ends_with_code(2).complains(unknown);
    }
    let far = "error: unknown module `gitlab`; the modules are: k3s, agents\n";
    site.rehearse("setup k3s gitlab").ends_with_code(2).complains(far);
    assert!(!site.home().join(".local/state/xgenctl/runs").exists(), "no run began");
}

#[test]
fn agents_before_servers_is_refused_with_what_to_do() {
    let site = Site::three();
    let output = site.rehearse("setup agents").ends_with_code(1).complains("");
    let (_, end) = output.stdout.split_once("✘ agents").unwrap();
    let end: String = end.lines().map(|line| line.split(" (").next().unwrap().to_owned() + "\n").collect();
    assert!(
        end.ends_with(
            "
  agents need a server to join, and there is none yet: run `xgenctl setup k3s` first
Failed: 0 changed, 0 as wanted
Remove the cause and run the same command again: it goes on from what it finds.
Everything that happened: xgenctl runs show RUN
"
        ),
        "{end}"
    );
    assert_eq!(site.file_on("one", "/usr/local/bin/k3s"), None);
}

#[test]
fn three_servers_join_one_after_another() {
    let site = Site::new(
        "project: { name: shop }
nodes:
  - { name: a, role: server, host: 10.0.0.10 }
  - { name: b, role: server, host: 10.0.0.11 }
  - { name: c, role: server, host: 10.0.0.12 }
  - { name: d, role: agent, host: 10.0.0.13 }
",
    );
    let events = site.rehearse("setup all -o json").ok().events();
    let position = |event: &str, host: &str, what: &str| {
        let id = format!("k3s/{host}/{what}");
        events.iter().position(|e| e["event"] == event && e["id"] == id.as_str()).unwrap_or_else(|| panic!("{id}"))
    };
    for (before, after) in [("a", "b"), ("b", "c")] {
        let ready = position("action_finished", before, "ready");
        let started = position("action_started", after, "put:/etc/rancher/k3s/config.yaml");
        assert!(ready < started, "{before} {ready} {after} {started}");
    }
    site.rehearse("status").ok();
    site.rehearse("setup all").ok().says("\nNothing to do: ");
}
