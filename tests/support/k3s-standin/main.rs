//! A stand-in for K3s in tests on real servers: the same command line, configuration file, environment, files, protocol
//! with systemd and protocol between agents and servers; instead of Kubernetes it serves the simulated cluster over TLS.
//!
//! What it does not do, it refuses: it never pretends that something worked.

mod agent;
mod certificates;
mod cluster;
mod config;
mod log;
mod node;
mod server;
mod token;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use config::{Role, Settings};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line("fatal", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<()> {
    let program = args.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    if program != "k3s" {
        bail!("the stand-in has no {}", program.display());
    }
    let role = match args.get(1).map(String::as_str) {
        Some("--version" | "-v") => {
            println!("k3s version {} (deadbeef)\ngo version go1.25.1", version()?);
            return Ok(());
        }
        Some("server") => Role::Server,
        Some("agent") => Role::Agent,
        other => bail!("No help topic for '{}'", other.unwrap_or_default()),
    };
    let settings = Settings::load(role, &args[2..])?;
    // What tools that list listening programs show for the real one.
    std::fs::write("/proc/self/comm", if role == Role::Server { "k3s-server" } else { "k3s-agent" })?;
    log::line("info", &format!("Starting k3s {} {} (deadbeef)", args[1], version()?));
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok()
        .context("a crypto provider is installed already")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let work = async {
            match role {
                Role::Server => server::run(settings).await,
                Role::Agent => agent::run(settings).await,
            }
        };
        tokio::select! {
            ended = work => ended,
            _ = terminated.recv() => Ok(()),
        }
    })
}

/// The version that the program's file ends with: `k3s-standin v1.36.5+k3s1` in a line of its own.
fn version() -> anyhow::Result<String> {
    let program = std::fs::read("/proc/self/exe")?;
    let end = String::from_utf8_lossy(&program[program.len().saturating_sub(100)..]).into_owned();
    let line = end.lines().next_back().and_then(|line| line.strip_prefix("k3s-standin "));
    line.map(str::to_owned).context("the program does not end with a version")
}

/// Tells systemd that the unit has started, if systemd wants to know.
fn notify_ready() -> anyhow::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => {
            <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?
        }
        _ => std::os::unix::net::SocketAddr::from_pathname(PathBuf::from(&path))?,
    };
    std::os::unix::net::UnixDatagram::unbound()?.send_to_addr(b"READY=1\n", &address)?;
    log::line("info", "k3s is up and running");
    Ok(())
}
