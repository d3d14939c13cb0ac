//! `xgenctl node remove`

use std::sync::Arc;

use clap::Args;

use crate::cli::Global;
use crate::cli::context::Context;
use crate::cli::setup::exit_code;
use crate::engine::StepError;
use crate::modules::k3s;
use crate::project::{Role, edit};
use crate::report::{CliError, ExitCode, out};

#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The node's name.
    name: String,
    /// Go on where the host cannot be reached any more; it is not cleaned then.
    #[arg(long)]
    force: bool,
    /// Leave project.yaml as it is.
    #[arg(long)]
    keep_in_project: bool,
}

pub async fn run(global: &Global, args: RemoveArgs) -> Result<ExitCode, CliError> {
    let context = Context::load(global)?;
    let node = context.project.nodes.iter().find(|n| n.display_name() == args.name).cloned().ok_or_else(|| {
        let known: Vec<&str> = context.project.nodes.iter().map(|n| n.display_name()).collect();
        CliError::usage(format!("project.yaml has no node {}", args.name))
            .hint(format!("its nodes are: {}", known.join(", ")))
    })?;
    let question = format!("Remove node {} from the cluster and K3s with all its data from that host?", args.name);
    if !context.confirm(&question) {
        return Err(CliError::usage("the removal was not confirmed").hint("add --yes to confirm it"));
    }
    // The cluster is reached through the servers that stay.
    let mut project = context.project.clone();
    project.nodes.sort_by_key(|n| n.display_name() == args.name);
    let world = context.world(project.clone())?;
    let seen = match world.survey(&args.name).await {
        Ok(seen) => Some(seen),
        Err(error) if args.force && error.is_transient() => {
            out::print_warning(&format!("{error}: the host is not cleaned"));
            project.nodes.retain(|n| n.display_name() != args.name);
            None
        }
        Err(error) => {
            let hint = "add --force to remove the node without cleaning its host";
            return Err(CliError::from(StepError::from(error)).hint(hint));
        }
    };
    let plan = k3s::removal(&context.project, &node, seen.as_deref(), &world.nodes().await?);
    if !plan.refusals.is_empty() {
        return Err(CliError::failed(plan.refusals.join("; ")));
    }
    let world = if seen.is_some() { world } else { context.world(project)? };
    let session = context.session(Arc::clone(&world), &format!("node remove {}", args.name))?;
    let summary = session.perform("node", &plan).await?;
    let exit = exit_code(&summary);
    // Without one of three servers the file would not be valid: another one has to take its place there.
    let servers = context.project.nodes.iter().filter(|n| n.role == Role::Server).count();
    let stays_valid = node.role == Role::Agent || servers % 2 == 0;
    if exit == ExitCode::Done && !args.keep_in_project && stays_valid {
        context.offer_edit(&format!("Remove {} from project.yaml too?", args.name), |text| {
            edit::remove_node(text, &args.name)
        })?;
    }
    Ok(exit)
}
