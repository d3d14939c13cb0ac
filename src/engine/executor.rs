//! The one executor: it alone changes anything. Retries, time-outs, the journal and cancellation live here, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::action::{Action, Operation, Plan};
use super::error::StepError;
use super::event::{Event, EventSink, Outcome};
use super::journal::Journal;
use super::lock::RunLock;
use super::world::World;
use crate::artifact::{Artifact, Fetched, Store};
use crate::cluster;
use crate::host::{Command, FileSpec, Host, HostError, Source, scripts};
use crate::project::Taint;

/// How often a step is tried when the connection breaks or the API is overloaded.
const ATTEMPTS: u32 = 4;
/// How long an action in progress may go on after an interrupt before it is abandoned.
const GRACE: Duration = Duration::from_secs(10);
/// How many journal lines a failed unit shows.
const JOURNAL_LINES: &str = "20";

/// Carries plans out.
pub struct Executor {
    world: Arc<World>,
    store: Store,
    events: EventSink,
    journal: Journal,
    cancel: CancellationToken,
    lock: Option<RunLock>,
    /// One fetch of an artifact at a time; the others then find it in the cache.
    fetching: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
}

/// What became of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Actions that changed something.
    pub changed: usize,
    /// Actions that found nothing to do, or only waited.
    pub unchanged: usize,
    /// Actions that failed.
    pub failed: usize,
    /// Whether an interrupt ended it early.
    pub interrupted: bool,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.failed += other.failed;
        self.interrupted |= other.interrupted;
    }
}

impl Executor {
    /// An executor for one run.
    pub fn new(
        world: Arc<World>,
        store: Store,
        events: EventSink,
        journal: Journal,
        cancel: CancellationToken,
        lock: Option<RunLock>,
    ) -> Self {
        Self { world, store, events, journal, cancel, lock, fetching: Mutex::default() }
    }

    /// What earlier runs began and did not end.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Performs a plan: stages one after another, the lanes of a stage side by side. A failed action ends its lane; a
    /// stage with a failed lane is the last one.
    pub async fn carry_out(&self, module: &str, plan: &Plan) -> Tally {
        let mut tally = Tally::default();
        for stage in &plan.stages {
            let lanes = stage.lanes.iter().map(|lane| self.carry_out_lane(module, lane));
            for lane in join_all(lanes).await {
                tally += lane;
            }
            if tally.failed > 0 || tally.interrupted {
                break;
            }
        }
        tally
    }

    async fn carry_out_lane(&self, module: &str, lane: &[Action]) -> Tally {
        let mut tally = Tally::default();
        for action in lane {
            if self.cancel.is_cancelled() {
                tally.interrupted = true;
                break;
            }
            match self.carry_out_action(module, action).await {
                Outcome::Changed => tally.changed += 1,
                Outcome::Unchanged => tally.unchanged += 1,
                Outcome::Skipped => {
                    tally.interrupted = true;
                    break;
                }
                Outcome::Failed | Outcome::Blocked => {
                    tally.failed += 1;
                    break;
                }
            }
        }
        tally
    }

    async fn carry_out_action(&self, module: &str, action: &Action) -> Outcome {
        self.events.send(Event::ActionStarted {
            module: module.to_owned(),
            id: action.id.clone(),
            host: action.host.clone(),
            summary: action.summary.clone(),
        });
        let begin = Instant::now();
        self.record(self.journal.begin(&action.id));
        let result = tokio::select! {
            result = self.attempt(module, action) => result,
            () = self.abandoned(action) => Err(StepError::Interrupted),
        };
        // Whatever happened, what was seen before is not to be trusted any more.
        self.world.touched(action.host.as_deref()).await;
        let (outcome, failure) = match result {
            Ok(outcome) => (outcome, None),
            Err(StepError::Interrupted) => (Outcome::Skipped, None),
            Err(error) => (Outcome::Failed, Some(error.info())),
        };
        // An interrupted action stays open in the journal: the next run says so.
        if outcome != Outcome::Skipped {
            self.record(self.journal.end(&action.id));
        }
        self.events.send(Event::ActionFinished {
            module: module.to_owned(),
            id: action.id.clone(),
            host: action.host.clone(),
            outcome,
            ms: begin.elapsed().as_millis() as u64,
            failure,
        });
        outcome
    }

    /// Ends when an interrupt means that this action must be given up: waits at once, work after a grace period.
    async fn abandoned(&self, action: &Action) {
        self.cancel.cancelled().await;
        if !action.is_wait() {
            tokio::time::sleep(GRACE).await;
        }
    }

    fn record(&self, result: std::io::Result<()>) {
        if let Err(error) = result {
            let text = format!("the journal cannot be written: {error}");
            self.events.send(Event::Note { module: None, host: None, text });
        }
    }

    async fn attempt(&self, module: &str, action: &Action) -> Result<Outcome, StepError> {
        let mut pause = Duration::from_secs(1);
        for attempt in 1.. {
            let result = match &self.lock {
                Some(lock) => match lock.ensure(&self.world).await {
                    Ok(()) => self.perform(module, action).await,
                    Err(error) => Err(error),
                },
                None => self.perform(module, action).await,
            };
            match result {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    let text = format!("{error}; trying again in {} s", pause.as_secs());
                    self.events.send(Event::Note { module: Some(module.to_owned()), host: action.host.clone(), text });
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    if let Some(host) = &action.host {
                        self.world.disconnect(host).await;
                    }
                }
                other => return other,
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// The host an action runs on.
    async fn host(&self, action: &Action) -> Result<Host, StepError> {
        match &action.host {
            Some(name) => Ok(self.world.host(name).await?),
            None => Err(StepError::Refused { message: format!("action {} names no host", action.id), hint: None }),
        }
    }

    async fn client(&self) -> Result<kube::Client, StepError> {
        self.world.client().await?.ok_or_else(|| StepError::Refused {
            message: "no server of the cluster has a kubeconfig yet".into(),
            hint: Some("run `xgenctl setup k3s` first".into()),
        })
    }

    async fn perform(&self, module: &str, action: &Action) -> Result<Outcome, StepError> {
        match &action.operation {
            Operation::PutFile { path, mode, content, restarts } => {
                let file = FileSpec {
                    path: path.clone(),
                    mode: *mode,
                    owner: Some("root:root".into()),
                    sha256: content.sha256(),
                    restarts: restarts.clone(),
                };
                self.host(action).await?.put(&file, &Source::Bytes(content.0.clone()), &|_| {}).await?;
            }
            Operation::InstallArtifact { artifact, path, mode, restarts } => {
                let fetched = self.fetch(module, action, artifact).await?;
                let file = FileSpec {
                    path: path.clone(),
                    mode: *mode,
                    owner: Some("root:root".into()),
                    sha256: fetched.sha256.clone(),
                    restarts: restarts.clone(),
                };
                let progress = self.progress(module, action, "upload");
                let size = fetched.size;
                let source = Source::Path(fetched.path);
                self.host(action).await?.put(&file, &source, &|done| progress(done, Some(size))).await?;
            }
            Operation::Link { path, target } => self.script(action, &scripts::LINK, [target, path]).await?,
            Operation::Remove { paths } => self.script(action, &scripts::REMOVE, paths).await?,
            Operation::RunUnit { unit, restart, timeout_secs } => {
                let verb = if *restart { "restart" } else { "start" };
                self.script(action, &scripts::UNIT, [verb, unit]).await?;
                self.wait_for_unit(action, unit, Duration::from_secs(*timeout_secs)).await?;
            }
            Operation::WaitNodeReady { node, timeout_secs } => {
                self.wait_for_node(action, node, Duration::from_secs(*timeout_secs)).await?;
                return Ok(Outcome::Unchanged);
            }
            Operation::PatchNode { node, labels, taints } => {
                let taints: Option<Vec<Taint>> = taints.clone();
                cluster::nodes::patch(&self.client().await?, node, labels, taints.as_deref()).await?;
            }
            Operation::DrainNode { node, timeout_secs } => {
                let timeout = Duration::from_secs(*timeout_secs);
                let left = cluster::nodes::drain(&self.client().await?, node, timeout).await?;
                if !left.is_empty() {
                    return Err(StepError::TimedOut {
                        what: format!("node {node} could not be drained"),
                        after: timeout,
                        last: format!("still there: {}", left.join(", ")),
                    });
                }
            }
            Operation::DeleteNode { node } => cluster::nodes::delete(&self.client().await?, node).await?,
            Operation::CleanHost { unit } => {
                let command = Command::script(&scripts::CLEAN, [unit]).timeout(Duration::from_secs(180));
                self.host(action).await?.run(&command).await?;
            }
        }
        Ok(Outcome::Changed)
    }

    async fn script(
        &self,
        action: &Action,
        script: &scripts::Script,
        args: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), StepError> {
        self.host(action).await?.run(&Command::script(script, args)).await?;
        Ok(())
    }

    async fn fetch(&self, module: &str, action: &Action, artifact: &Artifact) -> Result<Fetched, StepError> {
        let key = format!("{}/{}/{}", artifact.product, artifact.version, artifact.asset);
        let turn = self.fetching.lock().await.entry(key).or_default().clone();
        let _turn = turn.lock().await;
        let progress = self.progress(module, action, "download");
        Ok(self.store.fetch(artifact, self.world.download(), &progress).await?)
    }

    /// A callback that tells how far bytes have come, not more often than once per MiB.
    fn progress(&self, module: &str, action: &Action, what: &str) -> impl Fn(u64, Option<u64>) + Send + Sync + use<> {
        const STEP: u64 = 1 << 20;
        let (events, module, id, host, what) =
            (self.events.clone(), module.to_owned(), action.id.clone(), action.host.clone(), what.to_owned());
        let told = AtomicU64::new(0);
        move |done, total| {
            let last = told.load(Ordering::Relaxed);
            if done < last + STEP && Some(done) != total {
                return;
            }
            told.store(done, Ordering::Relaxed);
            events.send(Event::Progress {
                module: module.clone(),
                id: id.clone(),
                host: host.clone(),
                what: what.clone(),
                done,
                total,
            });
        }
    }

    async fn wait_for_unit(&self, action: &Action, unit: &str, timeout: Duration) -> Result<(), StepError> {
        let seconds = timeout.as_secs().to_string();
        let command = Command::script(&scripts::WAIT_UNIT, [unit, &seconds]).timeout(timeout + Duration::from_secs(15));
        match self.host(action).await?.run(&command).await {
            Err(HostError::Failed { tail, .. }) => Err(StepError::TimedOut {
                what: format!("{unit} did not become active on {}", action.host.as_deref().unwrap_or_default()),
                after: timeout,
                last: tail,
            }),
            other => Ok(other.map(drop)?),
        }
    }

    async fn wait_for_node(&self, action: &Action, node: &str, timeout: Duration) -> Result<(), StepError> {
        let end = Instant::now() + timeout;
        let mut last = "the API has not answered yet".to_owned();
        while Instant::now() < end {
            // The API may be away for a while during a start: only the deadline ends this wait.
            let seen = match self.client().await {
                Ok(client) => tokio::time::timeout_at(end, cluster::nodes::get(&client, node)).await,
                Err(error) if error.is_transient() => {
                    last = error.to_string();
                    Ok(Ok(None))
                }
                Err(error) => return Err(error),
            };
            match seen {
                Ok(Ok(Some(node))) if node.ready => return Ok(()),
                Ok(Ok(Some(node))) => last = node.message,
                Ok(Ok(None)) => last = "it is not registered".into(),
                Ok(Err(error)) if error.transient => last = error.to_string(),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => break,
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let journal = self.last_journal_lines(action).await;
        Err(StepError::TimedOut {
            what: format!("node {node} did not become Ready"),
            after: timeout,
            last: format!("{last}\n{journal}").trim_end().to_owned(),
        })
    }

    /// The end of the K3s journal of the action's host: what a person would look at first.
    async fn last_journal_lines(&self, action: &Action) -> String {
        let Some(name) = &action.host else { return String::new() };
        let is_server = self
            .world
            .project()
            .nodes
            .iter()
            .any(|n| n.display_name() == name && n.role == crate::project::Role::Server);
        let unit = if is_server { "k3s.service" } else { "k3s-agent.service" };
        let command = Command::script(&scripts::JOURNAL, [unit, JOURNAL_LINES]).timeout(Duration::from_secs(10));
        match self.host(action).await {
            Ok(host) => host.run(&command).await.unwrap_or_else(|e| e.to_string()),
            Err(error) => error.to_string(),
        }
    }
}
