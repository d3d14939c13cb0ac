//! `xgenctl setup`

use clap::Args;

use super::context::Context;
use super::{Global, status};
use crate::engine::order::{self, Selection};
use crate::engine::run::{RunOptions, Summary};
use crate::modules::preflight::Gate;
use crate::report::{CliError, ExitCode};

#[derive(Debug, Args)]
pub struct SetupArgs {
    /// The modules, or `all`.
    #[arg(required = true, value_name = "MODULE")]
    modules: Vec<String>,
    /// Show what would be done, with diffs, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: exit with 4 where there is something to do.
    #[arg(long, requires = "dry_run")]
    exit_code: bool,
    /// Act on the named modules even where all is as wanted.
    #[arg(long)]
    force: bool,
    /// Leave out the modules that come before this one.
    #[arg(long, value_name = "MODULE")]
    from: Option<String>,
    /// Leave out a module (may be given more than once).
    #[arg(long, value_name = "MODULE")]
    skip: Vec<String>,
    /// How many modules may run at once; 1: strictly one after another, in order.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Wait until nodes with `join: manual` were joined.
    #[arg(long)]
    wait_for_manual: bool,
}

pub async fn run(global: &Global, args: SetupArgs) -> Result<ExitCode, CliError> {
    if args.modules == ["status"] {
        return status::run(global, status::StatusArgs::default()).await;
    }
    let context = Context::load(global)?;
    let gate = Gate::new(context.store(), &global.skip_checks).map_err(|e| CliError::usage(e.to_string()))?;
    let selection = Selection { names: args.modules.clone(), from: args.from, skip: args.skip };
    let chosen = order::select(&context.modules, &selection).map_err(|e| CliError::usage(e.to_string()))?;
    let everything = args.modules.iter().any(|m| m == "all");
    if args.force && everything && !args.dry_run && !context.confirm("Act on every module even where all is as wanted?")
    {
        return Err(CliError::usage("`setup all --force` was not confirmed").hint("add --yes to confirm it"));
    }
    let options = RunOptions {
        chosen,
        force: args.force,
        dry_run: args.dry_run,
        jobs: usize::from(args.jobs),
        wait_for_manual: args.wait_for_manual,
    };
    let command = format!("setup {}{}", args.modules.join(" "), if args.dry_run { " --dry-run" } else { "" });
    let session = context.session(context.world(context.project.clone())?, &command)?;
    let summary = session.setup(&context.modules, &gate, options).await?;
    Ok(match exit_code(&summary) {
        ExitCode::Done if args.exit_code && summary.tally.changed > 0 => ExitCode::NotConverged,
        exit => exit,
    })
}

/// How a run that told everything by events exits.
pub fn exit_code(summary: &Summary) -> ExitCode {
    if summary.tally.interrupted {
        ExitCode::Interrupted
    } else if summary.tally.failed > 0 || summary.broken > 0 {
        ExitCode::Failed
    } else if summary.blocked {
        ExitCode::Blocked
    } else {
        ExitCode::Done
    }
}
