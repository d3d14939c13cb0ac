//! `xgenctl check`

use super::Global;
use super::context::Context;
use crate::engine::preflight::{self, Preflight as _};
use crate::modules::preflight::Gate;
use crate::report::{CliError, ExitCode, Format, checks, out};

pub async fn run(global: &Global) -> Result<ExitCode, CliError> {
    let context = Context::load(global)?;
    let gate = Gate::new(context.store(), &global.skip_checks).map_err(|e| CliError::usage(e.to_string()))?;
    let world = context.world(context.project.clone())?;
    let results = gate.check(&world).await?;
    match global.format() {
        Format::Json => out::print_json(&checks::ChecksReport::new(&results))?,
        Format::Text => out::print(&checks::render(&results, out::stdout_style()))?,
    }
    Ok(if preflight::blocks(&results) { ExitCode::Blocked } else { ExitCode::Done })
}
