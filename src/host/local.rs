//! This machine as a server: programs are child processes.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Host, HostError, Process, Stream, Sudo, Transport};
use crate::secret::Secret;

/// How long a program gets to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);

/// This machine as a server named `name`; `sudo_password` answers sudo where this user is not root.
pub fn connect_local(name: &str, sudo_password: Option<Secret>) -> Host {
    let sudo =
        if rustix::process::geteuid().is_root() { Sudo::NotNeeded } else { Sudo::Use { password: sudo_password } };
    Host::new(name, Arc::new(Local { name: name.to_owned() }), sudo)
}

/// Starts child processes, each in a process group of its own: a Ctrl-C on the terminal reaches xgenctl alone, which
/// then decides what happens to what it started.
#[derive(Debug)]
pub struct Local {
    /// The node's name, for messages.
    pub name: String,
}

impl Local {
    fn broken(&self, reason: impl std::fmt::Display) -> HostError {
        HostError::Connection { host: self.name.clone(), reason: reason.to_string() }
    }
}

#[async_trait]
impl Transport for Local {
    async fn spawn(&self, argv: &[String]) -> Result<Process, HostError> {
        let Some((program, args)) = argv.split_first() else {
            return Err(HostError::Protocol { host: self.name.clone(), reason: "there is no program to run".into() });
        };
        let spawned = tokio::process::Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            // A shell would answer 127; other transports start programs through one.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(missing(program)),
            Err(e) => return Err(self.broken(format!("`{program}` cannot be started: {e}"))),
        };
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(self.broken(format!("`{program}` was started without pipes")));
        };
        let (tell, ended) = oneshot::channel();
        let abandoned = CancellationToken::new();
        let guard = abandoned.clone().drop_guard();
        tokio::spawn(watch(child, abandoned, tell));
        let host = self.name.clone();
        let status = async move {
            let _alive: DropGuard = guard;
            match ended.await {
                Ok(Ok(code)) => Ok(code),
                Ok(Err(e)) => Err(HostError::Connection { host, reason: format!("waiting for a program: {e}") }),
                Err(_) => Err(HostError::Connection { host, reason: "a program was abandoned".into() }),
            }
        };
        Ok(Process {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            status: status.boxed(),
        })
    }

    async fn open_tcp(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, HostError> {
        match tokio::net::TcpStream::connect((host, port)).await {
            Ok(stream) => {
                // Only costs latency where it fails.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Err(e) => Err(self.broken(format!("no connection to {host}:{port}: {e}"))),
        }
    }
}

/// What a shell answers for a program that does not exist.
fn missing(program: &str) -> Process {
    Process {
        stdin: Box::new(tokio::io::sink()),
        stdout: Box::new(tokio::io::empty()),
        stderr: Box::new(std::io::Cursor::new(format!("{program}: command not found\n").into_bytes())),
        status: futures::future::ready(Ok(127)).boxed(),
    }
}

/// Owns the child until it is reaped. Where nobody waits for it any more, it ends the child's whole process group.
async fn watch(mut child: Child, abandoned: CancellationToken, tell: oneshot::Sender<std::io::Result<i32>>) {
    let group = child.id().and_then(|id| Pid::from_raw(id as i32));
    tokio::select! {
        status = child.wait() => {
            let code = status.map(|s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0)));
            // The receiver may be gone: then nobody asks.
            let _ = tell.send(code);
        }
        () = abandoned.cancelled() => {
            // The child is not reaped yet, so its number, and with it its group's, cannot be another one's.
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::TERM);
                if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                    let _ = kill_process_group(group, Signal::KILL);
                    let _ = child.wait().await;
                }
            }
        }
    }
}
