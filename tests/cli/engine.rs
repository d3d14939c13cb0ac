//! Runs put together from the library as the command does it, for what cannot be brought about from the command line.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use xgenctl::artifact::Store;
use xgenctl::engine::event::Reporter;
use xgenctl::engine::run::{RunOptions, Summary};
use xgenctl::engine::{Backend, Event, EventSink, Session, StepError, World, journal, order};
use xgenctl::modules;
use xgenctl::modules::preflight::Gate;
use xgenctl::project::{Mode, Project, SecretsStore};
use xgenctl::rehearsal::{self, RehearsalBackend, faults};
use xgenctl::report::PlainReporter;
use xgenctl::secret::{Redactor, Secret};

/// Simulated servers, and what an operator's machine keeps: cache and journal.
pub struct Ground {
    /// The servers.
    pub rehearsal: rehearsal::World,
    /// What is wanted of them.
    pub project: Project,
    folder: TempDir,
}

/// How a run ended, and everything it said.
pub struct Told {
    /// The outcome.
    pub result: Result<Summary, StepError>,
    /// Its events, in order.
    pub events: Vec<Event>,
    /// What a person reads without a terminal.
    pub text: String,
}

/// What a run differs in from the usual one.
#[derive(Default)]
pub struct Circumstances {
    /// In place of the rehearsal's own.
    pub backend: Option<Arc<dyn Backend>>,
    /// What goes wrong on the servers.
    pub faults: faults::Plan,
    /// Interrupts when so many events were told.
    pub interrupt_at: Option<usize>,
    /// Checks that are left out.
    pub skip_checks: Vec<String>,
}

/// The project that a text describes, with secrets made up.
pub fn project(text: &str) -> Project {
    let redactor = Redactor::default();
    let mut secrets = SecretsStore::open(None, [], Mode::Rehearsal, &redactor).unwrap();
    Project::parse(Path::new("project.yaml"), text, &mut secrets, &redactor, Mode::Rehearsal).unwrap()
}

impl Ground {
    /// Fresh servers for a project.
    pub fn new(text: &str) -> Self {
        let project = project(text);
        let rehearsal = rehearsal::World::new(&project);
        Self { rehearsal, project, folder: tempfile::tempdir().unwrap() }
    }

    /// Where the cache and the journal are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `setup all`.
    pub fn setup(&self, circumstances: Circumstances) -> Told {
        rehearsal::runtime().unwrap().block_on(self.setup_now(circumstances))
    }

    async fn setup_now(&self, circumstances: Circumstances) -> Told {
        self.rehearsal.begin_run(circumstances.faults);
        let modules = modules::all();
        let redactor = Redactor::default();
        let backend = circumstances.backend.unwrap_or_else(|| Arc::new(RehearsalBackend::new(self.rehearsal.clone())));
        let token = Secret::new("token-of-these-tests");
        let world = Arc::new(World::new(self.project.clone(), backend, &modules, token, redactor.clone()));
        let (events, text) = (Arc::default(), Text::default());
        let cancel = CancellationToken::new();
        let witness =
            Witness { events: Arc::clone(&events), cancel: cancel.clone(), interrupt_at: circumstances.interrupt_at };
        let reporters: Vec<Box<dyn Reporter>> = vec![Box::new(witness), Box::new(PlainReporter::new(text.clone()))];
        let store = Store::new(self.folder().join("cache"));
        let gate = Gate::new(store.clone(), &circumstances.skip_checks).unwrap();
        let session = Session {
            world,
            store,
            journal: journal::Journal::open(&self.journal()).unwrap(),
            events: EventSink::new(reporters, redactor),
            cancel,
            run: "RUN".into(),
            command: "setup all".into(),
            holder: "a test".into(),
            rehearsal: true,
        };
        let chosen = order::select(&modules, &order::Selection::default()).unwrap();
        let options = RunOptions { chosen, force: false, dry_run: false, jobs: 4, wait_for_manual: false };
        let result = session.setup(&modules, &gate, options).await;
        let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
        let events = events.lock().unwrap().clone();
        Told { result, events, text }
    }

    fn journal(&self) -> std::path::PathBuf {
        journal::path(self.folder(), "shop", "master")
    }

    /// What the journal holds: nothing after a run that ended well.
    pub fn journal_text(&self) -> String {
        std::fs::read_to_string(self.journal()).unwrap()
    }

    /// The end state of the servers; see [`rehearsal::World::fingerprint`].
    pub fn fingerprint(&self) -> Value {
        rehearsal::runtime().unwrap().block_on(async { self.rehearsal.fingerprint() })
    }

    /// Asserts that nothing half-done is on any server: no temporary file, nothing that is not simulated was asked for.
    #[track_caller]
    pub fn is_tidy(&self) {
        let leftovers = rehearsal::runtime().unwrap().block_on(async { self.rehearsal.leftovers() });
        assert_eq!(leftovers, Vec::<String>::new());
        assert_eq!(self.rehearsal.not_simulated(), Vec::<String>::new());
    }

    /// Whether a path is there on a server.
    pub fn has(&self, host: &str, path: &str) -> bool {
        rehearsal::runtime().unwrap().block_on(async {
            self.rehearsal.host(host, |host| host.files.contains_key(path)).expect("a host of the project")
        })
    }
}

impl Told {
    /// A run after which all is as wanted.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.result.as_ref().is_ok_and(Summary::ok), "{}", self.text);
        self
    }

    /// The text from the first line that begins so.
    #[track_caller]
    pub fn from(&self, begin: &str) -> String {
        let at = self.text.find(&format!("\n{begin}")).unwrap_or_else(|| panic!("no {begin:?} in {}", self.text));
        self.text[at + 1..].to_owned()
    }
}

/// Keeps every event, and interrupts at one of them.
struct Witness {
    events: Arc<Mutex<Vec<Event>>>,
    cancel: CancellationToken,
    interrupt_at: Option<usize>,
}

impl Reporter for Witness {
    fn event(&mut self, event: &Event) {
        let mut events = self.events.lock().unwrap();
        events.push(event.clone());
        if self.interrupt_at == Some(events.len()) {
            self.cancel.cancel();
        }
    }
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
