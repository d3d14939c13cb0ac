//! Why a step failed, with everything a person needs to go on.

use std::time::Duration;

use thiserror::Error;

use super::event::FailureInfo;
use crate::artifact::FetchError;
use crate::cluster::ClusterError;
use crate::host::HostError;

/// Why an observation or an action failed.
#[derive(Debug, Clone, Error)]
pub enum StepError {
    /// A server could not be reached or refused something.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Several servers could not be reached or refused something.
    #[error("{} hosts cannot be used: {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Hosts(Vec<HostError>),
    /// An artifact could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The Kubernetes API refused something or does not answer.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Something did not become true in time.
    #[error("{what} within {} s", .after.as_secs())]
    TimedOut {
        /// What was waited for and did not come: "node master did not become Ready".
        what: String,
        /// How long was waited.
        after: Duration,
        /// What was seen last: conditions, the unit's last journal lines.
        last: String,
    },
    /// What has to be there first is not.
    #[error("{message}")]
    Refused {
        /// What is missing or in the way.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// After acting, something still differs from what is wanted.
    #[error("{count} of its actions did not last: after acting, the same is still to be done")]
    NotConverged {
        /// How many actions remain.
        count: usize,
        /// What remains, with diffs.
        remains: String,
    },
    /// The operator interrupted the run.
    #[error("interrupted")]
    Interrupted,
    /// Another run holds the lock of the cluster.
    #[error("another run holds the lock on {host}: {holder}")]
    Locked {
        /// The server that holds the lock.
        host: String,
        /// Who, what, since when.
        holder: String,
    },
}

impl StepError {
    /// One error for what went wrong on one or several hosts; `None` where nothing did.
    pub fn of_hosts(mut errors: Vec<HostError>) -> Option<Self> {
        match errors.len() {
            0 => None,
            1 => errors.pop().map(Self::Host),
            _ => Some(Self::Hosts(errors)),
        }
    }

    /// Whether the same step may succeed when it is tried again at once.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Host(error) => error.is_transient(),
            Self::Cluster(error) => error.transient,
            _ => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Host(error) => error.hint(),
            Self::Hosts(errors) => errors.iter().find_map(HostError::hint),
            Self::Cluster(error) => error.hint.clone(),
            Self::Fetch(error) => error.hint(),
            Self::TimedOut { .. } => Some(
                "the lines above are the last ones of its log; once the cause is gone, run the same command again"
                    .into(),
            ),
            Self::Refused { hint, .. } => hint.clone(),
            Self::NotConverged { .. } => {
                Some("something else changes it back, or the server accepts the change without effect".into())
            }
            Self::Interrupted => Some("run the same command again to finish".into()),
            Self::Locked { .. } => Some("wait until it ends; a run that died frees the lock within a minute".into()),
        }
    }

    /// The failure as events carry it.
    pub fn info(&self) -> FailureInfo {
        let output = match self {
            Self::Host(error) => error.tail().map(str::to_owned),
            Self::TimedOut { last, .. } if !last.is_empty() => Some(last.clone()),
            Self::NotConverged { remains, .. } => Some(remains.clone()),
            _ => None,
        };
        FailureInfo { message: self.to_string(), output, hint: self.hint() }
    }
}
