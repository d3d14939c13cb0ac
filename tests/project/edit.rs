//! Nodes put into and taken out of project.yaml: everything else in the file stays, byte for byte.

use std::collections::BTreeMap;

use xgenctl::project::edit::{EditError, add_node, remove_node};
use xgenctl::project::model::Role;
use xgenctl::project::raw::{RawNode, RawSsh};

use super::load;

fn gpu() -> RawNode {
    RawNode {
        name: "gpu-2".into(),
        role: Some(Role::Agent),
        host: Some("10.0.0.13".into()),
        labels: BTreeMap::from([("gpu".into(), "true".into())]),
        taints: vec!["gpu=true:NoSchedule".into()],
        ssh: Some(RawSsh {
            user: Some("ops".into()),
            key: Some("~/.ssh/id_ed25519".into()),
            port: Some(2222),
            password: Some("${secret:GPU}".into()),
            ..RawSsh::default()
        }),
        ..RawNode::default()
    }
}

fn small() -> RawNode {
    RawNode { name: "w9".into(), role: Some(Role::Agent), host: Some("fd00::9".into()), ..RawNode::default() }
}

const FLOW: &str = r#"# Our site.
project: { name: xgen }   # the name

nodes:   # all of them
  # control plane
  - { name: master, role: server, host: 10.0.0.10 }   # rack 1
  # worker
  - { name: worker-1, role: agent, host: 10.0.0.11 } # rack 2

  # - { name: old, role: agent, host: 10.0.0.9 }

k3s: {}   # nothing yet
"#;

const BLOCK: &str = r#"project:
    name: xgen
nodes:
# control plane
-   name: master
    role: server
    host: 10.0.0.10

# worker
-   name: worker-1   # the big one
    role: agent
    host: 10.0.0.11
    labels:
        # for the scheduler
        disk: ssd
    ssh:
    # user: root

# end of the nodes
registry: {}
"#;

#[test]
fn add_to_a_list_of_flow_maps() {
    let new = add_node(FLOW, &gpu()).unwrap();
    let line = "  - { name: gpu-2, role: agent, host: 10.0.0.13, labels: { gpu: \"true\" }, taints: [\"gpu=true:NoSchedule\"], \
                ssh: { user: ops, key: ~/.ssh/id_ed25519, port: 2222, password: \"${secret:GPU}\" } }\n";
    assert_eq!(new, FLOW.replace("# rack 2\n", &format!("# rack 2\n{line}")));
    assert_eq!(remove_node(&new, "gpu-2").unwrap(), FLOW);
}

#[test]
fn add_to_a_list_of_block_maps() {
    let new = add_node(BLOCK, &gpu()).unwrap();
    let entry = "\n-   name: gpu-2\n    role: agent\n    host: 10.0.0.13\n    labels: { gpu: \"true\" }\n    \
                 taints: [\"gpu=true:NoSchedule\"]\n    \
                 ssh: { user: ops, key: ~/.ssh/id_ed25519, port: 2222, password: \"${secret:GPU}\" }\n";
    assert_eq!(new, BLOCK.replace("    # user: root\n", &format!("    # user: root\n{entry}")));
    load(&add_node(BLOCK, &small()).unwrap()).unwrap();
}

#[test]
fn remove_from_both_styles() {
    assert_eq!(
        remove_node(FLOW, "worker-1").unwrap(),
        FLOW.replace("  - { name: worker-1, role: agent, host: 10.0.0.11 } # rack 2\n", "")
    );
    assert_eq!(
        remove_node(FLOW, "master").unwrap(),
        FLOW.replace("  - { name: master, role: server, host: 10.0.0.10 }   # rack 1\n", "")
    );
    let from = BLOCK.find("-   name: worker-1").unwrap();
    let to = BLOCK.find("\n# end of").unwrap();
    assert_eq!(remove_node(BLOCK, "worker-1").unwrap(), format!("{}{}", &BLOCK[..from], &BLOCK[to..]));
    assert_eq!(
        remove_node(BLOCK, "master").unwrap(),
        BLOCK.replace("-   name: master\n    role: server\n    host: 10.0.0.10\n", "")
    );
}

#[test]
fn line_ends_and_a_byte_order_mark_stay() {
    for text in [FLOW, BLOCK] {
        let crlf = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let expected = format!("\u{feff}{}", add_node(text, &gpu()).unwrap().replace('\n', "\r\n"));
        let new = add_node(&crlf, &gpu()).unwrap();
        assert_eq!(new, expected);
        load(&new.replace("\"${secret:GPU}\"", "~").replace("key: ~/.ssh/id_ed25519", "key: ~")).unwrap();
        let expected = format!("\u{feff}{}", remove_node(text, "worker-1").unwrap().replace('\n', "\r\n"));
        assert_eq!(remove_node(&crlf, "worker-1").unwrap(), expected);
    }
}

#[test]
fn a_last_line_without_an_end_gets_one() {
    let text = "project: { name: a }\nnodes:\n- name: m\n  host: h";
    assert_eq!(
        add_node(text, &small()).unwrap(),
        "project: { name: a }\nnodes:\n- name: m\n  host: h\n- name: w9\n  role: agent\n  host: \"fd00::9\"\n"
    );
    let text = "project: { name: a }\nnodes:\n- {name: m, host: h}\n- {name: b, role: agent, host: i}";
    assert_eq!(remove_node(text, "b").unwrap(), "project: { name: a }\nnodes:\n- {name: m, host: h}\n");
}

#[test]
fn a_flow_map_over_several_lines() {
    let text =
        "nodes:\n  - { name: m,\n      host: h }  # m\n  - { name: b,\n      host: i\n    }\nproject: { name: a }\n";
    assert_eq!(remove_node(text, "m").unwrap(), "nodes:\n  - { name: b,\n      host: i\n    }\nproject: { name: a }\n");
    assert_eq!(
        add_node(text, &small()).unwrap(),
        text.replace("    }\n", "    }\n  - { name: w9, role: agent, host: \"fd00::9\" }\n")
    );
}

fn refused(error: EditError) -> String {
    format!("{error}\n{}", error.hint.as_deref().unwrap_or_default())
}

const BY_HAND: &str = "`nodes` of project.yaml is written in a way that cannot be changed safely\n";

#[test]
fn without_nodes_it_says_what_to_write() {
    let expected = "project.yaml has no `nodes:`\nwithout `nodes:` this machine is the only server; to add a node, name both in \
                    project.yaml:\n\nnodes:\n  - { name: THIS-MACHINE, role: server, host: localhost }\n  \
                    - { name: w9, role: agent, host: \"fd00::9\" }\n";
    assert_eq!(refused(add_node("project: { name: a }\n", &small()).unwrap_err()), expected);
    assert_eq!(refused(add_node("project: { name: a }\nnodes:\n", &small()).unwrap_err()), expected);
    // The lines given do load.
    let lines = &expected[expected.find("\nnodes").unwrap()..].replace("THIS-MACHINE", "here");
    load(&format!("project: {{ name: a }}\n{lines}")).unwrap();
}

#[test]
fn what_cannot_be_changed_safely_is_left_to_a_person() {
    let lines = "add this entry to `nodes` by hand:\n\n  - { name: w9, role: agent, host: \"fd00::9\" }\n";
    let inline = "project: { name: a }\nnodes: [{ name: m, host: h }, { name: b, role: agent, host: i }]\n";
    assert_eq!(refused(add_node(inline, &small()).unwrap_err()), format!("{BY_HAND}{lines}"));
    let hand = format!("{BY_HAND}remove the entry `b` from `nodes` by hand");
    assert_eq!(refused(remove_node(inline, "b").unwrap_err()), hand);
    let nested =
        "{ project: { name: a }, nodes: [\n  { name: m, host: h },\n  { name: b, role: agent, host: i }\n] }\n";
    assert_eq!(refused(add_node(nested, &small()).unwrap_err()), format!("{BY_HAND}{lines}"));
    // Another entry needs what would go.
    let anchor = "project: { name: a }\nnodes:\n  - { name: b, host: i, ssh: &s { user: ops } }\n  - { name: c, host: j, ssh: *s }\n";
    assert_eq!(refused(remove_node(anchor, "b").unwrap_err()), hand);
}

#[test]
fn names_are_looked_at() {
    assert_eq!(refused(remove_node(FLOW, "x").unwrap_err()), "project.yaml has no node `x`\nit has: master, worker-1");
    let twice = RawNode { name: "master".into(), ..small() };
    assert_eq!(refused(add_node(FLOW, &twice).unwrap_err()), "project.yaml has a node `master` already\n");
    assert_eq!(
        refused(remove_node("project: { name: a }\nnodes:\n  - { name: m, host: h }\n", "m").unwrap_err()),
        "`m` is the only node of project.yaml\nwithout nodes this machine would be the only server; remove the whole section \
         by hand if that is meant"
    );
    assert_eq!(
        refused(add_node("nodes: [", &small()).unwrap_err()),
        "project.yaml cannot be read: not valid YAML: while parsing a node, did not find expected node content\n\
         check indentation, quotes and brackets at and above this line"
    );
}

#[test]
fn the_example_takes_and_gives_nodes() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/projects/xgen.yaml")).unwrap();
    let new = add_node(&text, &gpu()).unwrap();
    assert_eq!(remove_node(&new, "gpu-2").unwrap(), text);
    for name in ["master", "worker-1", "gpu-1"] {
        let less = remove_node(&text, name).unwrap();
        assert!(!less.contains(&format!("name: {name}")) && text.len() - less.len() < 400);
    }
}
