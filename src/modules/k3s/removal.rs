//! Taking a node out of the cluster: drain it, clean its host, delete it and its node-password.

use super::layout::unit_of;
use crate::cluster::NodesSeen;
use crate::engine::{Action, Disruption, Operation, Plan, Reason, Stage};
use crate::host::HostSeen;
use crate::project::{Node, Project, Role};

/// How long pods may take to leave, in seconds.
const DRAIN_TIMEOUT_SECS: u64 = 300;

/// Plans the removal of a node. `seen` is its host, `None` where that cannot be reached any more: it is not cleaned then.
pub fn removal(project: &Project, node: &Node, seen: Option<&HostSeen>, nodes: &NodesSeen) -> Plan {
    let mut plan = Plan::default();
    let name = node.display_name();
    let servers = project.nodes.iter().filter(|n| n.role == Role::Server).count();
    if node.role == Role::Server && servers == 1 {
        plan.refusals.push(format!("{name} is the only server: removing it removes the cluster"));
        return plan;
    }
    if node.role == Role::Server && servers % 2 == 1 {
        plan.notices.push(format!("{} servers remain: etcd needs an odd number, so add another one soon", servers - 1));
    }
    let action = |what: &str, summary: String, disruption: Disruption, operation: Operation| Action {
        id: format!("{name}/{what}"),
        host: None,
        summary,
        reason: Reason::Unwanted,
        disruption,
        diff: None,
        operation,
    };
    match nodes {
        NodesSeen::Seen(_) => {}
        NodesSeen::NoCluster => {
            plan.refusals.push("there is no cluster to remove a node from: no server runs K3s".into());
            return plan;
        }
        NodesSeen::Unreachable(why) => {
            plan.refusals.push(format!("the API of the cluster does not answer: {why}"));
            return plan;
        }
    }
    let mut lane = Vec::new();
    let registered = nodes.get(name).is_some();
    if registered {
        let operation = Operation::DrainNode { node: name.into(), timeout_secs: DRAIN_TIMEOUT_SECS };
        lane.push(action("drain", format!("drain node {name}"), Disruption::Workloads, operation));
    }
    let unit = unit_of(node.role);
    match seen {
        // The unit goes before the node: a running agent would register itself again.
        Some(seen) if seen.units.contains_key(unit) || !seen.versions.is_empty() => {
            let operation = Operation::CleanHost { unit: unit.into() };
            let summary = format!("stop K3s on {name} and remove it with all its data");
            let mut clean = action("clean", summary, Disruption::Destructive, operation);
            clean.host = Some(name.to_owned());
            lane.push(clean);
        }
        Some(_) => plan.unchanged.push(format!("{name}: no K3s on the host")),
        None => plan.notices.push(format!("{name} cannot be reached: what K3s left on it stays there")),
    }
    // Its node-password outlives a node that was deleted by hand, so this is done in any case.
    let operation = Operation::DeleteNode { node: name.into() };
    let summary = format!("delete node {name} and its node-password");
    lane.push(action("delete", summary, Disruption::Destructive, operation));
    plan.stages.push(Stage { lanes: vec![lane] });
    plan
}
