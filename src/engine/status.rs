//! What `xgenctl status` found: the contract of its JSON, and the ground of its text.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a module stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleState {
    /// As project.yaml wants it, and healthy.
    Converged,
    /// There, but `setup` would change something.
    Drifted,
    /// Not there.
    Absent,
    /// As wanted, but it does not work.
    Unhealthy,
    /// It could not be seen; the details say why.
    Unknown,
}

/// One module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// Its name.
    pub module: String,
    /// How it stands.
    pub state: ModuleState,
    /// The version that runs; `null` where it has none or it is not known.
    pub version: Option<String>,
    /// The version that project.yaml wants.
    pub wanted: Option<String>,
    /// What else was seen. Values are texts, numbers, lists of texts, or lists of objects with the same keys (a table,
    /// such as `nodes`).
    pub details: Map<String, Value>,
}

impl ModuleStatus {
    /// A status without versions and details.
    pub fn new(module: impl Into<String>, state: ModuleState) -> Self {
        Self { module: module.into(), state, version: None, wanted: None, details: Map::new() }
    }

    /// Adds a detail.
    pub fn detail(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.details.insert(key.into(), value.into());
        self
    }
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// `project.name`.
    pub project: String,
    /// Whether every module is converged.
    pub converged: bool,
    /// The modules, in the order they are set up.
    pub modules: Vec<ModuleStatus>,
}

impl StatusReport {
    /// The answer for these modules.
    pub fn new(project: impl Into<String>, modules: Vec<ModuleStatus>) -> Self {
        let converged = modules.iter().all(|m| m.state == ModuleState::Converged);
        Self { project: project.into(), converged, modules }
    }
}
