//! The command line: one file per subcommand. They parse and call; they decide nothing.

mod check;
mod completions;
mod context;
pub mod init;
mod kubeconfig;
mod node;
mod runs;
mod schema;
mod setup;
mod status;

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};

use crate::report::{CliError, ExitCode, Format, out};
use crate::secret::Redactor;

/// Turns fresh Linux servers into a running K3s platform.
///
/// One project.yaml describes a site; `setup all` makes it so, run again it changes nothing, `status` tells what is.
#[derive(Debug, Parser)]
#[command(name = "xgenctl", version, about, after_help = ExitCode::table(), max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command understands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The project file (default: ./project.yaml, else the only file of projects/).
    #[arg(short, long, global = true, value_name = "FILE", env = "XGENCTL_PROJECT")]
    project: Option<PathBuf>,
    /// One server over SSH in place of the project's nodes.
    #[arg(long, global = true, value_name = "[USER@]HOST[:PORT]")]
    server: Option<String>,
    /// Text for people, or JSON for programs.
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "text")]
    output: OutputFormat,
    /// Tell more.
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Work on servers and a cluster that exist only in memory; their state is kept in DIR.
    #[arg(long, global = true, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "",
          value_parser = OsStringValueParser::new().map(PathBuf::from))]
    rehearse: Option<PathBuf>,
    /// A preflight check whose result must not block (may be given more than once).
    #[arg(long = "skip-check", global = true, value_name = "NAME")]
    skip_checks: Vec<String>,
    /// Answer yes to every question.
    #[arg(short, long, global = true)]
    yes: bool,
    /// Take and remember the host keys of servers that are not in known_hosts yet.
    #[arg(long, global = true)]
    accept_new_host_keys: bool,
}

impl Global {
    /// What stdout carries.
    fn format(&self) -> Format {
        match self.output {
            OutputFormat::Text => Format::Text,
            OutputFormat::Json => Format::Json,
        }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask for the few things that differ from site to site, and write project.yaml and secrets.yaml.
    Init(init::InitArgs),
    /// Make the named modules (or all) as project.yaml wants them.
    Setup(setup::SetupArgs),
    /// Tell what is there, what differs, and whether it is healthy.
    Status(status::StatusArgs),
    /// List, add and remove nodes of the cluster.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Run the host preflight checks only.
    Check,
    /// Write the cluster's kubeconfig, or merge it into an existing one.
    Kubeconfig(kubeconfig::KubeconfigArgs),
    /// Print the JSON Schema of project.yaml, for editors.
    Schema,
    /// List earlier runs, or show one.
    Runs(runs::RunsArgs),
    /// Print the completions of a shell.
    Completions(completions::CompletionsArgs),
}

/// Reads the command line; `--help` and wrong usage end the program here.
pub fn parse() -> Cli {
    Cli::parse()
}

impl Cli {
    /// Whether the command works on simulated servers, whose clock jumps over every wait.
    pub fn is_rehearsal(&self) -> bool {
        self.global.rehearse.is_some()
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What is to be printed to stderr, with the exit code.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let global = &self.global;
        match self.command {
            Command::Init(args) => {
                init::run(args, &Redactor::default(), &mut out::Stdout).await?;
                Ok(ExitCode::Done)
            }
            Command::Setup(args) => setup::run(global, args).await,
            Command::Status(args) => status::run(global, args).await,
            Command::Node(command) => node::run(global, command).await,
            Command::Check => check::run(global).await,
            Command::Kubeconfig(args) => kubeconfig::run(global, args).await,
            Command::Schema => schema::run(),
            Command::Runs(args) => runs::run(global, args),
            Command::Completions(args) => completions::run(args),
        }
    }
}
