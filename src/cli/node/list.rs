//! `xgenctl node list`

use crate::cli::Global;
use crate::cli::context::Context;
use crate::modules::k3s;
use crate::report::{CliError, ExitCode, Format, nodes, out};

pub async fn run(global: &Global) -> Result<ExitCode, CliError> {
    let context = Context::load(global)?;
    let world = context.world(context.project.clone())?;
    let rows = k3s::inventory(&world).await?;
    match global.format() {
        Format::Json => out::print_json(&rows)?,
        Format::Text => out::print(&nodes::render(&rows, out::stdout_style()))?,
    }
    Ok(ExitCode::Done)
}
