//! `xgenctl runs`

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;

use super::Global;
use crate::report::{CliError, ExitCode, Format, out, runlog, runs};

#[derive(Debug, Args)]
pub struct RunsArgs {
    #[command(subcommand)]
    command: Option<RunsCommand>,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// Print the log of a run.
    Show {
        /// Its id, or how it begins.
        id: String,
    },
}

pub fn run(global: &Global, args: RunsArgs) -> Result<ExitCode, CliError> {
    let lost = |error| CliError::failed("the record of earlier runs cannot be read").caused_by(error);
    let folder = runlog::default_dir().map_err(lost)?;
    match (args.command, global.format()) {
        (None, Format::Text) => {
            let runs = runs::list(&folder).map_err(lost)?;
            out::print(&runs::render(&runs, &TimeZone::system(), out::stdout_style()))?;
        }
        (None, Format::Json) => out::print_json(&runs::list(&folder).map_err(lost)?)?,
        (Some(RunsCommand::Show { id }), Format::Text) => out::print(&runs::show(&folder, &id)?)?,
        (Some(RunsCommand::Show { id }), Format::Json) => out::print(&runs::show_events(&folder, &id)?)?,
    }
    Ok(ExitCode::Done)
}
