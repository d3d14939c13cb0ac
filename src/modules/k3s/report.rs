//! What `status` tells of servers and agents.

use std::sync::Arc;

use serde_json::{Value, json};

use super::layout::unit_of;
use super::node::installed_version;
use crate::cluster::NodesSeen;
use crate::engine::identity::node_name;
use crate::engine::{ModuleState, ModuleStatus, Plan};
use crate::host::HostSeen;
use crate::project::{Access, Node, Project, Role};

/// Judges the nodes of one role.
pub fn status(
    module: &str,
    project: &Project,
    hosts: &[(Node, Arc<HostSeen>)],
    nodes: &NodesSeen,
    plan: &Plan,
) -> ModuleStatus {
    let wanted = project.k3s.version.to_string();
    let role = if module == "k3s" { Role::Server } else { Role::Agent };
    let mut rows: Vec<Value> = Vec::new();
    let mut versions: Vec<String> = Vec::new();
    let (mut absent, mut unhealthy, mut outdated) = (0, 0, 0);
    for (node, seen) in hosts {
        let name = node_name(node, seen);
        let unit = seen.units.get(unit_of(role));
        let version = installed_version(seen).map(str::to_owned);
        let registered = nodes.get(&name);
        let state = match (unit, registered) {
            (None, _) => {
                absent += 1;
                "not installed".to_owned()
            }
            (Some(unit), _) if !unit.is_active() => {
                unhealthy += 1;
                format!("{} is {}", unit_of(role), unit.active)
            }
            (_, Some(registered)) if registered.ready => "Ready".to_owned(),
            (_, Some(registered)) => {
                unhealthy += 1;
                format!("not Ready: {}", registered.message)
            }
            (_, None) => {
                unhealthy += 1;
                match nodes {
                    NodesSeen::Unreachable(why) => format!("the API does not answer: {why}"),
                    _ => "not registered".to_owned(),
                }
            }
        };
        if version.as_ref().is_some_and(|v| *v != wanted) {
            outdated += 1;
        }
        versions.extend(version.clone());
        rows.push(json!({
            "name": name,
            "role": if role == Role::Server { "server" } else { "agent" },
            "state": state,
            "version": version,
            "address": registered.and_then(|n| n.address.clone()),
        }));
    }
    for node in project.nodes.iter().filter(|n| n.role == role && matches!(n.access, Access::Manual)) {
        let registered = nodes.get(node.display_name());
        let state = match registered {
            Some(n) if n.ready => "Ready".to_owned(),
            Some(n) => {
                unhealthy += 1;
                format!("not Ready: {}", n.message)
            }
            None => {
                absent += 1;
                "waits to be joined by hand".to_owned()
            }
        };
        rows.push(json!({
            "name": node.display_name(), "role": "agent", "state": state,
            "version": registered.map(|n| n.version.clone()), "address": registered.and_then(|n| n.address.clone()),
        }));
    }
    let acts = plan.actions().any(|a| !a.is_wait());
    let state = if !rows.is_empty() && absent == rows.len() {
        ModuleState::Absent
    } else if unhealthy > 0 {
        ModuleState::Unhealthy
    } else if absent > 0 || acts || outdated > 0 || !plan.refusals.is_empty() {
        ModuleState::Drifted
    } else {
        ModuleState::Converged
    };
    versions.sort();
    versions.dedup();
    let differs: Vec<&str> = plan.actions().map(|a| a.summary.as_str()).collect();
    let mut status = ModuleStatus::new(module, state).detail("nodes", rows);
    status.version = (!versions.is_empty()).then(|| versions.join(", "));
    status.wanted = Some(wanted);
    if !differs.is_empty() {
        status = status.detail("differs", json!(differs));
    }
    for (key, lines) in [("notices", &plan.notices), ("problems", &plan.refusals)] {
        if !lines.is_empty() {
            status = status.detail(key, json!(lines));
        }
    }
    status
}
