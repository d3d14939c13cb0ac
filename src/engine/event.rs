//! Everything that happens in a run, as one typed stream. The terminal, plain text, JSON, the run log and the journal are
//! consumers of it; nothing else prints.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::action::{Disruption, Reason};
use crate::secret::Redactor;

/// How a module (or an action) ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All was as wanted; nothing was done.
    Unchanged,
    /// Something was done and it is as wanted now; in a dry run: something would be done.
    Changed,
    /// A step failed.
    Failed,
    /// The operator left it out, or the run was interrupted before it.
    Skipped,
    /// What it requires failed, or a preflight check blocks.
    Blocked,
}

/// An action as events carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionInfo {
    /// Stable across runs: module, host, what it acts on.
    pub id: String,
    /// The node it acts on; `None` for the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// One line a person understands.
    pub summary: String,
    /// Why.
    pub reason: Reason,
    /// What it stops.
    pub disruption: Disruption,
    /// Unified diff, secrets masked, where the action changes text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// How a preflight check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLevel {
    /// Good.
    Pass,
    /// Could not be checked, or was left out by `--skip-check`.
    Skipped,
    /// The run goes on, but somebody should know.
    Warning,
    /// The run must not start.
    Block,
}

/// One preflight check on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Its name, for `--skip-check`.
    pub check: String,
    /// The node; `None` for a check across hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How it ended.
    pub level: CheckLevel,
    /// What was seen.
    pub seen: String,
    /// What to do about it; empty where it passed.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub fix: String,
}

/// A failure as events carry it: everything a person needs, on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureInfo {
    /// One line: what failed, on which host, with which command.
    pub message: String,
    /// The last lines of output that belong to it, or the diff that remained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// One thing that happened. The variants up to `RunFinished` are the JSON contract; the rest are for people and for the
/// run log only and never appear in `-o json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    RunStarted {
        /// Its id, as `xgenctl runs` lists it.
        run: String,
        /// The command: setup, node add …
        command: String,
        /// `project.name`.
        project: String,
        /// The modules that will run, in order.
        modules: Vec<String>,
        /// Whether nothing will be changed.
        dry_run: bool,
        /// Whether servers and cluster are simulated.
        rehearsal: bool,
    },
    /// A module observed and planned.
    ModulePlanned {
        /// The module.
        module: String,
        /// What it will do, in order.
        actions: Vec<ActionInfo>,
        /// How many things were looked at and are as wanted.
        unchanged: usize,
        /// What a person should know and xgenctl will not change by itself.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        notices: Vec<String>,
    },
    /// An action begins.
    ActionStarted {
        /// The module.
        module: String,
        /// The action's id.
        id: String,
        /// Its host.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// Its summary.
        summary: String,
    },
    /// An action ended.
    ActionFinished {
        /// The module.
        module: String,
        /// The action's id.
        id: String,
        /// Its host.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// Changed, unchanged (it was so already, or it only waited), failed, skipped (interrupted).
        outcome: Outcome,
        /// How long it took.
        ms: u64,
        /// Why it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<FailureInfo>,
    },
    /// A module ended.
    ModuleFinished {
        /// The module.
        module: String,
        /// How.
        outcome: Outcome,
        /// How long it took.
        ms: u64,
        /// Why it failed, if not because of an action that told so already; what blocks it.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<FailureInfo>,
        /// The results of the preflight checks (module `preflight` only).
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        checks: Vec<CheckResult>,
    },
    /// The run ended. Always the last event.
    RunFinished {
        /// Whether everything is as wanted.
        ok: bool,
        /// Actions that changed something (in a dry run: that would).
        changed: usize,
        /// Things looked at that were as wanted, and actions that found nothing to do.
        unchanged: usize,
        /// Actions that failed.
        failed: usize,
        /// How long it took.
        ms: u64,
        /// Why the run could not begin: a host cannot be reached, another run holds the lock.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<FailureInfo>,
        /// Addresses, credentials' places and next commands, for a person.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        next: Vec<String>,
    },
    /// Bytes moved by an action so far (download, upload).
    Progress {
        /// The module.
        module: String,
        /// The action's id.
        id: String,
        /// Its host.
        host: Option<String>,
        /// What moves: "download", "upload".
        what: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// Something worth a line: a retry, a wait that goes on, a connection that was made again.
    Note {
        /// The module, if it belongs to one.
        module: Option<String>,
        /// The node, if it belongs to one.
        host: Option<String>,
        /// One line.
        text: String,
    },
}

/// A consumer of events.
pub trait Reporter: Send {
    /// Takes one event; called in order, never concurrently.
    fn event(&mut self, event: &Event);
}

/// Where events are put. Cloning shares the stream; every text passes the redactor before any consumer sees it.
#[derive(Clone)]
pub struct EventSink {
    inner: Arc<std::sync::Mutex<Vec<Box<dyn Reporter>>>>,
    redactor: Redactor,
}

impl EventSink {
    /// A stream with its consumers.
    pub fn new(reporters: Vec<Box<dyn Reporter>>, redactor: Redactor) -> Self {
        Self { inner: Arc::new(std::sync::Mutex::new(reporters)), redactor }
    }

    /// The redactor, so that secrets made on the way can be taught to it.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Tells every consumer.
    pub fn send(&self, event: Event) {
        let event = self.redacted(event);
        let mut reporters = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        for reporter in reporters.iter_mut() {
            reporter.event(&event);
        }
    }

    /// Masks every string of the event, wherever it stands.
    fn redacted(&self, event: Event) -> Event {
        fn walk(value: &mut serde_json::Value, redactor: &Redactor) {
            match value {
                serde_json::Value::String(text) => *text = redactor.redact(text),
                serde_json::Value::Array(items) => items.iter_mut().for_each(|v| walk(v, redactor)),
                serde_json::Value::Object(map) => map.values_mut().for_each(|v| walk(v, redactor)),
                _ => {}
            }
        }
        let Ok(mut value) = serde_json::to_value(&event) else { return event };
        walk(&mut value, &self.redactor);
        serde_json::from_value(value).unwrap_or(event)
    }
}
