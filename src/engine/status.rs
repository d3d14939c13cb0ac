//! What `xgenctl status` tells of a module.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The state of a module. The names are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As project.yaml wants it, and healthy.
    Converged,
    /// There, but something differs.
    Drifted,
    /// Not there.
    Absent,
    /// There and as wanted, but not working.
    Unhealthy,
    /// Could not be seen.
    Unknown,
}

/// What `status` tells of one module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// The module's name.
    pub module: String,
    /// Its state.
    pub state: State,
    /// The version that runs, where it has one.
    pub version: Option<String>,
    /// The version project.yaml wants.
    pub wanted: Option<String>,
    /// More, by module: nodes, problems, addresses.
    pub details: Value,
}
