//! `xgenctl node list`

use crate::cli::Global;
use crate::cli::context::Context;
use crate::modules::k3s;
use crate::report::{CliError, ExitCode, Format, out, status};

pub async fn run(global: &Global) -> Result<ExitCode, CliError> {
    let context = Context::load(global)?;
    let world = context.world(context.project.clone())?;
    let rows = k3s::inventory(&world).await?;
    match global.format() {
        Format::Json => out::print_json(&rows)?,
        Format::Text => {
            let table = status::records(&rows, out::stdout_style());
            out::print(&table.map_err(|e| CliError::failed("the nodes cannot be shown").caused_by(e))?)?;
        }
    }
    Ok(ExitCode::Done)
}
