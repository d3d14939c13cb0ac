//! What commands share: the project, its world, the events of a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcetera::BaseStrategy as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use tokio_util::sync::CancellationToken;

use super::Global;
use crate::artifact::{HttpDownload, Store};
use crate::engine::event::Reporter;
use crate::engine::live::LiveBackend;
use crate::engine::{AnyModule, Backend, EventSink, Session, StepError, World, journal};
use crate::host::ssh::{Question, SshOptions};
use crate::modules;
use crate::project::edit::EditError;
use crate::project::{Mode, Project, ProjectError, SecretsStore, find};
use crate::rehearsal::{self, RehearsalBackend};
use crate::report::{self, CliError, ExitCode, RunLog, ask, new_run_id, out};
use crate::secret::{Redactor, Secret};

/// Everything a command needs that does not differ from command to command.
pub struct Context {
    /// The flags.
    pub global: Global,
    /// The site.
    pub project: Project,
    /// Its secrets.
    pub secrets: SecretsStore,
    /// Knows every secret.
    pub redactor: Redactor,
    /// Every module there is.
    pub modules: Vec<Box<dyn AnyModule>>,
    rehearsal: Option<rehearsal::World>,
    folders: Folders,
}

/// Where xgenctl keeps things on the operator's machine.
struct Folders {
    home: PathBuf,
    state: PathBuf,
    cache: PathBuf,
    /// Keeps a rehearsal's cache for as long as the command runs.
    _temporary: Option<tempfile::TempDir>,
}

impl Folders {
    fn new(global: &Global) -> Result<Self, CliError> {
        let dirs = etcetera::base_strategy::Xdg::new()
            .map_err(|e| CliError::failed("the home folder cannot be found").caused_by(e))?;
        let state = dirs.state_dir().unwrap_or_else(|| dirs.home_dir().join(".local/state")).join("xgenctl");
        let home = dirs.home_dir().to_owned();
        // What a rehearsal downloads is simulated and must never be taken for the real thing.
        let (cache, temporary) = match global.rehearse.as_deref() {
            None => (dirs.cache_dir().join("xgenctl"), None),
            Some(dir) if !dir.as_os_str().is_empty() => (dir.join("cache"), None),
            Some(_) => {
                let dir = tempfile::tempdir()
                    .map_err(|e| CliError::failed("no temporary folder can be made").caused_by(e))?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        Ok(Self { home, state, cache, _temporary: temporary })
    }
}

impl Context {
    /// Loads the project and what belongs to it.
    ///
    /// # Errors
    /// Where the project file, the secrets or the rehearsal's folder are wrong.
    pub fn load(global: &Global) -> Result<Self, CliError> {
        let redactor = Redactor::default();
        let mode = if global.rehearse.is_some() { Mode::Rehearsal } else { Mode::Real };
        let folders = Folders::new(global)?;
        let file = find(Path::new("."), global.project.as_deref())?;
        let (mut project, secrets) = match (&file, &global.server) {
            (Some(file), _) => {
                let mut secrets = SecretsStore::beside(file, mode, &redactor)?;
                (Project::load(file, &mut secrets, &redactor, mode)?, secrets)
            }
            (None, Some(server)) => {
                let secrets = SecretsStore::without_file(mode, &redactor)?;
                (Project::from_server(server, &secrets)?, secrets)
            }
            (None, None) => {
                return Err(CliError::usage("there is no project.yaml here and no file in projects/")
                    .hint("write one with `xgenctl init`, name one with `-p FILE`, or give `--server USER@HOST`"));
            }
        };
        if let (Some(_), Some(server)) = (&file, &global.server) {
            project.use_server(server)?;
        }
        for warning in secrets.warnings() {
            out::print_warning(warning);
        }
        let rehearsal = match &global.rehearse {
            None => None,
            Some(dir) => {
                let broken = |e: rehearsal::StateError| {
                    let hint = e.hint();
                    CliError::usage("the rehearsal cannot begin").caused_by(e).hint(hint)
                };
                Some(match dir.as_os_str().is_empty() {
                    true => rehearsal::World::new(&project),
                    false => rehearsal::World::open(&project, dir).map_err(broken)?,
                })
            }
        };
        let global = global.clone();
        Ok(Self { global, project, secrets, redactor, modules: modules::all(), rehearsal, folders })
    }

    /// The operator's home folder.
    pub fn home(&self) -> &Path {
        &self.folders.home
    }

    /// Whether servers and cluster are simulated.
    pub fn is_rehearsal(&self) -> bool {
        self.rehearsal.is_some()
    }

    /// The cache of artifacts.
    pub fn store(&self) -> Store {
        Store::new(&self.folders.cache)
    }

    fn backend(&self) -> Result<Arc<dyn Backend>, CliError> {
        if let Some(rehearsal) = &self.rehearsal {
            return Ok(Arc::new(RehearsalBackend::new(rehearsal.clone())));
        }
        let mut options = SshOptions::new(&self.folders.home);
        options.accept_new_host_keys = self.global.accept_new_host_keys;
        options.warn = Some(Arc::new(|text: String| out::print_warning(&text)));
        if ask::can_ask() {
            options.ask = Some(Arc::new(question));
        }
        Ok(Arc::new(LiveBackend::new(options, HttpDownload::new().map_err(StepError::from)?)))
    }

    /// The hosts and the cluster of `project` (usually the context's own).
    ///
    /// # Errors
    /// Where no connection could ever be made: the TLS set-up is broken.
    pub fn world(&self, project: Project) -> Result<Arc<World>, CliError> {
        // A node that is not in project.yaml yet has a simulated server all the same.
        if let Some(rehearsal) = &self.rehearsal {
            rehearsal.admit(&project);
        }
        // In a rehearsal nothing may depend on chance.
        let token = if self.is_rehearsal() { "rehearsal-join-token".into() } else { random_token() };
        Ok(Arc::new(World::new(project, self.backend()?, &self.modules, Secret::new(token), self.redactor.clone())))
    }

    /// A run with its log, its journal and its reporters. Ctrl-C interrupts it; a second one ends the program.
    ///
    /// # Errors
    /// Where the journal cannot be opened.
    pub fn session(&self, world: Arc<World>, command: &str) -> Result<Session, CliError> {
        let run = new_run_id();
        let mut reporters: Vec<Box<dyn Reporter>> = vec![report::reporter(self.global.format(), self.global.verbose)];
        reporters.push(Box::new(RunLog::new(self.folders.state.join("runs"), out::print_warning)));
        let events = EventSink::new(reporters, self.redactor.clone());
        let server = world.first_server().map_or("none", |n| n.display_name()).to_owned();
        let journal_dir = match self.global.rehearse.as_deref() {
            None => Some(self.folders.state.clone()),
            Some(dir) if !dir.as_os_str().is_empty() => Some(dir.to_owned()),
            Some(_) => None,
        };
        let journal = match journal_dir {
            None => journal::Journal::none(),
            Some(dir) => {
                let path = journal::path(&dir, &self.project.name, &server);
                journal::Journal::open(&path).map_err(|e| {
                    CliError::failed(format!("the journal {} cannot be opened", path.display())).caused_by(e)
                })?
            }
        };
        let cancel = CancellationToken::new();
        listen_for_interrupts(cancel.clone(), events.clone());
        Ok(Session {
            world,
            store: self.store(),
            journal,
            events,
            cancel,
            run: run.clone(),
            command: command.to_owned(),
            holder: format!("{} runs `xgenctl {command}` since {} (run {run})", who(), jiff::Timestamp::now()),
            rehearsal: self.is_rehearsal(),
        })
    }

    /// The project as an edit of its file would make it.
    ///
    /// # Errors
    /// Where there is no file, it cannot be edited, or what comes out is not valid.
    pub fn edited_project(
        &mut self,
        edit: impl FnOnce(&str) -> Result<String, EditError>,
    ) -> Result<Project, CliError> {
        let (path, text) = self.project_text()?;
        let mode = if self.is_rehearsal() { Mode::Rehearsal } else { Mode::Real };
        Ok(Project::parse(&path, &edit(&text)?, &mut self.secrets, &self.redactor, mode)?)
    }

    /// Asks whether project.yaml shall be changed, and changes it. A rehearsal leaves it alone.
    ///
    /// # Errors
    /// Where it cannot be edited or written.
    pub fn offer_edit(
        &self,
        question: &str,
        edit: impl FnOnce(&str) -> Result<String, EditError>,
    ) -> Result<(), CliError> {
        if self.is_rehearsal() || self.project.file.is_none() || !self.confirm(question) {
            return Ok(());
        }
        let (path, text) = self.project_text()?;
        let failed = |e: std::io::Error| CliError::failed(format!("{} cannot be written", path.display())).caused_by(e);
        // Through a link to what it points to; one step, so that nothing half-written stays.
        let target = path.canonicalize().map_err(failed)?;
        let folder = target.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        std::io::Write::write_all(&mut file, edit(&text)?.as_bytes()).map_err(failed)?;
        let permissions = std::fs::metadata(&target).map_err(failed)?.permissions();
        file.as_file().set_permissions(permissions).map_err(failed)?;
        file.persist(&target).map_err(|e| failed(e.error))?;
        Ok(())
    }

    fn project_text(&self) -> Result<(PathBuf, String), CliError> {
        let path = self.project.file.clone().ok_or_else(|| {
            CliError::usage("there is no project.yaml to write the node into").hint("write one with `xgenctl init`")
        })?;
        let text = std::fs::read_to_string(&path)
            .map_err(|e| CliError::usage(format!("{} cannot be read", path.display())).caused_by(e))?;
        Ok((path, text))
    }

    /// Asks a yes-or-no question; `--yes` answers it, and where nobody can be asked the answer is no.
    pub fn confirm(&self, question: &str) -> bool {
        self.global.yes || ask::confirm(question)
    }
}

/// 32 characters from the operating system's random source: the token of a new cluster.
fn random_token() -> String {
    let mut rng = rand::rng();
    (0..32).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect()
}

/// Who runs this, for others who find the lock taken.
fn who() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".into());
    let host = rustix::system::uname();
    format!("{user}@{}", host.nodename().to_string_lossy())
}

fn listen_for_interrupts(cancel: CancellationToken, events: EventSink) {
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        cancel.cancel();
        let text = "interrupted: ending the current action safely; once more ends at once".to_owned();
        events.send(crate::engine::Event::Note { module: None, host: None, text });
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(ExitCode::Interrupted.code()));
        }
    });
}

/// Asks what an SSH login needs to know, without holding up the other connections.
fn question(question: Question) -> BoxFuture<'static, Option<Secret>> {
    Box::pin(async move {
        let asked = tokio::task::spawn_blocking(move || match question {
            Question::Confirm(text) => ask::confirm(&text).then(|| "yes".to_owned()),
            Question::Hidden(text) => ask::hidden(&text),
            Question::Visible(text) => ask::line(&text),
        });
        asked.await.ok().flatten().map(Secret::new)
    })
}

impl From<EditError> for CliError {
    fn from(error: EditError) -> Self {
        Self { hint: error.hint, ..Self::usage(error.message) }
    }
}

impl From<ProjectError> for CliError {
    fn from(error: ProjectError) -> Self {
        // The rendered text names file, line and column itself.
        Self { rendered: Some(error.render()), ..Self::usage(error.to_string()) }
    }
}

impl From<StepError> for CliError {
    fn from(error: StepError) -> Self {
        let exit = match &error {
            StepError::Locked { .. } => ExitCode::Locked,
            StepError::Interrupted => ExitCode::Interrupted,
            _ => ExitCode::Failed,
        };
        let info = error.info();
        CliError { output: info.output, hint: info.hint, ..CliError::new(exit, info.message) }
    }
}
