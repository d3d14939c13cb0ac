//! Every node there is: in project.yaml, in the cluster, or in both.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cluster::NodesSeen;
use crate::engine::identity::node_name;
use crate::engine::{StepError, World};
use crate::project::{Access, Node, Role};

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// server or agent.
    pub role: &'static str,
    /// Ready, not Ready and why, not joined, unknown.
    pub state: String,
    /// The version of its kubelet.
    pub version: Option<String>,
    /// Its address in the cluster.
    pub address: Option<String>,
    /// Whether project.yaml has it.
    pub in_project: bool,
    /// Its labels, those of Kubernetes and K3s themselves left out.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<String>,
}

/// Lists the nodes: those of project.yaml in its order, then the others.
///
/// # Errors
/// Where a server cannot be seen.
pub async fn inventory(world: &World) -> Result<Vec<NodeRow>, StepError> {
    let nodes = world.nodes().await?;
    let mut rest = match &nodes {
        NodesSeen::Seen(nodes) => nodes.clone(),
        _ => BTreeMap::new(),
    };
    let mut rows = Vec::new();
    for node in &world.project().nodes {
        let name = name_of(world, node).await?;
        let seen = rest.remove(&name);
        let state = match (&seen, &nodes) {
            (Some(seen), _) => state(seen),
            (None, NodesSeen::Unreachable(why)) => format!("unknown: the API does not answer: {why}"),
            (None, _) => "not joined".into(),
        };
        let mut row = row(name, node.role, seen.unwrap_or_default());
        row.state = state;
        row.in_project = true;
        rows.push(row);
    }
    rows.extend(rest.into_iter().map(|(name, seen)| {
        let server = seen.labels.contains_key("node-role.kubernetes.io/control-plane")
            || seen.labels.contains_key("node-role.kubernetes.io/master");
        let state = state(&seen);
        NodeRow { state, ..row(name, if server { Role::Server } else { Role::Agent }, seen) }
    }));
    Ok(rows)
}

/// Only this machine has no name in project.yaml: it is asked for its own.
async fn name_of(world: &World, node: &Node) -> Result<String, StepError> {
    match (&node.name, &node.access) {
        (Some(name), _) => Ok(name.clone()),
        (None, Access::Manual) => Ok(node.display_name().to_owned()),
        (None, _) => Ok(node_name(node, &*world.survey(node.display_name()).await?)),
    }
}

fn state(seen: &crate::cluster::NodeSeen) -> String {
    match (seen.ready, seen.unschedulable) {
        (true, false) => "Ready".into(),
        (true, true) => "Ready, unschedulable".into(),
        (false, _) => format!("not Ready: {}", seen.message),
    }
}

fn row(name: String, role: Role, seen: crate::cluster::NodeSeen) -> NodeRow {
    let own = ["kubernetes.io", "k3s.io", "k8s.io", "k3s.cattle.io"];
    NodeRow {
        name,
        role: if role == Role::Server { "server" } else { "agent" },
        state: String::new(),
        version: Some(seen.version).filter(|v| !v.is_empty()),
        address: seen.address,
        in_project: false,
        labels: seen
            .labels
            .into_iter()
            .filter(|(key, _)| {
                let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
                !own.iter().any(|o| prefix.ends_with(o))
            })
            .collect(),
        taints: seen.taints.iter().map(ToString::to_string).collect(),
    }
}
