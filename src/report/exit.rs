//! How the program ends: exit codes and the error that carries one.

use std::error::Error;
use std::fmt;

use crate::engine::event::FailureInfo;

/// The exit codes, which are a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, or there was nothing to do.
    Done = 0,
    /// A step failed.
    Failed = 1,
    /// Wrong command line or project.yaml.
    Usage = 2,
    /// A preflight check blocks.
    Blocked = 3,
    /// Not converged: `status`, and `setup --dry-run --exit-code`.
    NotConverged = 4,
    /// Another run holds the lock.
    Locked = 5,
    /// Interrupted.
    Interrupted = 130,
}

impl ExitCode {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Done, Self::Failed, Self::Usage, Self::Blocked, Self::NotConverged, Self::Locked, Self::Interrupted];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What it means, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or nothing to do",
            Self::Failed => "a step failed",
            Self::Usage => "wrong command line or project.yaml",
            Self::Blocked => "a preflight check blocks",
            Self::NotConverged => "not converged (status; setup --dry-run --exit-code)",
            Self::Locked => "another run holds the lock",
            Self::Interrupted => "interrupted",
        }
    }

    /// The table for `--help`, without a line break at its end.
    pub fn table() -> String {
        let rows = Self::ALL.map(|exit| format!("  {:>3}  {}", exit.code(), exit.meaning()));
        format!("Exit codes:\n{}", rows.join("\n"))
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(exit: ExitCode) -> Self {
        exit.code().into()
    }
}

/// An error at the top: what is printed, and how the program exits.
#[derive(Debug)]
pub struct CliError {
    /// How the program exits.
    pub exit: ExitCode,
    /// One line, without what its cause says.
    pub message: String,
    /// What it came from.
    pub cause: Option<anyhow::Error>,
    /// The last lines of output that belong to it, or an excerpt of the file it is about.
    pub output: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// A whole text that says all of this already, with an excerpt of a file: printed as it is.
    pub rendered: Option<String>,
}

impl CliError {
    /// An error with nothing but its message.
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), cause: None, output: None, hint: None, rendered: None }
    }

    /// A step that failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Failed, message)
    }

    /// A wrong command line or project.yaml.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Adds what it came from.
    pub fn caused_by(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds output that belongs to it.
    pub fn output(mut self, output: impl Into<String>) -> Self {
        self.output = Some(output.into());
        self
    }

    /// Adds what to do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.maybe_hint(Some(hint))
    }

    /// Adds what to do, where the error knows it.
    pub fn maybe_hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CliError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| cause.as_ref() as &(dyn Error + 'static))
    }
}

impl From<FailureInfo> for CliError {
    fn from(failure: FailureInfo) -> Self {
        Self { output: failure.output, hint: failure.hint, ..Self::failed(failure.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code() {
        assert_eq!(
            ExitCode::table(),
            "Exit codes:
    0  done, or nothing to do
    1  a step failed
    2  wrong command line or project.yaml
    3  a preflight check blocks
    4  not converged (status; setup --dry-run --exit-code)
    5  another run holds the lock
  130  interrupted"
        );
    }
}
