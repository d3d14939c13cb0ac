use crate::report::{CliError, ExitCode};
pub fn run() -> Result<ExitCode, CliError> { todo!() }
