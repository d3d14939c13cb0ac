//! `xgenctl init`: asks for what differs from site to site and writes project.yaml and secrets.yaml.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use thiserror::Error;

use crate::project::error::{ProjectError, io_reason, password_in, shorten};
use crate::project::init::{Answers, NodeAnswer, ignore_secrets, project_text, write_new};
use crate::project::secrets::{FILE_NAME, GENERATED, VARIABLE};
use crate::project::{Mode, Project, SecretsStore, defaults, rules};
use crate::report::{CliError, ExitCode};
use crate::secret::{Redactor, Secret};

/// The secret that holds the Git token.
const GIT_TOKEN: &str = "GIT_TOKEN";
/// Largest file that is taken for a token, in bytes.
const TOKEN_BYTES: u64 = 16 * 1024;

/// Options of `xgenctl init`. What is not given is asked for on a terminal.
#[derive(Debug, Clone, Default, Args)]
pub struct InitArgs {
    /// Name of the project: lower-case letters, digits and `-`
    #[arg(long)]
    pub name: Option<String>,
    /// DNS name under which the platform will be reached
    #[arg(long)]
    pub domain: Option<String>,
    /// Environment: dev, stg, prd and the like [default: dev]
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// A node, as name=NAME,host=ADDRESS with role=, user=, port=, key=, jump=, address=, join= as needed; repeatable.
    /// The first is the server. None: this machine is the only server
    #[arg(long = "node", value_name = "KEY=VALUE,…")]
    pub nodes: Vec<NodeAnswer>,
    /// Git repository that Argo CD deploys from
    #[arg(long, value_name = "URL")]
    pub git_url: Option<String>,
    /// File that holds the Git token (or set XGENCTL_SECRET_GIT_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub git_token_file: Option<PathBuf>,
    /// Folder for project.yaml and secrets.yaml
    // The id is its own: the global --output has the field's name.
    #[arg(id = "out", long = "out", value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// Replace an existing project.yaml (the old one is kept as .bak; existing secrets are never replaced)
    #[arg(long)]
    pub force: bool,
}

/// Why `init` wrote nothing, or not everything.
#[derive(Debug, Error)]
pub enum InitError {
    /// Answers are missing and there is no terminal to ask for them.
    #[error("there is no terminal to ask on, and these are missing: {}", .flags.join(", "))]
    Missing {
        /// The flags that would give them.
        flags: Vec<&'static str>,
    },
    /// An answer that cannot be used.
    #[error("{flag}: {reason}")]
    Answer {
        /// The flag that gives it.
        flag: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// project.yaml is there already.
    #[error("{} is there already", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The answers do not make a valid project, or secrets.yaml cannot be used.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// A file or folder cannot be read or written.
    #[error("{}: {}", .path.display(), io_reason(.cause))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The questions were broken off, or the terminal is gone.
    #[error("the questions were not answered: {0}")]
    Asking(io::Error),
}

impl InitError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => {
                Some("give them, or run `xgenctl init` on a terminal; `--help` lists all flags".into())
            }
            Self::Exists { .. } => Some("--force replaces it and keeps the old one as .bak".into()),
            Self::Answer { .. } | Self::Project(_) | Self::File { .. } | Self::Asking(_) => None,
        }
    }

    /// The exit code it stands for.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Missing { .. } | Self::Answer { .. } | Self::Exists { .. } | Self::Project(_) => ExitCode::Usage,
            Self::Asking(_) => ExitCode::Interrupted,
            Self::File { .. } => ExitCode::Failed,
        }
    }
}

impl From<InitError> for CliError {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Project(error) => error.into(),
            error => Self { hint: error.hint(), ..Self::new(error.exit_code(), error.to_string()) },
        }
    }
}

/// Whether an answer can be used; if not, why.
pub type Rule<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// Whoever answers questions: a person on a terminal, or a test.
pub trait Ask {
    /// Asks for a line of text until it can be used.
    ///
    /// # Errors
    /// The terminal is gone, or the person gave up.
    fn text(&mut self, question: &str, default: &str, rule: Rule<'_>) -> io::Result<String>;

    /// Asks for something that is not shown. May be empty.
    ///
    /// # Errors
    /// The terminal is gone, or the person gave up.
    fn secret(&mut self, question: &str) -> io::Result<String>;
}

/// The terminal that xgenctl runs on.
pub struct Terminal;

impl Ask for Terminal {
    fn text(&mut self, question: &str, default: &str, rule: Rule<'_>) -> io::Result<String> {
        let input = dialoguer::Input::<String>::new().with_prompt(question).allow_empty(true);
        let input = if default.is_empty() { input } else { input.default(default.to_owned()) };
        let answer = input.validate_with(|text: &String| rule(text.trim())).interact_text();
        answer.map(|text| text.trim().to_owned()).map_err(|dialoguer::Error::IO(e)| e)
    }

    fn secret(&mut self, question: &str) -> io::Result<String> {
        let answer = dialoguer::Password::new().with_prompt(question).allow_empty_password(true).interact();
        answer.map_err(|dialoguer::Error::IO(e)| e)
    }
}

/// Asks on the terminal, if there is one, and writes the files. What was written is told on `out`.
///
/// # Errors
/// See [`InitError`].
pub async fn run(args: InitArgs, redactor: &Redactor, out: &mut dyn Write) -> Result<(), InitError> {
    let mut terminal = Terminal;
    let ask: Option<&mut dyn Ask> =
        if io::stdin().is_terminal() && io::stderr().is_terminal() { Some(&mut terminal) } else { None };
    let token = std::env::var(format!("{VARIABLE}{GIT_TOKEN}")).ok();
    init(args, ask, token, redactor, out)
}

/// As [`run`], with whoever answers and the token of the environment given.
///
/// # Errors
/// See [`InitError`].
pub fn init(
    args: InitArgs,
    ask: Option<&mut dyn Ask>,
    token: Option<String>,
    redactor: &Redactor,
    out: &mut dyn Write,
) -> Result<(), InitError> {
    let folder = args.output.clone();
    let project = folder.join("project.yaml");
    // Nobody answers questions for nothing.
    if project.exists() && !args.force {
        return Err(InitError::Exists { path: project });
    }
    let (answers, token) = answers(args, ask, token)?;
    let text = project_text(&answers);
    check(&text)?;

    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| InitError::File { path, cause }
    };
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let secrets = folder.join(FILE_NAME);
    let mut store = SecretsStore::open(Some(secrets.clone()), [], Mode::Real, redactor)?;
    let mut lines = Vec::new();
    if let Some(token) = token {
        let kept = store.get(GIT_TOKEN).is_some_and(|there| there != token);
        store.set(GIT_TOKEN, token)?;
        if kept {
            lines.push(format!("kept    the GIT_TOKEN that {} has; change it there if it is old", secrets.display()));
        }
    }
    let added = GENERATED.iter().filter(|(name, _)| store.get(name).is_none()).count();
    for (name, _) in GENERATED {
        store.generate_if_missing(name)?;
    }
    lines.insert(0, format!("wrote   {} (only you can read it; {added} passwords generated)", secrets.display()));
    if let Some(backup) = write_new(&project, &text).map_err(failed(&project))? {
        lines.insert(0, format!("kept    the old file as {}", backup.display()));
    }
    lines.insert(0, format!("wrote   {}", project.display()));
    if let Some(ignore) = ignore_secrets(&folder).map_err(failed(&folder.join(".gitignore")))? {
        lines.push(format!("changed {}: secrets.yaml stays out of Git", ignore.display()));
    }
    lines.extend(store.warnings().iter().map(|w| format!("warning {w}")));
    let option = if folder == Path::new(".") { String::new() } else { format!(" -p {}", project.display()) };
    lines.push(format!("next    xgenctl check{option}; then xgenctl setup all{option}"));
    for line in lines {
        writeln!(out, "{line}").map_err(failed(Path::new("standard output")))?;
    }
    Ok(())
}

/// What the file says must load before it is written. Key files may be elsewhere, secrets come later.
fn check(text: &str) -> Result<(), InitError> {
    let redactor = Redactor::default();
    let mut store = SecretsStore::open(None, [], Mode::Rehearsal, &redactor)?;
    let path = Path::new("project.yaml (not written)");
    Project::parse(path, text, &mut store, &redactor, Mode::Rehearsal)?;
    Ok(())
}

fn answers(
    args: InitArgs,
    mut ask: Option<&mut dyn Ask>,
    token: Option<String>,
) -> Result<(Answers, Option<Secret>), InitError> {
    if ask.is_none() {
        let missing = [("--name", args.name.is_none()), ("--domain", args.domain.is_none())];
        let flags: Vec<_> = missing.into_iter().filter(|(_, missing)| *missing).map(|(flag, _)| flag).collect();
        if !flags.is_empty() {
            return Err(InitError::Missing { flags });
        }
    }
    let mut one = |flag: &'static str, given: Option<String>, question: &str, default: &str, rule: Rule<'_>| match given
    {
        Some(text) => match rule(text.trim()) {
            Ok(()) => Ok(text.trim().to_owned()),
            Err(reason) => Err(InitError::Answer { flag, reason }),
        },
        None => match &mut ask {
            Some(ask) => ask.text(question, default, rule).map_err(InitError::Asking),
            None => Ok(default.to_owned()),
        },
    };
    let named = |text: &str| rules::label_name(text).map_err(|reason| format!("`{}` {reason}", shorten(text)));
    let name = one("--name", args.name, "Name of the project", defaults::PROJECT_NAME, &named)?;
    let domain = one("--domain", args.domain, "Domain of the platform", "", &|text| {
        rules::subdomain(&text.to_ascii_lowercase()).map_err(|reason| format!("`{}` {reason}", shorten(text)))
    })?;
    let env = one("--env", args.env, "Environment (dev, stg, prd)", defaults::ENV, &named)?;
    let git_url = one("--git-url", args.git_url, "Git repository for Argo CD (empty: later)", "", &git_address)?;
    let mut nodes = args.nodes;
    if nodes.is_empty()
        && let Some(ask) = &mut ask
    {
        nodes = ask_nodes(*ask).map_err(InitError::Asking)?;
    }
    let token = match (args.git_token_file, token.filter(|t| !t.is_empty())) {
        (Some(path), _) => Some(read_token(&path)?),
        (None, Some(token)) => Some(token),
        (None, None) => match &mut ask {
            Some(ask) if !git_url.is_empty() => {
                Some(ask.secret("Git token (empty: later)").map_err(InitError::Asking)?).filter(|t| !t.is_empty())
            }
            _ => None,
        },
    };
    Ok((Answers { name, domain, env, nodes, git_url }, token.map(Secret::new)))
}

fn git_address(text: &str) -> Result<(), String> {
    let ways = ["https://", "http://", "ssh://", "git@"];
    if password_in(text).is_some() {
        return Err("the token does not belong into the address; it is asked for, or read from --git-token-file".into());
    }
    let good = text.is_empty() || ways.iter().any(|way| text.strip_prefix(way).is_some_and(|rest| !rest.is_empty()));
    if good && !text.contains(char::is_whitespace) {
        return Ok(());
    }
    Err(format!("`{}` is no address of a repository: write https://… or git@…", shorten(text)))
}

fn ask_nodes(ask: &mut dyn Ask) -> io::Result<Vec<NodeAnswer>> {
    let mut nodes: Vec<NodeAnswer> = Vec::new();
    loop {
        let question = match nodes.len() {
            0 => "Server, as USER@HOST (empty: this machine)",
            _ => "Another node, as USER@HOST (empty: no more)",
        };
        let address = ask.text(question, "", &|text| match text {
            "" => Ok(()),
            text => rules::endpoint(text).map(|_| ()),
        })?;
        if address.is_empty() {
            return Ok(nodes);
        }
        let count = nodes.len();
        let default = if count == 0 { "master".to_owned() } else { format!("worker-{count}") };
        let name = ask.text("Its name", &default, &|text| {
            if nodes.iter().any(|n| n.name() == text) {
                return Err("another node has this name".into());
            }
            rules::subdomain(text).map_err(|reason| format!("`{}` {reason}", shorten(text)))
        })?;
        let role = match count {
            0 => "server".to_owned(),
            _ => ask.text("Its role (server or agent)", "agent", &|text| match text {
                "server" | "agent" => Ok(()),
                _ => Err("write server or agent".into()),
            })?,
        };
        match NodeAnswer::of(&name, &role, &address) {
            Ok(node) => nodes.push(node),
            Err(reason) => return Err(io::Error::other(reason)),
        }
    }
}

fn read_token(path: &Path) -> Result<String, InitError> {
    use io::Read as _;
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(TOKEN_BYTES).read_to_string(&mut text))
        .map_err(|cause| InitError::File { path: path.to_owned(), cause })?;
    match text.trim() {
        "" => Err(InitError::Answer { flag: "--git-token-file", reason: format!("{} is empty", path.display()) }),
        token => Ok(token.to_owned()),
    }
}
