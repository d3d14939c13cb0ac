//! One command's run from its first event to its last: connect, lock, go, tell.

use std::sync::Arc;

use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::action::Plan;
use super::error::StepError;
use super::event::{Event, EventSink, Outcome};
use super::executor::{Executor, Tally};
use super::journal::Journal;
use super::lock::RunLock;
use super::module::AnyModule;
use super::preflight::Preflight;
use super::run::{Run, RunOptions, Summary, action_info, name_actions};
use super::world::World;
use crate::artifact::Store;
use crate::host::HostError;

/// Everything a run needs.
pub struct Session {
    /// What it works on.
    pub world: Arc<World>,
    /// The cache of artifacts.
    pub store: Store,
    /// What earlier runs left open.
    pub journal: Journal,
    /// Where everything is told.
    pub events: EventSink,
    /// Turns when the operator interrupts.
    pub cancel: CancellationToken,
    /// The run's id.
    pub run: String,
    /// The command, as `xgenctl runs` lists it.
    pub command: String,
    /// Who runs it, for others that find the lock taken.
    pub holder: String,
    /// Whether servers and cluster are simulated.
    pub rehearsal: bool,
}

impl Session {
    /// `setup`: the gate, then the chosen modules.
    ///
    /// # Errors
    /// Where the run could not begin: a host cannot be reached, another run holds the lock. Everything later is told by
    /// events and the summary.
    pub async fn setup(
        self,
        modules: &[Box<dyn AnyModule>],
        preflight: &dyn Preflight,
        options: RunOptions,
    ) -> Result<Summary, StepError> {
        let names = options.chosen.iter().map(|i| modules[*i].name().to_owned()).collect();
        let begin = self.begin(names, options.dry_run);
        let dry_run = options.dry_run;
        let (world, events, cancel) = (self.world.clone(), self.events.clone(), self.cancel.clone());
        let result = match self.executor(!dry_run).await {
            Ok(executor) => {
                let run =
                    Run { world, modules, preflight, executor: &executor, events: events.clone(), cancel, options };
                let summary = run.go().await;
                if summary.ok() && !dry_run {
                    clear(&executor, &events);
                }
                Ok(summary)
            }
            Err(error) => Err(error),
        };
        end(&events, begin, &result);
        result
    }

    /// Carries out one plan that is no module's, such as the removal of a node.
    ///
    /// # Errors
    /// As [`Session::setup`].
    pub async fn perform(self, name: &str, plan: &Plan) -> Result<Summary, StepError> {
        let begin = self.begin(vec![name.to_owned()], false);
        let events = self.events.clone();
        let result = match self.executor(true).await {
            Ok(executor) => {
                let mut plan = plan.clone();
                name_actions(&mut plan, name, executor.journal());
                events.send(Event::ModulePlanned {
                    module: name.to_owned(),
                    actions: plan.actions().map(action_info).collect(),
                    unchanged: plan.unchanged.len(),
                    notices: plan.notices.clone(),
                });
                let tally = executor.carry_out(name, &plan).await;
                let outcome = match tally {
                    Tally { failed: 1.., .. } => Outcome::Failed,
                    Tally { interrupted: true, .. } => Outcome::Skipped,
                    Tally { changed: 0, .. } => Outcome::Unchanged,
                    _ => Outcome::Changed,
                };
                let ms = begin.elapsed().as_millis() as u64;
                let checks = Vec::new();
                events.send(Event::ModuleFinished { module: name.to_owned(), outcome, ms, failure: None, checks });
                let summary = Summary { tally, ..Summary::default() };
                if summary.ok() {
                    clear(&executor, &events);
                }
                Ok(summary)
            }
            Err(error) => Err(error),
        };
        end(&events, begin, &result);
        result
    }

    fn begin(&self, modules: Vec<String>, dry_run: bool) -> Instant {
        self.events.send(Event::RunStarted {
            run: self.run.clone(),
            command: self.command.clone(),
            project: self.world.project().name.clone(),
            modules,
            dry_run,
            rehearsal: self.rehearsal,
        });
        Instant::now()
    }

    /// Connects every host, takes the lock on the first server, and makes the executor.
    async fn executor(self, act: bool) -> Result<Executor, StepError> {
        let first = self.world.first_server().map(|n| n.display_name().to_owned());
        let lock = async {
            match &first {
                Some(node) if act => RunLock::acquire(&self.world, node, self.holder.clone()).await.map(Some),
                _ => Ok(None),
            }
        };
        let connect = join_all(self.world.reachable().map(|node| self.world.host(node.display_name())));
        let (lock, connected) = tokio::join!(lock, connect);
        let errors: Vec<HostError> = connected.into_iter().filter_map(Result::err).collect();
        if let Some(error) = StepError::of_hosts(errors) {
            return Err(error);
        }
        let lock = lock?;
        Ok(Executor::new(self.world, self.store, self.events, self.journal, self.cancel, lock))
    }
}

fn clear(executor: &Executor, events: &EventSink) {
    if let Err(error) = executor.journal().clear() {
        let text = format!("the journal cannot be cleared: {error}");
        events.send(Event::Note { module: None, host: None, text });
    }
}

fn end(events: &EventSink, begin: Instant, result: &Result<Summary, StepError>) {
    let (ok, tally, next, failure) = match result {
        Ok(summary) => (summary.ok(), summary.tally, summary.next.clone(), None),
        Err(error) => (false, Tally::default(), Vec::new(), Some(error.info())),
    };
    events.send(Event::RunFinished {
        ok,
        changed: tally.changed,
        unchanged: tally.unchanged,
        failed: tally.failed,
        ms: begin.elapsed().as_millis() as u64,
        failure,
        next,
    });
}
