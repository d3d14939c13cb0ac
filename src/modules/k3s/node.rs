//! The plan of one node: what it takes to make a host a member of the cluster, and to keep it one.

use serde_json::{Map, Value};

use super::config::{self, Join};
use super::layout::{self, BINARY, CONFIG, KILLALL, LINKS};
use super::{READY_TIMEOUT_SECS, UNIT_TIMEOUT_SECS, adopt, labels};
use crate::artifact::{Artifact, K3sArch};
use crate::cluster::NodesSeen;
use crate::engine::{Action, Content, Disruption, Intent, Operation, Reason, diff, identity};
use crate::host::{FileKind, HostSeen};
use crate::project::{Node, Project, Role};

const SERVER_SERVICE: &str = include_str!("../../../templates/k3s/server.service");
const AGENT_SERVICE: &str = include_str!("../../../templates/k3s/agent.service");
const KILLALL_SCRIPT: &str = include_str!("../../../templates/k3s/killall.sh");
const UNINSTALL_SCRIPT: &str = include_str!("../../../templates/k3s/uninstall.sh");

/// What one node needs.
#[derive(Debug, Default)]
pub struct NodePlan {
    /// Bringing the binary; may run beside the same of other nodes.
    pub fetch: Vec<Action>,
    /// Everything after that, in order.
    pub configure: Vec<Action>,
    /// What is as wanted.
    pub unchanged: Vec<String>,
    /// What a person should know.
    pub notices: Vec<String>,
    /// Why nothing can be done here.
    pub refusals: Vec<String>,
}

/// Everything the plan of a node depends on.
pub struct Input<'a> {
    /// What is wanted.
    pub project: &'a Project,
    /// The node.
    pub node: &'a Node,
    /// What was seen of its host.
    pub seen: &'a HostSeen,
    /// What the API says.
    pub nodes: &'a NodesSeen,
    /// How it comes into the cluster.
    pub join: Join,
    /// The version that the cluster runs already, if there is one: a node that joins it must not be newer.
    pub cluster_version: Option<&'a str>,
    /// What the run is for.
    pub intent: Intent,
}

impl Input<'_> {
    fn name(&self) -> String {
        identity::node_name(self.node, self.seen)
    }

    fn text(&self, path: &str) -> Option<String> {
        let content = self.seen.files.get(path)?.content.as_ref()?;
        Some(String::from_utf8_lossy(content).into_owned())
    }

    fn action(&self, what: &str, summary: String, reason: Reason, operation: Operation) -> Action {
        Action {
            id: format!("{}/{what}", self.node.display_name()),
            host: Some(self.node.display_name().to_owned()),
            summary,
            reason,
            disruption: Disruption::None,
            diff: None,
            operation,
        }
    }
}

/// The version a `k3s --version` line names.
pub fn installed_version(seen: &HostSeen) -> Option<&str> {
    seen.versions.get(BINARY)?.split_whitespace().find(|word| word.starts_with('v') && word.contains('.'))
}

/// Plans one node.
pub fn plan(input: &Input) -> NodePlan {
    let mut plan = NodePlan::default();
    let role = input.node.role;
    let other = if role == Role::Server { layout::AGENT_UNIT } else { layout::SERVER_UNIT };
    if input.seen.units.contains_key(other) {
        plan.refusals.push(format!(
            "{} has the unit {other}, but project.yaml makes it {}: remove the node first (`xgenctl node remove {}`)",
            input.node.display_name(),
            if role == Role::Server { "a server" } else { "an agent" },
            input.name(),
        ));
        return plan;
    }
    let unit = input.seen.units.get(layout::unit_of(role));
    let unit_text = input.text(&layout::unit_path(role));
    let foreign = unit.is_some() && unit_text.as_deref().is_some_and(|text| !adopt::is_ours(text));

    let mut restart = None;
    binary(input, unit.is_some(), &mut plan, &mut restart);
    let previous = input.text(CONFIG).as_deref().and_then(config::parse).unwrap_or_default();
    let wanted = config::wanted(input.project, input.node, input.seen, &input.join);
    relabel(input, &wanted, &previous, &mut plan);
    if foreign {
        let text = unit_text.as_deref().unwrap_or_default();
        let environment = input.text(&layout::env_path(role));
        let effective = adopt::effective(text, input.text(CONFIG).as_deref(), environment.as_deref());
        let registered = effective.get("node-name").and_then(Value::as_str).map(str::to_owned);
        let registered = registered.unwrap_or_else(|| input.seen.facts.hostname.to_lowercase());
        if registered != input.name() {
            plan.refusals.push(format!(
                "the K3s on {} is registered as node {registered}: give the node that name in project.yaml",
                input.node.display_name(),
            ));
            return plan;
        }
        let gaps = adopt::gaps(input.project, input.node, &effective);
        if gaps.is_empty() && !input.intent.force {
            plan.unchanged.push(format!("{}: K3s installed by other means is as wanted", input.node.display_name()));
        } else {
            for gap in gaps {
                plan.notices.push(format!("{}: taking over K3s: {gap}", input.node.display_name()));
            }
            files(input, adopt::take_over(effective, &wanted), &mut plan, &mut restart);
        }
    } else {
        files(input, settled(wanted, &previous, input), &mut plan, &mut restart);
    }
    run(input, restart, &mut plan);
    plan
}

/// Where a node came from (`server`, `cluster-init`) is read at its first start only: once it is a member, what its
/// configuration says stays, except that a cluster grows from one server to several.
fn settled(mut wanted: Map<String, Value>, previous: &Map<String, Value>, input: &Input) -> Map<String, Value> {
    let member = input.node.role == Role::Server && input.seen.files.contains_key(layout::SERVER_TOKEN);
    if member {
        let grows = wanted.contains_key("cluster-init") && !previous.contains_key("server");
        for key in ["server", "cluster-init"] {
            match previous.get(key) {
                Some(value) => wanted.insert(key.into(), value.clone()),
                None if key == "cluster-init" && grows => None,
                None => wanted.remove(key),
            };
        }
    }
    // The same token in another spelling stays as it is spelt.
    if let (Some(before), Some(now)) = (previous.get("token"), wanted.get("token"))
        && config::same_value("token", before, now)
    {
        wanted.insert("token".into(), before.clone());
    }
    wanted
}

fn binary(input: &Input, installed: bool, plan: &mut NodePlan, restart: &mut Option<Reason>) {
    let wanted = input.project.k3s.version.to_string();
    let name = input.node.display_name();
    let fresh = installed_version(input.seen).is_none();
    if let Some(running) = input.cluster_version.filter(|running| fresh && *running != wanted) {
        plan.notices.push(format!("{name} joins with K3s {running}, which the cluster runs, not with {wanted}"));
    }
    let wanted = input.cluster_version.filter(|_| fresh).map_or(wanted, str::to_owned);
    let reason = match installed_version(input.seen) {
        None => Reason::Missing,
        Some(version) if version == wanted && input.intent.force => Reason::Forced,
        Some(version) if version == wanted => {
            plan.unchanged.push(format!("{name}: {BINARY} {version}"));
            return;
        }
        Some(version) if installed => {
            plan.notices.push(format!(
                "{name} runs K3s {version}, project.yaml wants {wanted}: `setup` does not change the version of a node"
            ));
            return;
        }
        Some(_) => Reason::Drifted,
    };
    let arch = match K3sArch::from_uname(&input.seen.facts.arch) {
        Ok(arch) => arch,
        Err(error) => {
            plan.refusals.push(format!("{name}: {error}"));
            return;
        }
    };
    let unit = layout::unit_of(input.node.role);
    let operation = Operation::InstallArtifact {
        artifact: Artifact::k3s(&wanted, arch, &input.project.k3s_mirror),
        path: BINARY.into(),
        mode: 0o755,
        restarts: installed.then(|| unit.to_owned()),
    };
    plan.fetch.push(input.action("install:k3s", format!("install K3s {wanted} ({})", arch.asset()), reason, operation));
    note(restart, reason);
}

/// Remembers that the unit has to restart; the first reason is the one told.
fn note(restart: &mut Option<Reason>, reason: Reason) {
    restart.get_or_insert(if reason == Reason::Forced { Reason::Forced } else { Reason::Required });
}

fn relabel(input: &Input, wanted: &Map<String, Value>, previous: &Map<String, Value>, plan: &mut NodePlan) {
    let name = input.name();
    let Some(registered) = input.nodes.get(&name) else { return };
    let changes = labels::changes(input.node, wanted, previous, registered);
    if changes.is_empty() {
        plan.unchanged.push(format!("{name}: labels and taints"));
        return;
    }
    let summary = format!("set on node {name}: {}", changes.summary());
    let disruption = match &changes.taints {
        Some(taints) if taints.iter().any(|t| t.effect == "NoExecute") => Disruption::Workloads,
        _ => Disruption::None,
    };
    let operation = Operation::PatchNode { node: name, labels: changes.labels, taints: changes.taints };
    let mut action = input.action("labels", summary, Reason::Drifted, operation);
    action.disruption = disruption;
    plan.configure.push(action);
}

fn files(input: &Input, wanted: Map<String, Value>, plan: &mut NodePlan, restart: &mut Option<Reason>) {
    let role = input.node.role;
    configuration(input, &wanted, plan, restart);
    let service = if role == Role::Server { SERVER_SERVICE } else { AGENT_SERVICE };
    put(input, &layout::unit_path(role), 0o644, service, Some(significant), true, plan, restart);
    let environment = config::environment(input.project);
    let env_path = layout::env_path(role);
    let present = input.text(&env_path);
    if !environment.is_empty() || present.as_deref().is_some_and(adopt::is_ours) {
        let content = if environment.is_empty() { "# Managed by xgenctl: no proxy.\n" } else { &environment };
        put(input, &env_path, 0o600, content, Some(significant), true, plan, restart);
    }
    let uninstall = UNINSTALL_SCRIPT.replace("{{ unit }}", layout::unit_of(role));
    for (path, content) in [(KILLALL, KILLALL_SCRIPT), (layout::uninstall_path(role), uninstall.as_str())] {
        // Upstream's own scripts do the same: they stay.
        if input.text(path).is_none_or(|text| adopt::is_ours(&text)) {
            put(input, path, 0o755, content, None, false, plan, restart);
        }
    }
    for path in LINKS {
        match input.seen.files.get(path) {
            None => {
                let operation = Operation::Link { path: path.into(), target: "k3s".into() };
                plan.configure.push(input.action(
                    &format!("link:{path}"),
                    format!("link {path} to k3s"),
                    Reason::Missing,
                    operation,
                ));
            }
            // Another program of that name is somebody else's.
            Some(_) => plan.unchanged.push(format!("{}: {path}", input.node.display_name())),
        }
    }
}

fn configuration(input: &Input, wanted: &Map<String, Value>, plan: &mut NodePlan, restart: &mut Option<Reason>) {
    let text = config::render(wanted);
    let present = input.text(CONFIG);
    let parsed = present.as_deref().map(config::parse);
    let changed: Vec<&str> = match &parsed {
        Some(Some(before)) => config::differences(before, wanted).into_iter().collect(),
        _ => vec!["everything"],
    };
    let private = input.seen.files.get(CONFIG).is_some_and(|f| f.mode & 0o777 == 0o600 && f.owner == "root");
    let reason = match (&parsed, changed.is_empty() && private) {
        (None, _) => Reason::Missing,
        (_, false) => Reason::Drifted,
        _ if input.intent.force => Reason::Forced,
        _ => {
            plan.unchanged.push(format!("{}: {CONFIG}", input.node.display_name()));
            return;
        }
    };
    let restarts = reason == Reason::Forced || changed.iter().any(|key| config::needs_restart(key));
    push_file(input, CONFIG, 0o600, &text, present.as_deref(), reason, restarts, plan);
    if restarts {
        note(restart, reason);
    }
}

/// The lines of a unit or environment file that mean something, in order.
fn significant(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect()
}

/// Plans a file: missing, drifted (content after `normalise`, mode, owner) or forced.
#[allow(clippy::too_many_arguments)]
fn put(
    input: &Input,
    path: &str,
    mode: u32,
    content: &str,
    normalise: Option<fn(&str) -> Vec<&str>>,
    restarts: bool,
    plan: &mut NodePlan,
    restart: &mut Option<Reason>,
) {
    let present = input.text(path);
    let same_text = match (&present, normalise) {
        (Some(text), Some(normalise)) => normalise(text) == normalise(content),
        (Some(text), None) => text == content,
        (None, _) => false,
    };
    let file = input.seen.files.get(path);
    let same_mode = file.is_some_and(|f| f.kind == FileKind::File && f.mode & 0o777 == mode && f.owner == "root");
    let reason = match (file, same_text && same_mode) {
        (None, _) => Reason::Missing,
        (_, false) => Reason::Drifted,
        _ if input.intent.force => Reason::Forced,
        _ => {
            plan.unchanged.push(format!("{}: {path}", input.node.display_name()));
            return;
        }
    };
    let restarts = restarts && !same_text;
    push_file(input, path, mode, content, present.as_deref(), reason, restarts, plan);
    if restarts {
        note(restart, reason);
    }
}

#[allow(clippy::too_many_arguments)]
fn push_file(
    input: &Input,
    path: &str,
    mode: u32,
    content: &str,
    present: Option<&str>,
    reason: Reason,
    restarts: bool,
    plan: &mut NodePlan,
) {
    let operation = Operation::PutFile {
        path: path.into(),
        mode,
        content: Content(content.as_bytes().to_vec()),
        restarts: restarts.then(|| layout::unit_of(input.node.role).to_owned()),
    };
    let mut action = input.action(&format!("put:{path}"), format!("write {path}"), reason, operation);
    action.diff = match (diff::unified(path, present, content), present) {
        (difference, _) if difference.is_empty() => {
            Some(format!("mode, owner or kind of {path} changes to {mode:o} root:root\n"))
        }
        // The text of a new unit or script is always the same and hides what differs from site to site.
        (_, None) if path != CONFIG && !path.ends_with(".env") => None,
        (difference, _) => Some(difference),
    };
    plan.configure.push(action);
}

fn run(input: &Input, restart: Option<Reason>, plan: &mut NodePlan) {
    let role = input.node.role;
    let unit_name = layout::unit_of(role);
    let name = input.name();
    let unit = input.seen.units.get(unit_name);
    let active = unit.is_some_and(|u| u.is_active());
    let reason = match unit {
        None => Some(Reason::Missing),
        Some(u) if u.restart_pending && restart.is_none() => Some(Reason::Interrupted),
        Some(_) if input.intent.force => Some(Reason::Forced),
        Some(_) if restart.is_some() => restart,
        Some(u) if !u.is_active() || u.enabled != "enabled" => Some(Reason::Drifted),
        Some(_) => None,
    };
    let registered = input.nodes.get(&name);
    if let Some(reason) = reason {
        let only_enable = active && reason == Reason::Drifted;
        let verb = match (active, only_enable) {
            (_, true) => "enable",
            (true, _) => "restart",
            (false, _) => "start",
        };
        let operation = Operation::RunUnit {
            unit: unit_name.into(),
            restart: unit.is_some() && !only_enable,
            timeout_secs: UNIT_TIMEOUT_SECS,
        };
        let mut action = input.action(&format!("run:{unit_name}"), format!("{verb} {unit_name}"), reason, operation);
        if active && !only_enable {
            action.disruption = Disruption::Restart;
        }
        plan.configure.push(action);
    } else {
        plan.unchanged.push(format!("{}: {unit_name} is active", input.node.display_name()));
    }
    if reason.is_none() && registered.is_some_and(|n| n.ready) {
        plan.unchanged.push(format!("node {name} is Ready"));
        return;
    }
    let why = if reason.is_some() { Reason::Required } else { Reason::Drifted };
    let operation = Operation::WaitNodeReady { node: name.clone(), timeout_secs: READY_TIMEOUT_SECS };
    plan.configure.push(input.action("ready", format!("wait until node {name} is Ready"), why, operation));
}
