//! Plans of K3s nodes from observations, without any host.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::agents::{Agents, AgentsSeen};
use super::servers::{Servers, ServersSeen};
use super::{labels, layout};
use crate::cluster::{NodeSeen, NodesSeen};
use crate::engine::{Intent, Module, ModuleState, Operation, Plan};
use crate::host::{Facts, FileKind, FileSeen, HostSeen, UnitSeen};
use crate::project::{Mode, Node, Project, Role, SecretsStore, Taint};
use crate::secret::{Redactor, Secret};

const ACT: Intent = Intent { force: false, act: true, wait_for_manual: false };
const SHOW: Intent = Intent { force: false, act: false, wait_for_manual: false };
const FORCE: Intent = Intent { force: true, act: true, wait_for_manual: false };

fn project(nodes: &str, more: &str) -> Project {
    let redactor = Redactor::default();
    let mut secrets = SecretsStore::open(None, BTreeMap::new(), Mode::Rehearsal, &redactor).unwrap();
    let text = format!("project: {{ name: site }}\ndomain: site.example\nnodes:\n{nodes}\n{more}\n");
    Project::parse(Path::new("project.yaml"), &text, &mut secrets, &redactor, Mode::Rehearsal)
        .unwrap_or_else(|e| panic!("{}", e.render()))
}

const THREE: &str = "  - { name: master, role: server, host: 10.0.0.10 }
  - { name: a1, role: agent, host: 10.0.0.11, labels: { disk: ssd } }
  - { name: a2, role: agent, host: 10.0.0.12 }";

fn blank(project: &Project, name: &str) -> (Node, HostSeen) {
    let node = project.nodes.iter().find(|n| n.display_name() == name).unwrap().clone();
    let address = match &node.access {
        crate::project::Access::Ssh(ssh) => ssh.host.parse().ok(),
        _ => None,
    };
    let facts = Facts {
        hostname: name.into(),
        arch: "x86_64".into(),
        addresses: address.into_iter().collect(),
        default_address: address,
        ..Facts::default()
    };
    (node, HostSeen { facts, ..HostSeen::default() })
}

fn file(content: &[u8], mode: u32) -> FileSeen {
    FileSeen {
        kind: FileKind::File,
        mode,
        owner: "root".into(),
        group: "root".into(),
        size: content.len() as u64,
        content: Some(content.to_vec()),
        target: None,
    }
}

fn running() -> UnitSeen {
    UnitSeen { active: "active".into(), enabled: "enabled".into(), main_pid: 42, ..UnitSeen::default() }
}

fn ready(labels: &[(&str, &str)]) -> NodeSeen {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    NodeSeen { ready: true, version: "v1.36.5+k3s1".into(), labels, ..NodeSeen::default() }
}

/// What a host looks like after a plan was carried out there, as a real one would.
fn carried_out(plan: &Plan, host: &str, role: Role, seen: &HostSeen) -> HostSeen {
    let mut seen = seen.clone();
    for action in plan.actions().filter(|a| a.host.as_deref() == Some(host)) {
        match &action.operation {
            Operation::PutFile { path, mode, content, .. } => {
                seen.files.insert(path.clone(), file(&content.0, *mode));
            }
            Operation::InstallArtifact { path, artifact, .. } => {
                seen.versions.insert(path.clone(), format!("k3s version {} (abc)", artifact.version));
            }
            Operation::Link { path, target } => {
                let link = FileSeen { kind: FileKind::Link, target: Some(target.clone()), ..file(b"", 0o777) };
                seen.files.insert(path.clone(), link);
            }
            Operation::RunUnit { unit, .. } => {
                seen.units.insert(unit.clone(), running());
                if role == Role::Server {
                    for (path, text) in [
                        (layout::SERVER_TOKEN, "K10aa::server:token-of-the-cluster\n"),
                        (layout::NODE_TOKEN, "K10aa::server:token-of-the-cluster\n"),
                    ] {
                        seen.files.insert(path.into(), file(text.as_bytes(), 0o600));
                    }
                }
            }
            _ => {}
        }
    }
    seen
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.actions()
        .map(|a| {
            let host = a.host.as_deref().unwrap_or("cluster");
            format!("{host}: {} ({:?}, {:?})", a.summary, a.reason, a.disruption).to_lowercase()
        })
        .collect()
}

fn servers_seen(hosts: Vec<(Node, HostSeen)>, nodes: NodesSeen) -> ServersSeen {
    let hosts = hosts.into_iter().map(|(n, h)| (n, Arc::new(h))).collect();
    ServersSeen { hosts, nodes, fresh_token: Secret::new("token-of-the-cluster") }
}

fn nodes(seen: &[(&str, NodeSeen)]) -> NodesSeen {
    NodesSeen::Seen(seen.iter().map(|(n, s)| ((*n).to_owned(), s.clone())).collect())
}

/// One server, installed by xgenctl and healthy.
fn installed(project: &Project) -> (Node, HostSeen) {
    let (node, host) = blank(project, "master");
    let plan = Servers.plan(project, &servers_seen(vec![(node.clone(), host.clone())], NodesSeen::NoCluster), ACT);
    let host = carried_out(&plan, "master", Role::Server, &host);
    (node, host)
}

#[test]
fn a_blank_server_gets_everything_and_then_nothing() {
    let project = project(THREE, "");
    let (node, host) = blank(&project, "master");
    let seen = servers_seen(vec![(node.clone(), host.clone())], NodesSeen::NoCluster);
    let plan = Servers.plan(&project, &seen, ACT);
    assert_eq!(
        lines(&plan),
        [
            "master: install k3s v1.36.5+k3s1 (k3s) (missing, none)",
            "master: write /etc/rancher/k3s/config.yaml (missing, none)",
            "master: write /etc/systemd/system/k3s.service (missing, none)",
            "master: write /usr/local/bin/k3s-killall.sh (missing, none)",
            "master: write /usr/local/bin/k3s-uninstall.sh (missing, none)",
            "master: link /usr/local/bin/kubectl to k3s (missing, none)",
            "master: link /usr/local/bin/crictl to k3s (missing, none)",
            "master: link /usr/local/bin/ctr to k3s (missing, none)",
            "master: start k3s.service (missing, none)",
            "master: wait until node master is ready (required, none)",
        ]
    );
    assert_eq!(Servers.status(&project, &seen, &plan).state, ModuleState::Absent);

    let (node, host) = installed(&project);
    let seen = servers_seen(vec![(node, host)], nodes(&[("master", ready(&[]))]));
    let plan = Servers.plan(&project, &seen, ACT);
    assert_eq!(lines(&plan), Vec::<String>::new());
    assert_eq!(Servers.status(&project, &seen, &plan).state, ModuleState::Converged);
}

#[test]
fn the_configuration_of_a_server_holds_what_project_yaml_says() {
    let project = project(
        "  - { name: master, role: server, host: 10.0.0.10, address: 192.168.7.1, labels: { a: b } }",
        "k3s: { config: { tls-san: [api.site.example], kube-apiserver-arg: [\"v=2\"] } }",
    );
    let (_, host) = installed(&project);
    let config = String::from_utf8(host.files[layout::CONFIG].content.clone().unwrap()).unwrap();
    assert_eq!(
        config,
        "# Managed by xgenctl: change project.yaml (k3s.config or the node's config) instead.
disable:
- servicelb
- traefik
kube-apiserver-arg:
- v=2
node-ip: 192.168.7.1
node-label:
- a=b
node-name: master
tls-san:
- 10.0.0.10
- 192.168.7.1
- api.site.example
token: token-of-the-cluster
write-kubeconfig-mode: '0600'
"
    );
}

#[test]
fn a_hand_edited_configuration_is_shown_as_a_diff_and_repaired_with_a_restart() {
    let project = project(THREE, "");
    let (node, mut host) = installed(&project);
    let config = host.files.get_mut(layout::CONFIG).unwrap();
    let text = String::from_utf8(config.content.clone().unwrap()).unwrap();
    config.content = Some(text.replace("- traefik\n", "").into_bytes());
    let seen = servers_seen(vec![(node, host)], nodes(&[("master", ready(&[]))]));
    let plan = Servers.plan(&project, &seen, ACT);
    assert_eq!(
        lines(&plan),
        [
            "master: write /etc/rancher/k3s/config.yaml (drifted, none)",
            "master: restart k3s.service (required, restart)",
            "master: wait until node master is ready (required, none)",
        ]
    );
    let diff = plan.actions().next().unwrap().diff.clone().unwrap();
    assert!(diff.contains("+- traefik\n"), "{diff}");
    assert_eq!(Servers.status(&project, &seen, &plan).state, ModuleState::Drifted);
}

#[test]
fn order_comments_and_quotes_are_no_difference() {
    let project = project(THREE, "");
    let (node, mut host) = installed(&project);
    let config = host.files.get_mut(layout::CONFIG).unwrap();
    config.content = Some(
        b"# by hand\nwrite-kubeconfig-mode: \"0600\"\ntoken: K10aa::server:token-of-the-cluster\ntls-san: 10.0.0.10\n\
          node-name: master\nnode-ip: 10.0.0.10\ndisable: [traefik, servicelb]\n"
            .to_vec(),
    );
    let seen = servers_seen(vec![(node, host)], nodes(&[("master", ready(&[]))]));
    assert_eq!(lines(&Servers.plan(&project, &seen, ACT)), Vec::<String>::new());
}

#[test]
fn a_file_that_others_can_read_is_mended_without_a_restart() {
    let project = project(THREE, "");
    let (node, mut host) = installed(&project);
    host.files.get_mut(layout::CONFIG).unwrap().mode = 0o644;
    let seen = servers_seen(vec![(node, host)], nodes(&[("master", ready(&[]))]));
    assert_eq!(
        lines(&Servers.plan(&project, &seen, ACT)),
        ["master: write /etc/rancher/k3s/config.yaml (drifted, none)"]
    );
}

#[test]
fn a_restart_that_an_interrupted_run_owes_is_made_up_for() {
    let project = project(THREE, "");
    let (node, mut host) = installed(&project);
    host.units.get_mut(layout::SERVER_UNIT).unwrap().restart_pending = true;
    let seen = servers_seen(vec![(node, host)], nodes(&[("master", ready(&[]))]));
    assert_eq!(
        lines(&Servers.plan(&project, &seen, ACT)),
        [
            "master: restart k3s.service (interrupted, restart)",
            "master: wait until node master is ready (required, none)"
        ]
    );
}

#[test]
fn a_stopped_unit_is_started_and_is_unhealthy_until_then() {
    let project = project(THREE, "");
    let (node, mut host) = installed(&project);
    host.units.get_mut(layout::SERVER_UNIT).unwrap().active = "failed".into();
    let seen = servers_seen(vec![(node, host)], NodesSeen::NoCluster);
    let plan = Servers.plan(&project, &seen, SHOW);
    assert_eq!(
        lines(&plan),
        ["master: start k3s.service (drifted, none)", "master: wait until node master is ready (required, none)"]
    );
    assert_eq!(Servers.status(&project, &seen, &plan).state, ModuleState::Unhealthy);
}

#[test]
fn another_version_is_told_and_left_alone() {
    let project = project(THREE, "");
    let (node, mut host) = installed(&project);
    host.versions.insert(layout::BINARY.into(), "k3s version v1.35.1+k3s1 (abc)".into());
    let seen = servers_seen(vec![(node, host)], nodes(&[("master", ready(&[]))]));
    let plan = Servers.plan(&project, &seen, ACT);
    assert_eq!(lines(&plan), Vec::<String>::new());
    assert_eq!(
        plan.notices,
        [
            "master runs K3s v1.35.1+k3s1, project.yaml wants v1.36.5+k3s1: `setup` does not change the version of a node"
        ]
    );
    assert_eq!(Servers.status(&project, &seen, &plan).state, ModuleState::Drifted);
}

#[test]
fn force_acts_on_what_is_as_wanted() {
    let project = project(THREE, "");
    let (node, host) = installed(&project);
    let seen = servers_seen(vec![(node, host)], nodes(&[("master", ready(&[]))]));
    let plan = lines(&Servers.plan(&project, &seen, FORCE));
    assert!(plan.contains(&"master: install k3s v1.36.5+k3s1 (k3s) (forced, none)".to_owned()), "{plan:?}");
    assert!(plan.contains(&"master: restart k3s.service (forced, restart)".to_owned()), "{plan:?}");
}

const INSTALLERS_UNIT: &str = "[Unit]
Description=Lightweight Kubernetes
[Service]
Type=notify
EnvironmentFile=-/etc/systemd/system/k3s.service.env
ExecStart=/usr/local/bin/k3s \\
    server \\
\t'--disable' \\
\t'traefik' \\
\t'--disable=servicelb' \\
\t'--write-kubeconfig-mode' '0644' \\

";

fn by_installer(project: &Project, unit: &str) -> ServersSeen {
    let (node, mut host) = blank(project, "master");
    host.versions.insert(layout::BINARY.into(), "k3s version v1.36.5+k3s1 (abc)".into());
    host.units.insert(layout::SERVER_UNIT.into(), running());
    host.files.insert("/etc/systemd/system/k3s.service".into(), file(unit.as_bytes(), 0o644));
    host.files.insert("/etc/systemd/system/k3s.service.env".into(), file(b"K3S_TOKEN=chosen-by-hand\n", 0o600));
    host.files.insert(layout::SERVER_TOKEN.into(), file(b"K10bb::server:chosen-by-hand\n", 0o600));
    servers_seen(vec![(node, host)], nodes(&[("master", ready(&[]))]))
}

#[test]
fn a_k3s_that_the_installer_left_is_taken_as_it_is() {
    let project = project(THREE, "");
    let seen = by_installer(&project, INSTALLERS_UNIT);
    let plan = Servers.plan(&project, &seen, ACT);
    assert_eq!(lines(&plan), Vec::<String>::new());
    assert_eq!(plan.notices, Vec::<String>::new());
    assert_eq!(Servers.status(&project, &seen, &plan).state, ModuleState::Converged);
}

#[test]
fn a_k3s_that_lacks_something_is_taken_over_with_all_it_had() {
    let project = project(THREE, "k3s: { config: { secrets-encryption: true } }");
    let seen =
        by_installer(&project, &INSTALLERS_UNIT.replace("'--disable=servicelb'", "'--cluster-cidr' '10.52.0.0/16'"));
    let plan = Servers.plan(&project, &seen, ACT);
    assert_eq!(
        plan.notices,
        [
            "master: taking over K3s: disable is [\"traefik\"], project.yaml wants [\"servicelb\",\"traefik\"]",
            "master: taking over K3s: secrets-encryption is not set, project.yaml wants true",
        ]
    );
    let Some(Operation::PutFile { content, .. }) = plan
        .actions()
        .map(|a| &a.operation)
        .find(|o| matches!(o, Operation::PutFile { path, .. } if path == layout::CONFIG))
    else {
        panic!("no configuration in {:?}", lines(&plan))
    };
    let text = String::from_utf8(content.0.clone()).unwrap();
    for line in ["cluster-cidr: 10.52.0.0/16", "- servicelb", "- traefik", "secrets-encryption: true", "token: "] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_k3s_under_another_node_name_is_refused_not_registered_twice() {
    let project = project("  - { name: other, role: server, host: 10.0.0.10 }", "");
    let (node, mut host) = blank(&project, "other");
    host.facts.hostname = "ip-10-0-0-10".into();
    host.units.insert(layout::SERVER_UNIT.into(), running());
    host.files.insert("/etc/systemd/system/k3s.service".into(), file(INSTALLERS_UNIT.as_bytes(), 0o644));
    let plan = Servers.plan(&project, &servers_seen(vec![(node, host)], NodesSeen::NoCluster), ACT);
    assert_eq!(
        plan.refusals,
        ["the K3s on other is registered as node ip-10-0-0-10: give the node that name in project.yaml"]
    );
}

#[test]
fn three_servers_start_one_at_a_time_and_the_first_begins_the_etcd() {
    let project = project(
        "  - { name: s1, role: server, host: 10.0.0.1 }
  - { name: s2, role: server, host: 10.0.0.2 }
  - { name: s3, role: server, host: 10.0.0.3 }",
        "",
    );
    let hosts: Vec<_> = ["s1", "s2", "s3"].map(|n| blank(&project, n)).into();
    let plan = Servers.plan(&project, &servers_seen(hosts.clone(), NodesSeen::NoCluster), ACT);
    let hosts_of: Vec<Vec<_>> =
        plan.stages.iter().map(|s| s.lanes.iter().map(|l| l[0].host.clone().unwrap()).collect()).collect();
    assert_eq!(hosts_of, [vec!["s1", "s2", "s3"], vec!["s1"], vec!["s2"], vec!["s3"]]);
    let after: Vec<_> =
        hosts.iter().map(|(n, h)| (n.clone(), carried_out(&plan, n.display_name(), Role::Server, h))).collect();
    let text = |i: usize| String::from_utf8(after[i].1.files[layout::CONFIG].content.clone().unwrap()).unwrap();
    assert!(text(0).contains("cluster-init: true") && !text(0).contains("server:"), "{}", text(0));
    assert!(text(1).contains("server: https://10.0.0.1:6443") && !text(1).contains("cluster-init"), "{}", text(1));
    let all = nodes(&[("s1", ready(&[])), ("s2", ready(&[])), ("s3", ready(&[]))]);
    assert_eq!(lines(&Servers.plan(&project, &servers_seen(after.clone(), all), ACT)), Vec::<String>::new());

    // The first server was lost and made again: it joins the others, which stay as they are.
    let mut again = after;
    again[0].1 = hosts[0].1.clone();
    let two = nodes(&[("s2", ready(&[])), ("s3", ready(&[]))]);
    let plan = Servers.plan(&project, &servers_seen(again, two), ACT);
    assert!(plan.actions().all(|a| a.host.as_deref() == Some("s1")), "{:?}", lines(&plan));
    let fresh = carried_out(&plan, "s1", Role::Server, &hosts[0].1);
    let text = String::from_utf8(fresh.files[layout::CONFIG].content.clone().unwrap()).unwrap();
    assert!(text.contains("server: https://10.0.0.2:6443") && !text.contains("cluster-init"), "{text}");
}

fn agents_seen(server: (Node, HostSeen), agents: Vec<(Node, HostSeen)>, nodes: NodesSeen) -> AgentsSeen {
    AgentsSeen {
        servers: vec![(server.0, Arc::new(server.1))],
        hosts: agents.into_iter().map(|(n, h)| (n, Arc::new(h))).collect(),
        nodes,
    }
}

#[test]
fn agents_join_side_by_side_and_are_left_alone_after_that() {
    let project = project(THREE, "");
    let agents = vec![blank(&project, "a1"), blank(&project, "a2")];
    let master = nodes(&[("master", ready(&[]))]);
    let plan = Agents.plan(&project, &agents_seen(installed(&project), agents.clone(), master), ACT);
    assert_eq!(plan.stages.len(), 1);
    assert_eq!(plan.stages[0].lanes.len(), 2);
    let after: Vec<_> =
        agents.iter().map(|(n, h)| (n.clone(), carried_out(&plan, n.display_name(), Role::Agent, h))).collect();
    let text = String::from_utf8(after[0].1.files[layout::CONFIG].content.clone().unwrap()).unwrap();
    assert!(text.contains("server: https://10.0.0.10:6443\ntoken: K10aa::server:token-of-the-cluster"), "{text}");
    assert!(!text.contains("disable"), "{text}");
    let all = nodes(&[("master", ready(&[])), ("a1", ready(&[("disk", "ssd")])), ("a2", ready(&[]))]);
    let seen = agents_seen(installed(&project), after, all);
    let plan = Agents.plan(&project, &seen, ACT);
    assert_eq!(lines(&plan), Vec::<String>::new());
    assert_eq!(Agents.status(&project, &seen, &plan).state, ModuleState::Converged);
}

#[test]
fn an_agent_joins_with_the_version_that_the_cluster_runs() {
    let project = project(THREE, "");
    let (server, mut host) = installed(&project);
    host.versions.insert(layout::BINARY.into(), "k3s version v1.35.1+k3s1 (abc)".into());
    let seen = agents_seen((server, host), vec![blank(&project, "a2")], nodes(&[("master", ready(&[]))]));
    let plan = Agents.plan(&project, &seen, ACT);
    assert_eq!(lines(&plan)[0], "a2: install k3s v1.35.1+k3s1 (k3s) (missing, none)");
    assert_eq!(plan.notices, ["a2 joins with K3s v1.35.1+k3s1, which the cluster runs, not with v1.36.5+k3s1"]);
}

#[test]
fn agents_without_a_server_are_shown_but_not_begun() {
    let project = project(THREE, "");
    let seen = agents_seen(blank(&project, "master"), vec![blank(&project, "a1")], NodesSeen::NoCluster);
    assert!(!Agents.plan(&project, &seen, SHOW).is_empty());
    let plan = Agents.plan(&project, &seen, ACT);
    assert!(plan.is_empty());
    assert_eq!(plan.refusals, ["agents need a server to join, and there is none yet: run `xgenctl setup k3s` first"]);
}

#[test]
fn an_agent_that_is_a_server_now_is_refused() {
    let project = project(THREE, "");
    let (node, mut host) = blank(&project, "a1");
    host.units.insert(layout::SERVER_UNIT.into(), running());
    let seen = agents_seen(installed(&project), vec![(node, host)], nodes(&[("master", ready(&[]))]));
    assert_eq!(
        Agents.plan(&project, &seen, ACT).refusals,
        [
            "a1 has the unit k3s.service, but project.yaml makes it an agent: remove the node first (`xgenctl node remove a1`)"
        ]
    );
}

#[test]
fn a_node_joined_by_hand_is_explained_waited_for_and_accepted() {
    let project = project(
        "  - { name: master, role: server, host: 10.0.0.10 }
  - { name: far, role: agent, join: manual }",
        "",
    );
    let seen = |nodes| agents_seen(installed(&project), Vec::new(), nodes);
    let missing = seen(nodes(&[("master", ready(&[]))]));
    let plan = Agents.plan(&project, &missing, ACT);
    assert!(plan.is_empty());
    assert!(plan.notices[0].contains("K3S_URL=https://10.0.0.10:6443"), "{:?}", plan.notices);
    assert!(!plan.notices[0].contains("token-of-the-cluster"));
    assert_eq!(Agents.status(&project, &missing, &plan).state, ModuleState::Absent);
    let wait = Agents.plan(&project, &missing, Intent { wait_for_manual: true, ..ACT });
    assert!(wait.actions().next().unwrap().is_wait());
    let there = seen(nodes(&[("master", ready(&[])), ("far", ready(&[]))]));
    let plan = Agents.plan(&project, &there, ACT);
    assert!(plan.is_empty() && plan.notices.is_empty());
    assert_eq!(Agents.status(&project, &there, &plan).state, ModuleState::Converged);
}

#[test]
fn labels_and_taints_change_without_a_restart_and_those_of_others_stay() {
    let project = project(
        "  - { name: master, role: server, host: 10.0.0.10, labels: { zone: b }, taints: [\"gpu=true:NoSchedule\"] }",
        "",
    );
    let node = &project.nodes[0];
    let taint = |key: &str, value: &str| Taint { key: key.into(), value: value.into(), effect: "NoSchedule".into() };
    let mut seen = ready(&[("zone", "a"), ("old", "1"), ("other", "x")]);
    seen.taints = vec![taint("theirs", ""), taint("gpu", "false"), taint("old", "")];
    let previous = super::config::parse("node-label: [zone=a, old=1]\nnode-taint: ['old:NoSchedule']\n").unwrap();
    let changes = labels::changes(node, &Default::default(), &previous, &seen);
    assert_eq!(changes.labels["zone"], Some("b".into()));
    assert_eq!(changes.labels["old"], None);
    assert_eq!(changes.labels.len(), 2);
    assert_eq!(changes.taints, Some(vec![taint("gpu", "true"), taint("theirs", "")]));

    let (_, mut host) = installed(&project);
    let config = host.files.get_mut(layout::CONFIG).unwrap();
    let text = String::from_utf8(config.content.clone().unwrap()).unwrap();
    config.content = Some(text.replace("zone=b", "zone=a").into_bytes());
    let mut registered = ready(&[("zone", "a")]);
    registered.taints = vec![taint("gpu", "true")];
    let seen = servers_seen(vec![(node.clone(), host)], nodes(&[("master", registered)]));
    assert_eq!(
        lines(&Servers.plan(&project, &seen, ACT)),
        [
            "master: set on node master: label zone=b (drifted, none)",
            "master: write /etc/rancher/k3s/config.yaml (drifted, none)",
        ]
    );
}

#[test]
fn a_proxy_goes_into_the_units_environment_and_leaves_the_cluster_out() {
    let project = project(THREE, "proxy: { http: \"http://proxy.example:3128\", noProxy: [.corp.example] }");
    let (_, host) = installed(&project);
    let env = host.files["/etc/systemd/system/k3s.service.env"].clone();
    assert_eq!(env.mode, 0o600);
    assert_eq!(
        String::from_utf8(env.content.unwrap()).unwrap(),
        "# Managed by xgenctl: change `proxy` in project.yaml instead.
HTTP_PROXY=http://proxy.example:3128
NO_PROXY=127.0.0.0/8,localhost,.svc,.cluster.local,10.42.0.0/16,10.43.0.0/16,10.0.0.10,10.0.0.11,10.0.0.12,.corp.example
"
    );
}
