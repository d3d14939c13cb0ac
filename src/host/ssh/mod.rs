//! Servers reached over SSH: one authenticated connection per server, every program and tunnel a channel on it.
//!
//! * [`target`]: where to connect and as whom: project.yaml, then `~/.ssh/config`, then SSH's defaults.
//! * [`client`]: the connection, and whether the server is the one it claims to be.
//! * [`login`]: keys, agent, passwords.
//! * [`channel`]: programs and tunnels.

pub mod channel;
pub mod client;
pub mod config;
pub mod known_hosts;
pub mod login;
pub mod target;

mod stream;
mod wire;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use russh::keys::PrivateKey;

use self::channel::Connection;
use self::target::Target;
use super::{Host, HostError, Sudo};
use crate::project::SshAccess;
use crate::secret::Secret;

/// Jump hosts behind jump hosts end here: more is a loop in `~/.ssh/config`.
const MOST_JUMPS: usize = 8;

/// Something only a person at a terminal can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Yes or no; yes is the answer `yes`.
    Confirm(String),
    /// A passphrase, a password or a code; not to be shown while it is typed.
    Hidden(String),
    /// A line of text.
    Visible(String),
}

/// Asks a person; `None`: no answer. Called for one question at a time.
pub type Ask = Arc<dyn Fn(Question) -> BoxFuture<'static, Option<Secret>> + Send + Sync>;

/// Hears of what is odd but no failure.
pub type Warn = Arc<dyn Fn(String) + Send + Sync>;

/// How SSH connections are made; shared by all servers of a run.
#[derive(Clone)]
pub struct SshOptions {
    /// `--accept-new-host-keys`: the key of a server that is not known yet is taken and remembered.
    pub accept_new_host_keys: bool,
    /// Asks on a terminal; `None` where there is none.
    pub ask: Option<Ask>,
    /// Hears warnings: key files that others can read, host keys that were remembered.
    pub warn: Option<Warn>,
    /// The operator's home folder, for `~` and `.ssh`.
    pub home: PathBuf,
    /// The operator's own user name: the login name where nothing else is said.
    pub user: String,
    /// The folder of the system-wide `ssh_config` and `ssh_known_hosts`.
    pub system: PathBuf,
    /// The socket of the SSH agent.
    pub agent: Option<PathBuf>,
    /// How long a server may take to answer; by default `ConnectTimeout`, else 10 seconds.
    pub connect_timeout: Option<Duration>,
    /// How long a connection may be silent before the server is asked whether it is there. After three silences the
    /// connection counts as broken. By default `ServerAliveInterval`, else 15 seconds.
    pub keepalive: Option<Duration>,
    /// Keys that were decrypted, so that a passphrase is asked for once, not once per server. The lock is also what
    /// keeps questions apart.
    keys: Arc<tokio::sync::Mutex<HashMap<PathBuf, Arc<PrivateKey>>>>,
}

impl SshOptions {
    /// The defaults for an operator with this home folder; agent and user name come from the environment.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let user = variable("USER").or_else(|| variable("LOGNAME")).map(|v| v.to_string_lossy().into_owned());
        Self {
            accept_new_host_keys: false,
            ask: None,
            warn: None,
            home: home.into(),
            user: user.unwrap_or_else(|| "root".into()),
            system: "/etc/ssh".into(),
            agent: variable("SSH_AUTH_SOCK").map(PathBuf::from),
            connect_timeout: None,
            keepalive: None,
            keys: Arc::default(),
        }
    }

    fn warn(&self, text: String) {
        if let Some(warn) = &self.warn {
            warn(text);
        }
    }
}

/// Connects to a server over SSH and logs in. `name`: the node's name, for messages. Connections to several servers may
/// be made at the same time.
///
/// # Errors
/// [`HostError::Connection`] where it cannot be reached, [`HostError::HostKey`] where it is not known or not the one that
/// is known, [`HostError::Login`] where it takes none of our keys and passwords.
pub async fn connect_ssh(name: &str, access: &SshAccess, options: &SshOptions) -> Result<Host, HostError> {
    let target = Target::new(name, access, options)?;
    let root = target.user == "root";
    let connection = dial(target, access, options, 0).await?;
    let sudo = if root {
        Sudo::NotNeeded
    } else {
        Sudo::Use { password: access.sudo_password.clone().or_else(|| access.password.clone()) }
    };
    Ok(Host::new(name, Arc::new(connection), sudo))
}

/// Connects to `target`, through its jump hosts where it has any.
fn dial<'a>(
    mut target: Target,
    access: &'a SshAccess,
    options: &'a SshOptions,
    depth: usize,
) -> BoxFuture<'a, Result<Connection, HostError>> {
    Box::pin(async move {
        let Some(last) = target.jump.pop() else {
            let stream = wire::connect(&target).await?;
            return Connection::open(target, stream, None, options).await;
        };
        if depth == MOST_JUMPS {
            return Err(
                target.broken(format!("there are more than {MOST_JUMPS} jump hosts: do they lead to each other?"))
            );
        }
        let mut hop = target.hop(&last, access, options)?;
        if !target.jump.is_empty() {
            // `a,b`: the hops before this one are given; what ~/.ssh/config says of them does not count.
            hop.jump = std::mem::take(&mut target.jump);
        }
        let hop = dial(hop, access, options, depth + 1).await?;
        let stream = tokio::time::timeout(target.connect_timeout, hop.tunnel(&target.host, target.port)).await;
        let stream = stream.map_err(|_| {
            target.broken(format!("the jump host did not reach it within {} s", target.connect_timeout.as_secs()))
        })??;
        Connection::open(target, stream, Some(hop), options).await
    })
}
