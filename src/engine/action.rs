//! Actions: what a plan is made of. Plain data from a small closed set; performing one twice is the same as once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::project::Taint;

/// Why an action is in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is not there yet.
    Missing,
    /// It is there, but differs from what project.yaml wants.
    Drifted,
    /// It would be left alone, but `--force` was given.
    Forced,
    /// An earlier run was cut short here.
    Interrupted,
    /// Something it depends on changes in this plan.
    Required,
    /// project.yaml does not want it any more.
    Unwanted,
}

/// What an action stops while it runs, the most disruptive last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disruption {
    /// Nothing.
    None,
    /// A unit restarts; running pods stay.
    Restart,
    /// Pods of a node or a workload move or restart.
    Workloads,
    /// Data or a node goes away.
    Destructive,
}

/// The bytes of a file. Serialised and printed only as a digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl Content {
    /// SHA-256 in hexadecimal.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.0))
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.sha256())
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("sha256:{}", self.sha256()))
    }
}

/// What an action does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Operation {
    /// Writes a file on a host.
    PutFile {
        /// Absolute path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// What it will hold.
        content: Content,
        /// The unit that has to be restarted afterwards.
        restarts: Option<String>,
    },
    /// Fetches an artifact (cache, else download), checks it, and puts it on a host.
    InstallArtifact {
        /// Which one.
        artifact: crate::artifact::Artifact,
        /// Absolute path on the host.
        path: String,
        /// Permission bits.
        mode: u32,
        /// The unit that has to be restarted afterwards.
        restarts: Option<String>,
    },
    /// Makes a symbolic link on a host.
    Link {
        /// Where the link is.
        path: String,
        /// What it points to.
        target: String,
    },
    /// Removes files and folders on a host.
    Remove {
        /// Absolute paths.
        paths: Vec<String>,
    },
    /// Enables a unit and starts it, or restarts it, and waits until it is active.
    RunUnit {
        /// Full unit name.
        unit: String,
        /// Restart even if it runs.
        restart: bool,
        /// How long it may take, in seconds.
        timeout_secs: u64,
    },
    /// Waits until the API answers and the node of that name is registered and Ready.
    WaitNodeReady {
        /// The Kubernetes node.
        node: String,
        /// How long it may take, in seconds.
        timeout_secs: u64,
    },
    /// Sets or removes labels and taints of a Kubernetes node.
    PatchNode {
        /// The Kubernetes node.
        node: String,
        /// Labels to set; `None` removes one.
        labels: BTreeMap<String, Option<String>>,
        /// All taints it will have afterwards, besides those Kubernetes sets; `None` leaves them alone.
        taints: Option<Vec<Taint>>,
    },
    /// Marks a node unschedulable and evicts its pods, respecting PodDisruptionBudgets.
    DrainNode {
        /// The Kubernetes node.
        node: String,
        /// How long it may take, in seconds.
        timeout_secs: u64,
    },
    /// Deletes a Kubernetes node and its node-password secret.
    DeleteNode {
        /// The Kubernetes node.
        node: String,
    },
    /// Stops K3s on a host and removes everything it left there.
    CleanHost {
        /// The K3s unit of that host.
        unit: String,
    },
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Action {
    /// Stable across runs, unique in a plan: `<host>/<what>`, such as `master/put:/etc/rancher/k3s/config.yaml`.
    pub id: String,
    /// The node it runs on; `None` for the cluster.
    pub host: Option<String>,
    /// One line a person understands, in the imperative: "write /etc/rancher/k3s/config.yaml".
    pub summary: String,
    /// Why it is in the plan.
    pub reason: Reason,
    /// What it stops.
    pub disruption: Disruption,
    /// Unified diff, where it changes text.
    pub diff: Option<String>,
    /// What it does.
    pub operation: Operation,
}

impl Action {
    /// Whether it only waits and changes nothing itself.
    pub fn is_wait(&self) -> bool {
        matches!(self.operation, Operation::WaitNodeReady { .. })
    }
}

/// Lanes that run side by side; the actions of a lane run one after another.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stage {
    /// One list per host, usually.
    pub lanes: Vec<Vec<Action>>,
}

/// What a module would do: stages one after another.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Plan {
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// What was looked at and is as wanted, one line each.
    pub unchanged: Vec<String>,
    /// What a person should know and xgenctl will not change by itself.
    pub notices: Vec<String>,
    /// Why the module cannot go on at all, with what to do; nothing is done then.
    pub refusals: Vec<String>,
}

impl Plan {
    /// All actions, in the order a person reads them.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.stages.iter().flat_map(|s| &s.lanes).flatten()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.actions().next().is_none()
    }
}
