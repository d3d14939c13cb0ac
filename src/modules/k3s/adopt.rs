//! A K3s that was installed by other means (upstream's installer, an older script): what it is configured with, and
//! whether that is what project.yaml wants. Where it is, nothing at all is touched.

use serde_json::{Map, Value, json};

use super::config::{self, strings};
use crate::project::{Node, Project, Role};

/// What every unit that xgenctl wrote holds in its first line.
const MARK: &str = "Managed by xgenctl";

/// Whether a file that is there was written by xgenctl.
pub fn is_ours(text: &str) -> bool {
    text.contains(MARK)
}

/// Keys of environment variables that K3s reads, and what they configure.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("K3S_TOKEN", "token"),
    ("K3S_TOKEN_FILE", "token-file"),
    ("K3S_URL", "server"),
    ("K3S_NODE_NAME", "node-name"),
    ("K3S_KUBECONFIG_MODE", "write-kubeconfig-mode"),
    ("K3S_KUBECONFIG_OUTPUT", "write-kubeconfig"),
    ("K3S_DATASTORE_ENDPOINT", "datastore-endpoint"),
    ("K3S_AGENT_TOKEN", "agent-token"),
    ("K3S_CLUSTER_INIT", "cluster-init"),
];

/// What a K3s is configured with in effect: configuration file, then environment, then the flags of its unit.
pub fn effective(unit: &str, file: Option<&str>, environment: Option<&str>) -> Map<String, Value> {
    let mut config = file.and_then(config::parse).unwrap_or_default();
    for line in environment.unwrap_or_default().lines() {
        let Some((name, value)) = line.trim().split_once('=') else { continue };
        if let Some((_, key)) = ENVIRONMENT.iter().find(|(n, _)| *n == name) {
            config.insert((*key).to_owned(), json!(value.trim_matches(['\'', '"'])));
        }
    }
    let mut words = exec_start(unit).into_iter().skip(2).peekable();
    while let Some(word) = words.next() {
        let Some(flag) = long_flag(&word) else { continue };
        let (key, value) = match flag.split_once('=') {
            Some((key, value)) => (key.to_owned(), json!(value)),
            None => match words.next_if(|next| !next.starts_with('-')) {
                Some(value) => (flag, json!(value)),
                None => (flag, json!(true)),
            },
        };
        add(&mut config, key, value);
    }
    // A list may come as one value with commas.
    for key in ["disable", "tls-san", "node-label", "node-taint"] {
        if let Some(value) = config.get(key) {
            let items: Vec<String> =
                strings(Some(value)).iter().flat_map(|v| v.split(',')).map(str::to_owned).collect();
            config.insert(key.to_owned(), json!(items));
        }
    }
    config
}

/// The long form of a flag, without its dashes.
fn long_flag(word: &str) -> Option<String> {
    match word {
        "-t" => Some("token".into()),
        "-s" => Some("server".into()),
        "-d" => Some("data-dir".into()),
        _ => word.strip_prefix("--").map(str::to_owned),
    }
}

/// A flag given twice is a list.
fn add(config: &mut Map<String, Value>, key: String, value: Value) {
    match config.get_mut(&key) {
        Some(Value::Array(items)) => items.push(value),
        Some(first) if *first != value => *first = json!([first.clone(), value]),
        Some(_) => {}
        None => {
            config.insert(key, value);
        }
    }
}

/// The words of `ExecStart=`, its continued lines joined and its quotes taken off.
fn exec_start(unit: &str) -> Vec<String> {
    let joined = unit.replace("\\\n", " ");
    let line = joined.lines().find_map(|l| l.trim().strip_prefix("ExecStart=")).unwrap_or_default();
    let mut words = Vec::new();
    let (mut word, mut quote, mut started) = (String::new(), None, false);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.push(c),
            ('\'' | '"', None) => (quote, started) = (Some(c), true),
            (c, None) if c.is_whitespace() => {
                if started || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            (c, None) => word.push(c),
        }
    }
    if started || !word.is_empty() {
        words.push(word);
    }
    words
}

/// What project.yaml asks for and the K3s that is there lacks, one line each. Empty: it is taken as it is.
///
/// Only what somebody asked for counts: node names, addresses and modes that xgenctl would choose for a new node do not.
pub fn gaps(project: &Project, node: &Node, effective: &Map<String, Value>) -> Vec<String> {
    let mut asked: Map<String, Value> = Map::new();
    if node.role == Role::Server {
        asked.insert("disable".into(), json!(["servicelb", "traefik"]));
    }
    asked.extend(project.k3s.config.clone());
    asked.extend(node.config.clone());
    let known = config::for_role(node.role, asked);
    known
        .iter()
        .filter(|(key, value)| !covers(key, effective.get(key.as_str()), value))
        .map(|(key, value)| match effective.get(key.as_str()) {
            Some(has) => format!("{key} is {has}, project.yaml wants {value}"),
            None => format!("{key} is not set, project.yaml wants {value}"),
        })
        .collect()
}

/// Whether what is there contains what is wanted.
fn covers(key: &str, has: Option<&Value>, wanted: &Value) -> bool {
    match (has, wanted) {
        (Some(has), Value::Array(_)) => {
            let has = strings(Some(has));
            strings(Some(wanted)).iter().all(|w| has.contains(w))
        }
        (Some(has), _) => config::same_value(key, has, wanted),
        (None, _) => *wanted == json!(false),
    }
}

/// The configuration with which xgenctl takes such a K3s over: all it had, and over that all that is wanted.
pub fn take_over(effective: Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
    let mut config = effective;
    for (key, value) in wanted {
        let merged = match (config.get(key), value) {
            (Some(has), Value::Array(_)) => {
                let all: std::collections::BTreeSet<_> =
                    strings(Some(has)).into_iter().chain(strings(Some(value))).collect();
                json!(all)
            }
            _ => value.clone(),
        };
        config.insert(key.clone(), merged);
    }
    config
}
