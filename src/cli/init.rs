use crate::report::{CliError, ExitCode};
#[derive(Debug, clap::Args)]
pub struct InitArgs {}
pub async fn run(_a: InitArgs) -> Result<ExitCode, CliError> { todo!() }
