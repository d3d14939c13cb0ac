//! The Kubernetes API, through a tunnel that the server's transport opens: no port of it need be reachable from here.

pub mod connect;
pub mod kubeconfig;
pub mod nodes;

use thiserror::Error;

pub use connect::connect;
pub use nodes::{NodeSeen, NodesSeen};

/// Why something asked of the Kubernetes API failed.
#[derive(Debug, Clone, Error)]
#[error("Kubernetes API: {operation}: {reason}")]
pub struct ClusterError {
    /// What was asked: "list nodes".
    pub operation: String,
    /// What came back.
    pub reason: String,
    /// Whether asking again may help: no connection, 429, 5xx.
    pub transient: bool,
    /// What to do.
    pub hint: Option<String>,
}

impl ClusterError {
    /// Wraps an error of the client with what was being done.
    pub fn new(operation: impl Into<String>, error: &kube::Error) -> Self {
        let (reason, transient) = match error {
            kube::Error::Api(status) => {
                let transient = status.code == 429 || status.code >= 500;
                (format!("{} ({})", status.message, status.code), transient)
            }
            // Everything but an answer of the API is trouble on the way to it.
            other => (chain(other), true),
        };
        Self { operation: operation.into(), reason, transient, hint: None }
    }

    /// The API did not answer a request in time.
    pub fn no_answer(operation: impl Into<String>, after: std::time::Duration) -> Self {
        let reason = format!("no answer within {} s", after.as_secs());
        Self { operation: operation.into(), reason, transient: true, hint: None }
    }

    /// An error of our own, such as a kubeconfig that makes no sense.
    pub fn local(operation: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { operation: operation.into(), reason: reason.into(), transient: false, hint: None }
    }
}

/// An error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
