//! Module `agents`: the nodes that only run workloads. All of them join at once.

use std::sync::Arc;

use async_trait::async_trait;

use super::config::{self, Join, strings};
use super::layout::{self, CONFIG};
use super::node::{self, Input};
use super::{READY_TIMEOUT_SECS, labels, report, servers};
use crate::cluster::NodesSeen;
use crate::engine::{
    Action, Disruption, Intent, Module, ModuleStatus, Operation, Plan, Reason, Stage, StepError, World,
};
use crate::host::{HostSeen, Interest};
use crate::project::{Access, Node, Project, Role};

/// The agents of the cluster.
pub struct Agents;

/// What was seen of the agents and of the servers they join.
pub struct AgentsSeen {
    /// The servers.
    pub servers: Vec<(Node, Arc<HostSeen>)>,
    /// Each agent that can be reached, and its host.
    pub hosts: Vec<(Node, Arc<HostSeen>)>,
    /// What the API says.
    pub nodes: NodesSeen,
}

impl Agents {
    /// How an agent joins: the cluster's token, and the server it joined before as long as that is one of ours.
    fn join(seen: &AgentsSeen, host: &HostSeen) -> Join {
        let urls: Vec<String> = seen.servers.iter().filter_map(|(n, h)| servers::server_url(n, h)).collect();
        let present = host.files.get(CONFIG).and_then(|f| f.content.as_ref());
        let present = present.and_then(|c| config::parse(&String::from_utf8_lossy(c))).unwrap_or_default();
        let kept = strings(present.get("server")).pop().filter(|url| urls.contains(url));
        let anchor = servers::anchor(&seen.servers).and_then(|(n, h)| servers::server_url(n, h));
        Join {
            token: servers::existing_token(&seen.servers, Role::Agent),
            server: kept.or(anchor),
            cluster_init: false,
        }
    }
}

#[async_trait]
impl Module for Agents {
    type Seen = AgentsSeen;

    fn name(&self) -> &'static str {
        "agents"
    }

    fn about(&self) -> &'static str {
        "K3s agents: the nodes that run workloads"
    }

    fn requires(&self) -> &'static [&'static str] {
        &["k3s"]
    }

    fn interests(&self, _project: &Project, node: &Node) -> Vec<Interest> {
        layout::interests(node.role)
    }

    async fn observe(&self, world: &World) -> Result<AgentsSeen, StepError> {
        let agents: Vec<Node> = world.reachable().filter(|n| n.role == Role::Agent).cloned().collect();
        // Servers and agents are looked at side by side.
        let (servers, surveyed) = tokio::join!(servers::see_servers(world), world.survey_all(&agents));
        let mut hosts = Vec::new();
        for (node, seen) in surveyed {
            let seen = seen?;
            servers::learn_tokens(world, node, &seen);
            hosts.push((node.clone(), seen));
        }
        Ok(AgentsSeen { servers: servers?, hosts, nodes: world.nodes().await? })
    }

    fn plan(&self, project: &Project, seen: &AgentsSeen, intent: Intent) -> Plan {
        let mut plan = Plan::default();
        let mut stage = Stage::default();
        for (node, host) in &seen.hosts {
            let join = Self::join(seen, host);
            if join.token.is_none() && intent.act {
                plan.refusals =
                    vec!["agents need a server to join, and there is none yet: run `xgenctl setup k3s` first".into()];
                return plan;
            }
            let mut node = node::plan(&Input {
                project,
                node,
                seen: host,
                nodes: &seen.nodes,
                join,
                cluster_version: servers::cluster_version(&seen.servers),
                intent,
            });
            plan.unchanged.append(&mut node.unchanged);
            plan.notices.append(&mut node.notices);
            plan.refusals.append(&mut node.refusals);
            let lane: Vec<Action> = node.fetch.into_iter().chain(node.configure).collect();
            if !lane.is_empty() {
                stage.lanes.push(lane);
            }
        }
        for node in project.nodes.iter().filter(|n| matches!(n.access, Access::Manual)) {
            stage.lanes.extend(manual(project, node, seen, intent, &mut plan));
        }
        if !stage.lanes.is_empty() {
            plan.stages.push(stage);
        }
        plan
    }

    fn status(&self, project: &Project, seen: &AgentsSeen, plan: &Plan) -> ModuleStatus {
        report::status("agents", project, &seen.hosts, &seen.nodes, plan)
    }
}

/// A node that somebody joins by hand: labels and taints if it is there, else how to join it.
fn manual(project: &Project, node: &Node, seen: &AgentsSeen, intent: Intent, plan: &mut Plan) -> Option<Vec<Action>> {
    let name = node.display_name();
    let action = |what: &str, summary: String, operation: Operation| Action {
        id: format!("{name}/{what}"),
        host: None,
        summary,
        reason: Reason::Drifted,
        disruption: Disruption::None,
        diff: None,
        operation,
    };
    let Some(registered) = seen.nodes.get(name) else {
        let command = join_command(project, node, seen);
        if intent.wait_for_manual {
            let operation = Operation::WaitNodeReady { node: name.into(), timeout_secs: MANUAL_TIMEOUT_SECS };
            let mut wait = action("ready", format!("wait until somebody joined {name}: {command}"), operation);
            wait.reason = Reason::Missing;
            return Some(vec![wait]);
        }
        plan.notices.push(format!("{name} is joined by hand: {command}"));
        return None;
    };
    let changes = labels::changes(node, &Default::default(), &Default::default(), registered);
    if !changes.is_empty() {
        let summary = format!("set on node {name}: {}", changes.summary());
        let operation = Operation::PatchNode { node: name.into(), labels: changes.labels, taints: changes.taints };
        return Some(vec![action("labels", summary, operation)]);
    }
    if !registered.ready {
        let operation = Operation::WaitNodeReady { node: name.into(), timeout_secs: READY_TIMEOUT_SECS };
        return Some(vec![action("ready", format!("wait until node {name} is Ready"), operation)]);
    }
    plan.unchanged.push(format!("node {name}, joined by hand, is Ready"));
    None
}

/// How long a person may take to join a node by hand, in seconds.
const MANUAL_TIMEOUT_SECS: u64 = 3600;

/// What to run on a node that xgenctl does not reach. The token is fetched, never shown.
pub fn join_command(project: &Project, node: &Node, seen: &AgentsSeen) -> String {
    let url = servers::anchor(&seen.servers)
        .and_then(|(n, h)| servers::server_url(n, h))
        .unwrap_or_else(|| "https://<server>:6443".into());
    let server = seen.servers.first().map_or("<server>", |(n, _)| match &n.access {
        Access::Ssh(ssh) => ssh.host.as_str(),
        _ => "<server>",
    });
    format!(
        "copy {token} of {server} to /root/k3s-token there (mode 0600), then run: curl -sfL https://get.k3s.io | \
         INSTALL_K3S_VERSION={version} K3S_URL={url} K3S_TOKEN_FILE=/root/k3s-token sh -s - agent --node-name {name}",
        token = layout::NODE_TOKEN,
        version = project.k3s.version,
        name = node.display_name(),
    )
}
