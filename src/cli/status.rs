//! `xgenctl status`

use clap::Args;

use super::Global;
use super::context::Context;
use crate::engine::observe;
use crate::engine::order::{self, Selection};
use crate::report::{CliError, ExitCode, Format, out};

#[derive(Debug, Default, Args)]
pub struct StatusArgs {
    /// The modules; all where none is named.
    #[arg(value_name = "MODULE")]
    modules: Vec<String>,
}

pub async fn run(global: &Global, args: StatusArgs) -> Result<ExitCode, CliError> {
    let context = Context::load(global)?;
    let selection = Selection { names: args.modules, ..Selection::default() };
    let chosen = order::select(&context.modules, &selection).map_err(|e| CliError::usage(e.to_string()))?;
    let world = context.world(context.project.clone())?;
    let report = observe(&world, &context.modules, &chosen).await;
    match global.format() {
        Format::Json => out::print_json(&report)?,
        Format::Text => out::print(&crate::report::status::render(&report, out::stdout_style()))?,
    }
    Ok(if report.converged { ExitCode::Done } else { ExitCode::NotConverged })
}
