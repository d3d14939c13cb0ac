//! Labels and taints of a node that is registered already: K3s applies those of its configuration only once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::config::strings;
use crate::cluster::NodeSeen;
use crate::project::{Node, Taint};

/// What has to change on a registered node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Labels to set; `None` removes one.
    pub labels: BTreeMap<String, Option<String>>,
    /// All taints afterwards, where they change.
    pub taints: Option<Vec<Taint>>,
}

impl Changes {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.taints.is_none()
    }

    /// One line for a person.
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> = self
            .labels
            .iter()
            .map(|(key, value)| match value {
                Some(value) => format!("label {key}={value}"),
                None => format!("no label {key}"),
            })
            .collect();
        if let Some(taints) = &self.taints {
            let all = taints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            parts.push(if all.is_empty() { "no taints".into() } else { format!("taints {all}") });
        }
        parts.join(", ")
    }
}

/// Compares a registered node with what is wanted. `previous` is the configuration that is on the host now: what it
/// asked for and project.yaml does not want any more is taken away; what others put on the node stays.
pub fn changes(node: &Node, wanted: &Map<String, Value>, previous: &Map<String, Value>, seen: &NodeSeen) -> Changes {
    let mut labels: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut wanted_labels: BTreeMap<String, String> = key_values(wanted.get("node-label"));
    wanted_labels.extend(node.labels.clone());
    for key in key_values(previous.get("node-label")).into_keys() {
        if !wanted_labels.contains_key(&key) && seen.labels.contains_key(&key) {
            labels.insert(key, None);
        }
    }
    for (key, value) in wanted_labels {
        if seen.labels.get(&key) != Some(&value) {
            labels.insert(key, Some(value));
        }
    }
    let mut wanted_taints: BTreeSet<Taint> = taints(wanted.get("node-taint"));
    wanted_taints.extend(node.taints.iter().cloned());
    let dropped: BTreeSet<Taint> = taints(previous.get("node-taint")).difference(&wanted_taints).cloned().collect();
    let before: BTreeSet<Taint> = seen.taints.iter().cloned().collect();
    let mut after: BTreeSet<Taint> = before.difference(&dropped).cloned().collect();
    // A taint is known by key and effect: another value replaces it.
    after.retain(|t| !wanted_taints.iter().any(|w| w.key == t.key && w.effect == t.effect));
    after.extend(wanted_taints);
    let taints = (after != before).then(|| after.into_iter().collect());
    Changes { labels, taints }
}

fn key_values(value: Option<&Value>) -> BTreeMap<String, String> {
    strings(value)
        .into_iter()
        .map(|label| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (label, String::new()),
        })
        .collect()
}

fn taints(value: Option<&Value>) -> BTreeSet<Taint> {
    strings(value)
        .into_iter()
        .filter_map(|text| {
            let (rest, effect) = text.rsplit_once(':')?;
            let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
            Some(Taint { key: key.into(), value: value.into(), effect: effect.into() })
        })
        .collect()
}
