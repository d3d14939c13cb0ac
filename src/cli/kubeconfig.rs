//! `xgenctl kubeconfig`

use std::path::PathBuf;

use clap::Args;

use super::Global;
use super::context::Context;
use crate::cluster::kubeconfig::{self, Mode};
use crate::modules::k3s;
use crate::report::{CliError, ExitCode, out};

#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// Merge it into the kubeconfig that kubectl uses, keeping everything else (a backup stays beside it).
    #[arg(long, conflicts_with = "write")]
    merge: bool,
    /// Write it to a file of its own instead.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Make it the current context.
    #[arg(long)]
    set_current: bool,
    /// Replace what is there: a file, or entries of the same name that belong to another cluster.
    #[arg(long)]
    force: bool,
}

pub async fn run(global: &Global, args: KubeconfigArgs) -> Result<ExitCode, CliError> {
    let context = Context::load(global)?;
    let world = context.world(context.project.clone())?;
    let (text, url) = k3s::kubeconfig(&world).await?;
    let failed = |error: kubeconfig::KubeconfigError| {
        let hint = error.hint();
        let cli = CliError::failed(error.to_string());
        match hint {
            Some(hint) => cli.hint(hint),
            None => cli,
        }
    };
    let text = kubeconfig::rewrite(&text, &context.project.name, &url).map_err(failed)?;
    let (path, mode) = if args.merge {
        let home = context.home();
        let path = kubeconfig::default_path(std::env::var_os("KUBECONFIG").as_deref(), home);
        (path, if args.force { Mode::Overwrite } else { Mode::Merge })
    } else if let Some(path) = args.write {
        (path, if args.force { Mode::Overwrite } else { Mode::New })
    } else {
        // Asked for in so many words: this is the one output that carries a credential.
        out::print(&text)?;
        return Ok(ExitCode::Done);
    };
    let outcome = kubeconfig::write(&path, &text, mode, args.set_current).map_err(failed)?;
    let mut line = format!("wrote {} (context {})", outcome.path.display(), context.project.name);
    if let Some(backup) = &outcome.backup {
        line.push_str(&format!("; what was there is kept as {}", backup.display()));
    }
    out::print(&(line + "\n"))?;
    Ok(ExitCode::Done)
}
