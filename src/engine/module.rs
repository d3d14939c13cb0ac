//! What a module is: it observes and plans. It holds no code that changes anything, and knows no other module.

use async_trait::async_trait;

use super::action::Plan;
use super::error::StepError;
use super::status::ModuleStatus;
use super::world::World;
use crate::host::Interest;
use crate::project::{Node, Project};

/// What a run is for, as far as a plan depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Intent {
    /// Act even where all is as wanted.
    pub force: bool,
    /// The plan will be carried out right away. Without it (status, dry run) what an earlier module has yet to make is
    /// shown with a placeholder instead of being missed.
    pub act: bool,
    /// Wait until nodes that somebody joins by hand are there.
    pub wait_for_manual: bool,
}

/// One part of the platform.
#[async_trait]
pub trait Module: Send + Sync {
    /// What one observation brings back.
    type Seen: Send + Sync;

    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// One line for help texts.
    fn about(&self) -> &'static str;

    /// Modules that have to be done before this one observes.
    fn requires(&self) -> &'static [&'static str];

    /// What it wants to see on a host; all modules' interests go into that host's one probe.
    fn interests(&self, project: &Project, node: &Node) -> Vec<Interest>;

    /// Looks, and changes nothing.
    ///
    /// # Errors
    /// Where something cannot be known: that is never the same as "not there".
    async fn observe(&self, world: &World) -> Result<Self::Seen, StepError>;

    /// A pure function from what is wanted and what was seen to what has to be done.
    fn plan(&self, project: &Project, seen: &Self::Seen, intent: Intent) -> Plan;

    /// A pure function to what `xgenctl status` tells.
    fn status(&self, project: &Project, seen: &Self::Seen, plan: &Plan) -> ModuleStatus;

    /// Lines for the end of a successful run: addresses, credentials' places, next commands.
    fn next_steps(&self, _project: &Project, _seen: &Self::Seen) -> Vec<String> {
        Vec::new()
    }
}

/// A module's observation, judged.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// What would be done.
    pub plan: Plan,
    /// What `status` tells.
    pub status: ModuleStatus,
    /// Lines for the end of a successful run.
    pub next: Vec<String>,
}

/// A module whose type of observation does not matter any more. Implemented for every [`Module`].
#[async_trait]
pub trait AnyModule: Send + Sync {
    /// See [`Module::name`].
    fn name(&self) -> &'static str;
    /// See [`Module::about`].
    fn about(&self) -> &'static str;
    /// See [`Module::requires`].
    fn requires(&self) -> &'static [&'static str];
    /// See [`Module::interests`].
    fn interests(&self, project: &Project, node: &Node) -> Vec<Interest>;
    /// Observes, plans and judges.
    async fn assess(&self, world: &World, intent: Intent) -> Result<Assessment, StepError>;
}

#[async_trait]
impl<M: Module> AnyModule for M {
    fn name(&self) -> &'static str {
        Module::name(self)
    }

    fn about(&self) -> &'static str {
        Module::about(self)
    }

    fn requires(&self) -> &'static [&'static str] {
        Module::requires(self)
    }

    fn interests(&self, project: &Project, node: &Node) -> Vec<Interest> {
        Module::interests(self, project, node)
    }

    async fn assess(&self, world: &World, intent: Intent) -> Result<Assessment, StepError> {
        let seen = self.observe(world).await?;
        let project = world.project();
        let plan = self.plan(project, &seen, intent);
        let status = self.status(project, &seen, &plan);
        let next = self.next_steps(project, &seen);
        Ok(Assessment { plan, status, next })
    }
}
