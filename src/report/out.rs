//! The two streams of the program. A reader that went away (`xgenctl status | head`) is no error: the rest is not
//! written, and a run that changes servers goes on to its end.

use std::io::{self, IsTerminal as _, Write};

use super::diagnostics;
use super::exit::{CliError, ExitCode};
use super::style::Style;

/// Standard output, as a writer that takes a closed pipe for the end of interest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        quiet(io::stdout().write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        quiet(io::stdout().flush(), ())
    }
}

/// The result, but a closed pipe is as good as written.
fn quiet<T>(result: io::Result<T>, done: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(done),
        result => result,
    }
}

/// Prints text (as it is, line breaks included) to stdout.
///
/// # Errors
/// Where it cannot be written, for example because stdout is a file on a full disk. A closed pipe is no error.
pub fn print(text: &str) -> Result<(), CliError> {
    let written = Stdout.write_all(text.as_bytes()).and_then(|()| Stdout.flush());
    written.map_err(|error| CliError::new(ExitCode::Failed, "cannot write to standard output").caused_by(error))
}

/// Prints a value as one line of JSON to stdout.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value)
        .map_err(|error| CliError::new(ExitCode::Failed, "cannot write this as JSON").caused_by(error))?;
    print(&(text + "\n"))
}

/// Prints an error to stderr.
pub fn print_error(error: &CliError) {
    to_stderr(&diagnostics::render(error, stderr_style()));
}

/// Prints `warning: <message>` to stderr.
pub fn print_warning(message: &str) {
    to_stderr(&diagnostics::warning(message, stderr_style()));
}

fn to_stderr(text: &str) {
    // Nobody is left to be told.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether stdout is a terminal that can show bars.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How text for stdout looks.
pub fn stdout_style() -> Style {
    Style::for_stream(stdout_is_terminal())
}

fn stderr_style() -> Style {
    Style::for_stream(io::stderr().is_terminal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
        let error = |kind| Err::<usize, _>(io::Error::from(kind));
        assert_eq!(quiet(error(io::ErrorKind::BrokenPipe), 5).unwrap(), 5);
        assert_eq!(quiet(error(io::ErrorKind::StorageFull), 5).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
