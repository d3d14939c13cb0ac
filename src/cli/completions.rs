//! `xgenctl completions`

use clap::{Args, CommandFactory as _};

use super::Cli;
use crate::report::{CliError, ExitCode, out};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell.
    shell: clap_complete::Shell,
}

pub fn run(args: CompletionsArgs) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "xgenctl", &mut script);
    out::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::Done)
}
