//! `xgenctl node`

mod add;
mod list;
mod remove;

use clap::Subcommand;

use super::Global;
use crate::report::{CliError, ExitCode};

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the nodes of the cluster and of project.yaml.
    List,
    /// Join a node: one of project.yaml, or a new one that is then written into it.
    Add(add::AddArgs),
    /// Drain a node, delete it, and clean its host.
    Remove(remove::RemoveArgs),
}

pub async fn run(global: &Global, command: NodeCommand) -> Result<ExitCode, CliError> {
    match command {
        NodeCommand::List => list::run(global).await,
        NodeCommand::Add(args) => add::run(global, args).await,
        NodeCommand::Remove(args) => remove::run(global, args).await,
    }
}
