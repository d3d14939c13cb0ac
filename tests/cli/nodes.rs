//! `node list`, `node add` and `node remove`.

use serde_json::json;

use super::json::keeps_the_contract;
use super::site::{Site, THREE};

#[test]
fn nodes_are_listed_as_a_table_and_as_json() {
    let site = Site::converged();
    let list = "\
name    role    state  version       address    in_project  labels  taints
master  server  Ready  v1.36.5+k3s1  10.0.0.10  yes         –       –
one     agent   Ready  v1.36.5+k3s1  10.0.0.11  yes         –       –
two     agent   Ready  v1.36.5+k3s1  10.0.0.12  yes         –       –
";
    assert_eq!(site.rehearse("node list").ok().complains("").stdout, list);
    let rows = site.rehearse("node list -o json").ok().value();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert_eq!(
        rows[1],
        json!({ "name": "one", "role": "agent", "state": "Ready", "version": "v1.36.5+k3s1", "address": "10.0.0.11",
                "in_project": true, "labels": {}, "taints": [] })
    );
    let empty = Site::three().rehearse("node list -o json").ok().value();
    assert!(empty.as_array().unwrap().iter().all(|row| row["state"] == "not joined" && row["version"].is_null()));
}

#[test]
fn a_removed_node_is_gone_and_can_come_back() {
    let site = Site::converged();
    let before = site.still_state();
    site.rehearse("node remove one")
        .ends_with_code(2)
        .complains("error: the removal was not confirmed\nhint: add --yes to confirm it\n");
    assert_eq!(site.still_state(), before);

    let removed = site.rehearse("node remove one --yes -o json").ok().complains("");
    keeps_the_contract(&removed);
    assert_eq!(removed.finished()["changed"], 3);
    let rows = site.rehearse("node list -o json").ok().value();
    assert_eq!(rows[1]["state"], "not joined");
    assert_eq!(site.file_on("one", "/etc/rancher/k3s/config.yaml"), None);
    assert_eq!(site.file_on("one", "/usr/local/bin/k3s"), None);
    // A rehearsal leaves the operator's files alone.
    assert_eq!(site.read("project.yaml"), THREE);
    site.rehearse("status").ends_with_code(4);

    // With the node-password of the first life this would be refused.
    let added = site.rehearse("node add one -o json").ok();
    keeps_the_contract(&added);
    site.rehearse("status").ok();
    site.rehearse("setup all").ok().says("\nNothing to do: 33 as wanted (");
}

#[test]
fn the_last_server_stays() {
    let site = Site::converged();
    let before = site.still_state();
    site.rehearse("node remove master --yes")
        .ends_with_code(1)
        .complains("error: master is the only server: removing it removes the cluster\n");
    assert_eq!(site.still_state(), before);
    site.rehearse("status").ok();
}

#[test]
fn a_node_that_is_not_there_cannot_be_removed_or_added_without_an_address() {
    let site = Site::converged();
    site.rehearse("node remove three --yes")
        .ends_with_code(2)
        .complains("error: project.yaml has no node three\nhint: its nodes are: master, one, two\n");
    site.rehearse("node add three").ends_with_code(2).complains(
        "error: project.yaml has no node three\nhint: give --host (and --user, --key, --role …) to add a new one\n",
    );
    site.rehearse("node add one --host 10.0.0.13").ends_with_code(2).complains(
        "error: project.yaml has a node one already\nhint: leave out --host to join it as project.yaml has it\n",
    );
}

#[test]
fn a_new_node_joins_with_its_labels_and_the_others_are_left_alone() {
    let site = Site::converged();
    let before = site.main_pids();
    let args = "node add three --host 10.0.0.13 --label gpu=true --taint gpu=true:NoSchedule";
    let added = site.rehearse(&format!("{args} -o json")).ok().complains("");
    keeps_the_contract(&added);
    let acted: Vec<_> = added.events().into_iter().filter(|e| e["event"] == "action_started").collect();
    assert!(!acted.is_empty() && acted.iter().all(|e| e["host"] == "three"), "{acted:?}");
    let list = site.rehearse("node list").ok();
    assert!(
        list.stdout
            .ends_with("three   agent   Ready  v1.36.5+k3s1  10.0.0.13  no          gpu=true  gpu=true:NoSchedule\n"),
        "{}",
        list.stdout
    );
    let after = site.main_pids();
    assert!(before.iter().all(|pid| after.contains(pid)), "{before:?} {after:?}");
    assert_eq!(site.read("project.yaml"), THREE);
}

#[test]
fn a_new_node_must_be_valid_before_anything_is_done() {
    let site = Site::converged();
    let before = site.still_state();
    let label = "node add three --host 10.0.0.13 --label gpu/=true";
    site.rehearse(label).ends_with_code(2).complains(
        "error: the label `gpu/` has a key that is empty
 --> ./project.yaml:6:60
  |
6 |   - { name: three, role: agent, host: 10.0.0.13, labels: { gpu/: \"true\" } }
  |                                                            ^^^^ not a valid key
  |
  = help: for example `gpu` or `example.com/gpu`
",
    );
    site.rehearse("node add three --host 10.0.0.12").ends_with_code(2).complains(
        "error: `three` and `two` are the same machine: 10.0.0.12 port 22
 --> ./project.yaml:6:39
  |
6 |   - { name: three, role: agent, host: 10.0.0.12 }
  |                                       ^^^^^^^^^ used already
  |
  = help: give each node a machine of its own
",
    );
    let label = site.rehearse("node add three --host 10.0.0.13 --label gpu").ends_with_code(2);
    assert!(
        label.stderr.starts_with("error: invalid value 'gpu' for '--label <KEY=VALUE>': write KEY=VALUE\n"),
        "{}",
        label.stderr
    );
    let two = site.rehearse("node add three --role server --host 10.0.0.13").ends_with_code(2);
    assert!(two.stderr.starts_with("error: 2 servers: etcd needs an odd number\n"), "{}", two.stderr);
    assert_eq!(site.still_state(), before);
}
