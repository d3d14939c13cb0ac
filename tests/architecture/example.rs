//! Module `motd`: what people read when they log in.

use std::sync::Arc;

use async_trait::async_trait;
use xgenctl::engine::{
    Action, Content, Disruption, Intent, Module, ModuleState, ModuleStatus, Operation, Plan, Reason, Stage, StepError,
    World, diff,
};
use xgenctl::host::{HostSeen, Interest};
use xgenctl::project::{Node, Project};

const PATH: &str = "/etc/motd";

/// The message of the day.
pub struct Motd;

#[async_trait]
impl Module for Motd {
    type Seen = Vec<(Node, Arc<HostSeen>)>;

    fn name(&self) -> &'static str {
        "motd"
    }

    fn about(&self) -> &'static str {
        "what people read when they log in"
    }

    fn requires(&self) -> &'static [&'static str] {
        &[]
    }

    fn interests(&self, _project: &Project, _node: &Node) -> Vec<Interest> {
        vec![Interest::File(PATH.into())]
    }

    async fn observe(&self, world: &World) -> Result<Self::Seen, StepError> {
        let mut all = Vec::new();
        for (node, seen) in world.survey_all(world.reachable()).await {
            all.push((node.clone(), seen?));
        }
        Ok(all)
    }

    fn plan(&self, project: &Project, seen: &Self::Seen, intent: Intent) -> Plan {
        let mut plan = Plan::default();
        let mut stage = Stage::default();
        let wanted = format!("{}: set up by xgenctl.\n", project.name);
        for (node, host) in seen {
            let name = node.display_name();
            let there = host.files.get(PATH).and_then(|file| file.content.as_ref());
            let there = there.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let reason = match &there {
                None => Reason::Missing,
                Some(text) if *text != wanted => Reason::Drifted,
                Some(_) if intent.force => Reason::Forced,
                Some(_) => {
                    plan.unchanged.push(format!("{name}: {PATH}"));
                    continue;
                }
            };
            stage.lanes.push(vec![Action {
                id: format!("{name}/put:{PATH}"),
                host: Some(name.to_owned()),
                summary: format!("write {PATH}"),
                reason,
                disruption: Disruption::None,
                diff: Some(diff::unified(PATH, there.as_deref(), &wanted)),
                operation: Operation::PutFile {
                    path: PATH.into(),
                    mode: 0o644,
                    content: Content(wanted.clone().into_bytes()),
                    restarts: None,
                },
            }]);
        }
        if !stage.lanes.is_empty() {
            plan.stages.push(stage);
        }
        plan
    }

    fn status(&self, _project: &Project, _seen: &Self::Seen, plan: &Plan) -> ModuleStatus {
        let state = if plan.is_empty() { ModuleState::Converged } else { ModuleState::Drifted };
        ModuleStatus::new("motd", state)
    }
}
