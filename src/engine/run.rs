//! A whole run: the gate, then the graph of modules, each observed, planned, carried out and verified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::action::{Plan, Reason};
use super::error::StepError;
use super::event::{ActionInfo, Event, EventSink, FailureInfo, Outcome};
use super::executor::{Executor, Tally};
use super::journal::Journal;
use super::module::{AnyModule, Assessment, Intent};
use super::preflight::{self, Preflight};
use super::world::World;

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Indices of the chosen modules, in order.
    pub chosen: Vec<usize>,
    /// Act even where all is as wanted.
    pub force: bool,
    /// Show, and change nothing.
    pub dry_run: bool,
    /// How many modules may run at once; 1: strictly one after another, in order.
    pub jobs: usize,
    /// Wait until nodes that somebody joins by hand are there.
    pub wait_for_manual: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Counts of actions; in a dry run `changed` counts what would change.
    pub tally: Tally,
    /// Modules that failed without an action having failed (an observation, a refusal).
    pub broken: usize,
    /// A preflight check blocks.
    pub blocked: bool,
    /// Lines for a person: addresses, next commands.
    pub next: Vec<String>,
}

impl Summary {
    /// Whether everything is as wanted.
    pub fn ok(&self) -> bool {
        self.tally.failed == 0 && self.broken == 0 && !self.blocked && !self.tally.interrupted
    }
}

/// One run over a world.
pub struct Run<'a> {
    /// What it works on.
    pub world: Arc<World>,
    /// Every module there is.
    pub modules: &'a [Box<dyn AnyModule>],
    /// The gate.
    pub preflight: &'a dyn Preflight,
    /// Who acts.
    pub executor: &'a Executor,
    /// Where everything is told.
    pub events: EventSink,
    /// Turns when the operator interrupts.
    pub cancel: CancellationToken,
    /// What to do.
    pub options: RunOptions,
}

struct ModuleEnd {
    outcome: Outcome,
    tally: Tally,
    next: Vec<String>,
}

impl Run<'_> {
    /// Goes through the gate and the graph. Sends every event but the first and the last.
    pub async fn go(&self) -> Summary {
        let mut summary = Summary::default();
        match self.gate().await {
            Outcome::Blocked => summary.blocked = true,
            Outcome::Failed => summary.broken += 1,
            _ => {}
        }
        // A blocked dry run still shows its plan: that is what the operator asked for.
        if summary.broken > 0 || (summary.blocked && !self.options.dry_run) {
            return summary;
        }
        for end in self.modules_in_order().await {
            summary.tally += end.tally;
            if end.outcome == Outcome::Failed && end.tally.failed == 0 {
                summary.broken += 1;
            }
            summary.next.extend(end.next);
        }
        // An interrupt that came when all was done has stopped nothing, and is none.
        summary
    }

    async fn gate(&self) -> Outcome {
        let begin = Instant::now();
        let result = self.preflight.check(&self.world).await;
        let (outcome, failure, checks) = match result {
            Ok(checks) if preflight::blocks(&checks) => (Outcome::Blocked, None, checks),
            Ok(checks) => (Outcome::Unchanged, None, checks),
            Err(error) => (Outcome::Failed, Some(error.info()), Vec::new()),
        };
        self.finished(preflight::NAME, outcome, begin, failure, checks);
        outcome
    }

    async fn modules_in_order(&self) -> Vec<ModuleEnd> {
        let chosen: Vec<&dyn AnyModule> = self.options.chosen.iter().map(|i| self.modules[*i].as_ref()).collect();
        let ends: BTreeMap<&str, watch::Sender<Option<Outcome>>> =
            chosen.iter().map(|m| (m.name(), watch::Sender::new(None))).collect();
        let slots = Semaphore::new(self.options.jobs.max(1));
        let runs = chosen.iter().map(|module| {
            let (ends, slots) = (&ends, &slots);
            async move {
                let missing = await_required(ends, module.requires()).await;
                // The semaphore is never closed.
                let _slot = slots.acquire().await;
                let end = match missing {
                    Some(required) => self.blocked(module.name(), required),
                    None if self.cancel.is_cancelled() => self.left_out(module.name()),
                    None => self.module(*module).await,
                };
                if let Some(sender) = ends.get(module.name()) {
                    sender.send_replace(Some(end.outcome));
                }
                end
            }
        });
        if self.options.jobs > 1 {
            return join_all(runs).await;
        }
        let mut all = Vec::new();
        for run in runs {
            all.push(run.await);
        }
        all
    }

    fn intent(&self, force: bool) -> Intent {
        Intent { force, act: !self.options.dry_run, wait_for_manual: self.options.wait_for_manual }
    }

    /// Observes, plans, carries out, and observes again.
    async fn module(&self, module: &dyn AnyModule) -> ModuleEnd {
        let begin = Instant::now();
        let intent = self.intent(self.options.force);
        let (mut tally, result) = match module.assess(&self.world, intent).await {
            Ok(assessment) => self.pursue(module, assessment).await,
            Err(error) => (Tally::default(), Err(Some(error))),
        };
        let (outcome, failure, next) = match result {
            Ok(next) if tally.changed > 0 => (Outcome::Changed, None, next),
            Ok(next) => (Outcome::Unchanged, None, next),
            Err(Some(StepError::Interrupted)) => {
                tally.interrupted = true;
                (Outcome::Skipped, None, Vec::new())
            }
            Err(error) => (Outcome::Failed, error.map(|e| e.info()), Vec::new()),
        };
        self.finished(module.name(), outcome, begin, failure, Vec::new());
        ModuleEnd { outcome, tally, next }
    }

    /// What follows an observation. The error is `None` where an action told its own failure already.
    async fn pursue(
        &self,
        module: &dyn AnyModule,
        assessment: Assessment,
    ) -> (Tally, Result<Vec<String>, Option<StepError>>) {
        let Assessment { mut plan, next, .. } = assessment;
        name_actions(&mut plan, module.name(), self.executor.journal());
        self.events.send(Event::ModulePlanned {
            module: module.name().to_owned(),
            actions: plan.actions().map(action_info).collect(),
            unchanged: plan.unchanged.len(),
            notices: plan.notices.clone(),
        });
        let mut tally = Tally { unchanged: plan.unchanged.len(), ..Tally::default() };
        if !plan.refusals.is_empty() {
            let message = plan.refusals.join("; ");
            return (tally, Err(Some(StepError::Refused { message, hint: None })));
        }
        if self.options.dry_run {
            tally.changed = plan.actions().count();
            return (tally, Ok(Vec::new()));
        }
        if plan.is_empty() {
            return (tally, Ok(next));
        }
        let mut done: BTreeSet<String> = plan.actions().map(|a| a.id.clone()).collect();
        // What the actions claim is not enough: what is there now decides. Something may only show once the rest is
        // done (a server that was down has labels to mend when it is up), so what is new is done too.
        loop {
            tally += self.executor.carry_out(module.name(), &plan).await;
            if tally.failed > 0 {
                return (tally, Err(None));
            }
            if tally.interrupted {
                return (tally, Err(Some(StepError::Interrupted)));
            }
            let mut after = match module.assess(&self.world, self.intent(false)).await {
                Ok(after) if after.plan.is_empty() => return (tally, Ok(after.next)),
                Ok(after) => after,
                Err(error) => return (tally, Err(Some(error))),
            };
            name_actions(&mut after.plan, module.name(), self.executor.journal());
            let stuck = after.plan.actions().any(|a| done.contains(&a.id) && !a.is_wait());
            if stuck || !after.plan.refusals.is_empty() {
                return (tally, Err(Some(not_converged(&after.plan))));
            }
            plan = after.plan;
            done.extend(plan.actions().map(|a| a.id.clone()));
        }
    }

    fn blocked(&self, module: &str, required: &str) -> ModuleEnd {
        let failure = FailureInfo {
            message: format!("{module} needs {required}, which did not end well"),
            output: None,
            hint: None,
        };
        self.finished(module, Outcome::Blocked, Instant::now(), Some(failure), Vec::new());
        ModuleEnd { outcome: Outcome::Blocked, tally: Tally::default(), next: Vec::new() }
    }

    fn left_out(&self, module: &str) -> ModuleEnd {
        self.finished(module, Outcome::Skipped, Instant::now(), None, Vec::new());
        let tally = Tally { interrupted: true, ..Tally::default() };
        ModuleEnd { outcome: Outcome::Skipped, tally, next: Vec::new() }
    }

    fn finished(
        &self,
        module: &str,
        outcome: Outcome,
        begin: Instant,
        failure: Option<FailureInfo>,
        checks: Vec<super::event::CheckResult>,
    ) {
        let ms = begin.elapsed().as_millis() as u64;
        self.events.send(Event::ModuleFinished { module: module.to_owned(), outcome, ms, failure, checks });
    }
}

/// Waits for the required modules that are part of this run; the name of one that did not end well.
async fn await_required(
    ends: &BTreeMap<&str, watch::Sender<Option<Outcome>>>,
    requires: &'static [&'static str],
) -> Option<&'static str> {
    let mut missing = None;
    for required in requires {
        let Some(end) = ends.get(required) else { continue };
        let outcome = end.subscribe().wait_for(Option::is_some).await.ok().and_then(|o| *o);
        if !matches!(outcome, Some(Outcome::Unchanged | Outcome::Changed | Outcome::Skipped)) {
            missing = Some(*required);
        }
    }
    missing
}

/// Makes the ids of a plan's actions those of its module, and tells what an earlier run began and did not end as such.
pub(super) fn name_actions(plan: &mut Plan, module: &str, journal: &Journal) {
    for action in plan.stages.iter_mut().flat_map(|s| &mut s.lanes).flatten() {
        action.id = format!("{module}/{}", action.id);
        if journal.was_interrupted(&action.id) {
            action.reason = Reason::Interrupted;
        }
    }
}

pub(super) fn action_info(action: &super::action::Action) -> ActionInfo {
    ActionInfo {
        id: action.id.clone(),
        host: action.host.clone(),
        summary: action.summary.clone(),
        reason: action.reason,
        disruption: action.disruption,
        diff: action.diff.clone(),
    }
}

fn not_converged(plan: &Plan) -> StepError {
    let remains = plan
        .actions()
        .map(|a| match &a.diff {
            Some(diff) => format!("{}\n{diff}", a.summary),
            None => a.summary.clone(),
        })
        .collect::<Vec<_>>()
        .join("\n");
    StepError::NotConverged { count: plan.actions().count(), remains }
}
