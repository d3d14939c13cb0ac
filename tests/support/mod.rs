//! Runs of the engine on rehearsed servers, without the command line around them.
#![allow(dead_code)] // Each test program uses its own part.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use xgenctl::artifact::Store;
use xgenctl::engine::event::Reporter;
use xgenctl::engine::journal::Journal;
use xgenctl::engine::order::{self, Selection};
use xgenctl::engine::run::{RunOptions, Summary};
use xgenctl::engine::{AnyModule, Backend, Event, EventSink, Session, StatusReport, StepError, World, observe};
use xgenctl::modules::preflight::Gate;
use xgenctl::project::{Mode, Project, SecretsStore};
use xgenctl::rehearsal::{self, RehearsalBackend, faults};
use xgenctl::secret::{Redactor, Secret};

/// The join token of every rehearsed cluster.
pub const TOKEN: &str = "rehearsal-join-token";

/// One server and two agents, with labels, a taint, a proxy with a password, and a node-password each.
pub const SITE: &str = r#"
project: { name: site }
domain: site.example
nodes:
  - { name: master, role: server, host: 10.0.0.10, ssh: { user: ops, key: ~/.ssh/id } }
  - { name: a1, role: agent, host: 10.0.0.11, labels: { disk: ssd }, taints: ["gpu=true:NoSchedule"] }
  - { name: a2, role: agent, host: 10.0.0.12 }
proxy: { http: "${secret:PROXY}" }
"#;

/// A project from its text; secrets and key files are made up.
pub fn project(text: &str, redactor: &Redactor) -> Project {
    let mut secrets = SecretsStore::open(None, BTreeMap::new(), Mode::Rehearsal, redactor).expect("no secrets file");
    Project::parse(Path::new("project.yaml"), text, &mut secrets, redactor, Mode::Rehearsal)
        .unwrap_or_else(|e| panic!("{}", e.render()))
}

/// Keeps every event.
#[derive(Clone, Default)]
pub struct Recorder(pub Arc<Mutex<Vec<Event>>>);

impl Reporter for Recorder {
    fn event(&mut self, event: &Event) {
        self.0.lock().expect("no panic while recording").push(event.clone());
    }
}

impl Recorder {
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().expect("no panic while recording").clone()
    }

    /// Every event as JSON, a line each.
    pub fn text(&self) -> String {
        self.events().iter().map(|e| serde_json::to_string(e).expect("events are JSON") + "\n").collect()
    }
}

/// A site whose servers exist only in memory, run after run.
pub struct Rehearsal {
    pub text: String,
    pub world: rehearsal::World,
    pub folder: tempfile::TempDir,
    pub recorder: Recorder,
    pub redactor: Redactor,
}

/// What one run is to do.
#[derive(Clone)]
pub struct Job {
    pub modules: Vec<String>,
    pub force: bool,
    pub dry_run: bool,
    pub journal: bool,
    pub cancel: CancellationToken,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            modules: vec!["all".into()],
            force: false,
            dry_run: false,
            journal: false,
            cancel: CancellationToken::new(),
        }
    }
}

/// How a run ended.
pub enum End {
    /// The process was killed by a fault.
    Killed,
    /// It came to its end.
    Ended(Result<Summary, StepError>),
}

impl End {
    pub fn ok(&self) -> bool {
        matches!(self, Self::Ended(Ok(summary)) if summary.ok())
    }

    pub fn summary(self) -> Summary {
        match self {
            Self::Ended(Ok(summary)) => summary,
            Self::Ended(Err(error)) => panic!("the run could not begin: {error}"),
            Self::Killed => panic!("the run was killed"),
        }
    }
}

impl Rehearsal {
    pub fn new(text: &str) -> Self {
        let redactor = Redactor::default();
        let world = rehearsal::World::new(&project(text, &redactor));
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { text: text.to_owned(), world, folder, recorder: Recorder::default(), redactor }
    }

    pub fn project(&self) -> Project {
        project(&self.text, &self.redactor)
    }

    /// The engine's view of the site, as a new process has it.
    pub fn engine_world(&self, modules: &[Box<dyn AnyModule>]) -> Arc<World> {
        self.engine_world_with(modules, Arc::new(RehearsalBackend::new(self.world.clone())))
    }

    pub fn engine_world_with(&self, modules: &[Box<dyn AnyModule>], backend: Arc<dyn Backend>) -> Arc<World> {
        Arc::new(World::new(self.project(), backend, modules, Secret::new(TOKEN), self.redactor.clone()))
    }

    pub fn store(&self) -> Store {
        Store::new(self.folder.path().join("cache"))
    }

    /// One process from start to end, with these faults.
    pub fn run(&self, plan: faults::Plan, job: Job) -> End {
        let runtime = rehearsal::runtime().expect("a runtime");
        let end = runtime.block_on(async {
            self.world.begin_run(plan);
            // Nobody starts the next run in the same moment: a host that was unreachable is back by then.
            tokio::time::sleep(Duration::from_secs(60)).await;
            let modules = xgenctl::modules::all();
            let world = self.engine_world(&modules);
            tokio::select! {
                biased;
                () = self.world.killed() => End::Killed,
                result = self.session(world, &modules, job) => End::Ended(result),
            }
        });
        // Whatever a killed process left running dies with it.
        runtime.shutdown_background();
        end
    }

    pub async fn session(
        &self,
        world: Arc<World>,
        modules: &[Box<dyn AnyModule>],
        job: Job,
    ) -> Result<Summary, StepError> {
        let gate = Gate::new(self.store(), &[]).expect("no check is skipped");
        let selection = Selection { names: job.modules.clone(), ..Selection::default() };
        let chosen = order::select(modules, &selection).expect("known modules");
        let journal = match job.journal {
            true => Journal::open(&self.folder.path().join("journal")).expect("a journal"),
            false => Journal::none(),
        };
        let session = Session {
            world,
            store: self.store(),
            journal,
            events: EventSink::new(vec![Box::new(self.recorder.clone())], self.redactor.clone()),
            cancel: job.cancel.clone(),
            run: "test".into(),
            command: "setup".into(),
            holder: "a test".into(),
            rehearsal: true,
        };
        let options = RunOptions { chosen, force: job.force, dry_run: job.dry_run, jobs: 4, wait_for_manual: false };
        session.setup(modules, &gate, options).await
    }

    /// `status`, by a new process.
    pub fn status(&self) -> StatusReport {
        let runtime = rehearsal::runtime().expect("a runtime");
        runtime.block_on(async {
            self.world.begin_run(faults::Plan::none());
            let modules = xgenctl::modules::all();
            let chosen = order::topological(&modules);
            observe(&self.engine_world(&modules), &modules, &chosen).await
        })
    }
}
