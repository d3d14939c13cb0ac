//! What can go wrong between xgenctl and a server.

use std::time::Duration;

use thiserror::Error;

/// What a full disk is called in [`HostError::File`].
pub(super) const NO_SPACE: &str = "no space left on the disk";
/// What a file system that takes no writes is called in [`HostError::File`].
pub(super) const READ_ONLY: &str = "the file system is read-only";

/// A failure on the way to a server or on it. `Display` is one line; [`HostError::hint`] says what to do.
#[derive(Debug, Clone, Error)]
pub enum HostError {
    /// No connection, or it broke. Worth another try.
    #[error("{host}: {reason}")]
    Connection {
        /// The node's name in project.yaml.
        host: String,
        /// What the transport said.
        reason: String,
    },
    /// The server refused every way to log in. Another try will not help.
    #[error("{host}: login failed: {reason}")]
    Login {
        /// The node's name.
        host: String,
        /// What was tried and refused.
        reason: String,
    },
    /// The host key is unknown, revoked or not the one known_hosts has.
    #[error("{host}: {reason}")]
    HostKey {
        /// The node's name.
        host: String,
        /// Which key was shown and what was known, with the known_hosts file and line.
        reason: String,
        /// What the operator can do.
        hint: String,
    },
    /// sudo wants a password that is missing or wrong, or the user may not use sudo.
    #[error("{host}: sudo: {reason}")]
    Sudo {
        /// The node's name.
        host: String,
        /// What sudo said.
        reason: String,
    },
    /// A program did not end in time.
    #[error("{host}: `{command}` did not end within {} s", .after.as_secs())]
    TimedOut {
        /// The node's name.
        host: String,
        /// The command, as a person would read it.
        command: String,
        /// How long was waited.
        after: Duration,
    },
    /// A program ended with a code other than 0.
    #[error("{host}: `{command}` ended with code {code}")]
    Failed {
        /// The node's name.
        host: String,
        /// The command, as a person would read it.
        command: String,
        /// Its exit code.
        code: i32,
        /// The last lines of what it wrote, standard error first.
        tail: String,
    },
    /// A file cannot be written or read there: permission, disk full, digest mismatch.
    #[error("{host}: {path}: {reason}")]
    File {
        /// The node's name.
        host: String,
        /// The path on the server.
        path: String,
        /// What happened.
        reason: String,
    },
    /// The server answered something that cannot be understood.
    #[error("{host}: unexpected answer: {reason}")]
    Protocol {
        /// The node's name.
        host: String,
        /// What was expected and what came.
        reason: String,
    },
}

impl HostError {
    /// Whether the same call may succeed when it is made again: the connection broke, nothing was refused.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connection { .. })
    }

    /// The last lines of output that belong to the failure, if there are any.
    pub fn tail(&self) -> Option<&str> {
        match self {
            Self::Failed { tail, .. } if !tail.is_empty() => Some(tail),
            _ => None,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Connection { .. } => Some(
                "check the address, the port and that sshd runs; `ssh -v` to the same host shows more".into(),
            ),
            Self::Login { .. } => Some(
                "set `ssh.user` and `ssh.key` of the node in project.yaml, load the key into your SSH agent, or give \
                 `ssh.password: ${secret:NAME}`"
                    .into(),
            ),
            Self::HostKey { hint, .. } => Some(hint.clone()),
            Self::Sudo { .. } => Some(
                "give the node's `ssh.sudoPassword: ${secret:NAME}`, allow the user to use sudo without a password, or \
                 log in as root"
                    .into(),
            ),
            Self::TimedOut { .. } => Some("look at the load of the server, then run the same command again".into()),
            Self::File { path, reason, .. } if reason.starts_with(NO_SPACE) => {
                let folder = path.rsplit_once('/').map(|(folder, _)| folder).filter(|f| !f.is_empty()).unwrap_or("/");
                Some(format!("free some space there (`df -h {folder}` shows how much there is), then run the same command again"))
            }
            Self::File { reason, .. } if reason.starts_with(READ_ONLY) => Some(
                "look at `dmesg` and /etc/fstab there: a disk with errors is mounted read-only; then run the same command \
                 again"
                    .into(),
            ),
            Self::Failed { .. } | Self::File { .. } | Self::Protocol { .. } => None,
        }
    }
}
