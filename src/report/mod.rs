//! Everything that a person or a program reads: consumers of the event stream, status, checks, run logs, errors.
//!
//! The only part of the program that writes to the terminal. Text goes to stdout, diagnostics go to stderr.

pub mod ask;
pub mod checks;
pub mod diagnostics;
pub mod exit;
pub mod json;
mod lines;
pub mod out;
pub mod plain;
pub mod runlog;
pub mod runs;
pub mod status;
pub mod style;
pub mod terminal;

#[cfg(test)]
mod script;
#[cfg(test)]
mod stream_tests;

pub use exit::{CliError, ExitCode};
pub use json::JsonReporter;
pub use plain::PlainReporter;
pub use runlog::{RunLog, new_run_id};
pub use terminal::TerminalReporter;

use crate::engine::event::Reporter;

/// What stdout carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// JSON for programs.
    Json,
}

/// The reporter that fits stdout: JSON lines, bars on a terminal, plain lines elsewhere. `verbose` names every action
/// when it is done, on a terminal too.
pub fn reporter(format: Format, verbose: bool) -> Box<dyn Reporter> {
    match format {
        Format::Json => Box::new(JsonReporter::new(out::Stdout)),
        Format::Text if out::stdout_is_terminal() => Box::new(TerminalReporter::stdout(verbose)),
        Format::Text => Box::new(PlainReporter::new(out::Stdout)),
    }
}
