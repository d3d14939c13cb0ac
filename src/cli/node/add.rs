//! `xgenctl node add`

use std::collections::BTreeMap;

use clap::Args;

use crate::cli::Global;
use crate::cli::context::Context;
use crate::cli::setup::exit_code;
use crate::engine::order::{self, Selection};
use crate::engine::run::RunOptions;
use crate::modules::preflight::Gate;
use crate::project::edit;
use crate::project::raw::{RawNode, RawSsh};
use crate::project::{Node, Project, Role};
use crate::report::{CliError, ExitCode};

#[derive(Debug, Args)]
pub struct AddArgs {
    /// The node's name. Without --host it is a node that project.yaml has already.
    name: String,
    /// Name, address or ~/.ssh/config alias by which SSH reaches it.
    #[arg(long)]
    host: Option<String>,
    /// server or agent.
    #[arg(long, default_value = "agent", value_parser = ["server", "agent"], requires = "host")]
    role: String,
    /// Where the other nodes reach it, if not at --host.
    #[arg(long, requires = "host")]
    address: Option<String>,
    /// Login name.
    #[arg(long, requires = "host")]
    user: Option<String>,
    /// Private key file.
    #[arg(long, requires = "host", value_name = "FILE")]
    key: Option<String>,
    /// Port of sshd.
    #[arg(long, requires = "host")]
    port: Option<u16>,
    /// Jump host.
    #[arg(long, requires = "host", value_name = "[USER@]HOST[:PORT]")]
    jump: Option<String>,
    /// A label (may be given more than once).
    #[arg(long = "label", requires = "host", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// A taint (may be given more than once).
    #[arg(long = "taint", requires = "host", value_name = "KEY=VALUE:EFFECT")]
    taints: Vec<String>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| "write KEY=VALUE".into())
}

impl AddArgs {
    fn raw(&self) -> RawNode {
        let ssh = RawSsh {
            user: self.user.clone(),
            key: self.key.clone(),
            port: self.port,
            jump: self.jump.clone(),
            ..RawSsh::default()
        };
        RawNode {
            name: self.name.clone(),
            role: Some(if self.role == "server" { Role::Server } else { Role::Agent }),
            host: self.host.clone(),
            address: self.address.clone(),
            labels: self.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
            taints: self.taints.clone(),
            ssh: (ssh != RawSsh::default()).then_some(ssh),
            ..RawNode::default()
        }
    }
}

pub async fn run(global: &Global, args: AddArgs) -> Result<ExitCode, CliError> {
    let mut context = Context::load(global)?;
    let known = context.project.nodes.iter().find(|n| n.display_name() == args.name).cloned();
    let (node, is_new) = match (known, &args.host) {
        (Some(node), None) => (node, false),
        (Some(_), Some(_)) => {
            return Err(CliError::usage(format!("project.yaml has a node {} already", args.name))
                .hint("leave out --host to join it as project.yaml has it"));
        }
        (None, None) => {
            return Err(CliError::usage(format!("project.yaml has no node {}", args.name))
                .hint("give --host (and --user, --key, --role …) to add a new one"));
        }
        (None, Some(_)) => (new_node(&mut context, &args.raw())?, true),
    };
    let summary = join(&context, &node).await?;
    let exit = exit_code(&summary);
    if exit == ExitCode::Done && is_new {
        let raw = args.raw();
        context.offer_edit(&format!("Write {} into project.yaml?", args.name), |text| edit::add_node(text, &raw))?;
    }
    Ok(exit)
}

/// Validates a node that project.yaml does not have yet, as if it stood there.
fn new_node(context: &mut Context, raw: &RawNode) -> Result<Node, CliError> {
    let project = context.edited_project(|text| edit::add_node(text, raw))?;
    project
        .nodes
        .into_iter()
        .find(|n| n.display_name() == raw.name)
        .ok_or_else(|| CliError::failed(format!("node {} was not understood", raw.name)))
}

/// Runs the modules that this node needs, with the servers and this node alone: the others are not touched.
async fn join(context: &Context, node: &Node) -> Result<crate::engine::run::Summary, CliError> {
    let gate = Gate::new(context.store(), &context.global.skip_checks).map_err(|e| CliError::usage(e.to_string()))?;
    let mut project: Project = context.project.clone();
    project.nodes.retain(|n| n.role == Role::Server && n.display_name() != node.display_name());
    project.nodes.push(node.clone());
    project.nodes.sort_by_key(|n| n.role == Role::Agent);
    let module = if node.role == Role::Server { "k3s" } else { "agents" };
    let selection = Selection { names: vec![module.to_owned()], ..Selection::default() };
    let chosen = order::select(&context.modules, &selection).map_err(|e| CliError::usage(e.to_string()))?;
    let options = RunOptions { chosen, force: false, dry_run: false, jobs: 1, wait_for_manual: false };
    let session = context.session(context.world(project)?, &format!("node add {}", node.display_name()))?;
    Ok(session.setup(&context.modules, &gate, options).await?)
}
