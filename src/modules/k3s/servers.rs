//! Module `k3s`: the servers.

use std::sync::Arc;

use async_trait::async_trait;

use super::config::{self, Join};
use super::layout::{self, CONFIG, NODE_TOKEN, SERVER_TOKEN};
use super::node::{self, Input, NodePlan};
use super::{adopt, report};
use crate::cluster::NodesSeen;
use crate::engine::identity::{node_address, url_host};
use crate::engine::world::KUBECONFIG;
use crate::engine::{Intent, Module, ModuleStatus, Plan, Stage, StepError, World};
use crate::host::{HostSeen, Interest};
use crate::project::{Access, Node, Project, Role};
use crate::secret::Secret;

/// The servers of the cluster: its control plane.
pub struct Servers;

/// What was seen of the servers.
pub struct ServersSeen {
    /// Each server and its host, in project order.
    pub hosts: Vec<(Node, Arc<HostSeen>)>,
    /// What the API says.
    pub nodes: NodesSeen,
    /// The token of a cluster that has yet to be made.
    pub fresh_token: Secret,
}

/// Looks at every server, and teaches the redactor the tokens that are there.
pub async fn see_servers(world: &World) -> Result<Vec<(Node, Arc<HostSeen>)>, StepError> {
    let servers: Vec<Node> = world.reachable().filter(|n| n.role == Role::Server).cloned().collect();
    let mut hosts = Vec::new();
    for (node, seen) in world.survey_all(&servers).await {
        let seen = seen?;
        learn_tokens(world, node, &seen);
        hosts.push((node.clone(), seen));
    }
    Ok(hosts)
}

/// Teaches the redactor every form of every token on a host.
pub fn learn_tokens(world: &World, node: &Node, seen: &HostSeen) {
    let mut tokens: Vec<String> = [NODE_TOKEN, SERVER_TOKEN].iter().filter_map(|p| text(seen, p)).collect();
    let unit = text(seen, &layout::unit_path(node.role)).unwrap_or_default();
    let environment = text(seen, &layout::env_path(node.role));
    let effective = adopt::effective(&unit, text(seen, CONFIG).as_deref(), environment.as_deref());
    tokens.extend(["token", "agent-token"].iter().flat_map(|k| config::strings(effective.get(*k))));
    for token in tokens {
        let token = token.trim();
        world.redactor().learn(&Secret::new(token));
        if let Some(password) = token.rsplit(':').next() {
            world.redactor().learn(&Secret::new(password));
        }
    }
}

fn text(seen: &HostSeen, path: &str) -> Option<String> {
    let content = seen.files.get(path)?.content.as_ref()?;
    Some(String::from_utf8_lossy(content).trim().to_owned())
}

/// The token that joins the cluster as it is: what a server made of it, else what a server is configured with.
pub fn existing_token(hosts: &[(Node, Arc<HostSeen>)], for_role: Role) -> Option<Secret> {
    let files = match for_role {
        Role::Server => [SERVER_TOKEN, NODE_TOKEN],
        Role::Agent => [NODE_TOKEN, SERVER_TOKEN],
    };
    let written = files.iter().find_map(|path| hosts.iter().find_map(|(_, seen)| text(seen, path)));
    let configured = || {
        hosts.iter().find_map(|(_, seen)| {
            let config = config::parse(&text(seen, CONFIG)?)?;
            config::strings(config.get("token")).pop()
        })
    };
    written.or_else(configured).filter(|t| !t.is_empty()).map(Secret::new)
}

/// The server that the others join: the first one that is a member already, else the first of project.yaml.
pub fn anchor(hosts: &[(Node, Arc<HostSeen>)]) -> Option<&(Node, Arc<HostSeen>)> {
    hosts.iter().find(|(_, seen)| seen.files.contains_key(SERVER_TOKEN)).or_else(|| hosts.first())
}

/// The version that the cluster runs: its first member's. `None` where there is no cluster yet.
pub fn cluster_version(hosts: &[(Node, Arc<HostSeen>)]) -> Option<&str> {
    hosts
        .iter()
        .find(|(_, seen)| seen.files.contains_key(SERVER_TOKEN))
        .and_then(|(_, seen)| node::installed_version(seen))
}

/// The address at which a server's supervisor and API answer.
pub fn server_url(node: &Node, seen: &HostSeen) -> Option<String> {
    node_address(node, seen).map(|address| format!("https://{}:6443", url_host(&address)))
}

/// The kubeconfig of the first server that has one, and the address at which others reach that server.
///
/// # Errors
/// Where no server has one yet, or one cannot be seen.
pub async fn kubeconfig(world: &World) -> Result<(String, String), StepError> {
    let missing = || StepError::Refused {
        message: "no server of the cluster has a kubeconfig yet".into(),
        hint: Some("run `xgenctl setup k3s` first".into()),
    };
    for (node, seen) in see_servers(world).await? {
        if let Some(text) = text(&seen, KUBECONFIG) {
            return server_url(&node, &seen).map(|url| (text, url)).ok_or_else(missing);
        }
    }
    Err(missing())
}

impl Servers {
    fn node_plans(&self, project: &Project, seen: &ServersSeen, intent: Intent) -> Vec<NodePlan> {
        let several = seen.hosts.len() > 1;
        let Some((anchor_node, anchor_seen)) = anchor(&seen.hosts) else { return Vec::new() };
        let url = server_url(anchor_node, anchor_seen);
        let existing = existing_token(&seen.hosts, Role::Server);
        seen.hosts
            .iter()
            .map(|(node, host)| {
                let cluster_version = cluster_version(&seen.hosts);
                let is_anchor = node.display_name() == anchor_node.display_name();
                let chosen = project.k3s.token.clone().unwrap_or_else(|| seen.fresh_token.clone());
                let join = Join {
                    token: Some(existing.clone().unwrap_or(chosen)),
                    server: (!is_anchor).then(|| url.clone()).flatten(),
                    cluster_init: is_anchor && several,
                };
                node::plan(&Input { project, node, seen: host, nodes: &seen.nodes, join, cluster_version, intent })
            })
            .collect()
    }
}

#[async_trait]
impl Module for Servers {
    type Seen = ServersSeen;

    fn name(&self) -> &'static str {
        "k3s"
    }

    fn about(&self) -> &'static str {
        "K3s servers: the control plane"
    }

    fn requires(&self) -> &'static [&'static str] {
        &[]
    }

    fn interests(&self, _project: &Project, node: &Node) -> Vec<Interest> {
        if node.role == Role::Server { layout::interests(Role::Server) } else { Vec::new() }
    }

    async fn observe(&self, world: &World) -> Result<ServersSeen, StepError> {
        let hosts = see_servers(world).await?;
        let nodes = world.nodes().await?;
        Ok(ServersSeen { hosts, nodes, fresh_token: world.fresh_token().clone() })
    }

    fn plan(&self, project: &Project, seen: &ServersSeen, intent: Intent) -> Plan {
        let mut plan = Plan::default();
        let mut fetch = Stage::default();
        let mut one_by_one = Vec::new();
        for mut node in self.node_plans(project, seen, intent) {
            plan.unchanged.append(&mut node.unchanged);
            plan.notices.append(&mut node.notices);
            plan.refusals.append(&mut node.refusals);
            fetch.lanes.push(node.fetch);
            one_by_one.push(Stage { lanes: vec![node.configure] });
        }
        // The binaries are brought side by side; then servers start one at a time, or etcd would lose its quorum.
        plan.stages.push(fetch);
        plan.stages.extend(one_by_one);
        plan.stages.retain_mut(|stage| {
            stage.lanes.retain(|lane| !lane.is_empty());
            !stage.lanes.is_empty()
        });
        if let (Some(chosen), Some(existing)) = (&project.k3s.token, existing_token(&seen.hosts, Role::Server))
            && !config::same_value("token", &chosen.expose().into(), &existing.expose().into())
        {
            plan.notices
                .push("the cluster has another token than K3S_TOKEN of the secrets; the cluster's own stays".into());
        }
        plan
    }

    fn status(&self, project: &Project, seen: &ServersSeen, plan: &Plan) -> ModuleStatus {
        report::status("k3s", project, &seen.hosts, &seen.nodes, plan)
    }

    fn next_steps(&self, project: &Project, seen: &ServersSeen) -> Vec<String> {
        let Some((node, host)) = anchor(&seen.hosts) else { return Vec::new() };
        let mut lines = Vec::new();
        if let Some(url) = server_url(node, host) {
            lines.push(format!("Kubernetes API: {url}"));
        }
        lines.push(match node.access {
            Access::Local { .. } => "kubectl: sudo k3s kubectl get nodes; or xgenctl kubeconfig --merge".into(),
            _ => format!("kubectl: xgenctl kubeconfig --merge, then kubectl --context {} get nodes", project.name),
        });
        lines
    }
}
