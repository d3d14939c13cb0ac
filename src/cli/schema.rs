//! `xgenctl schema`

use crate::project::schema;
use crate::report::{CliError, ExitCode, out};

pub fn run() -> Result<ExitCode, CliError> {
    out::print(&schema::text())?;
    Ok(ExitCode::Done)
}
