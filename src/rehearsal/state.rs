//! What a rehearsed world consists of: hosts with files and units, clusters, and what happens next. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::api::Store;
use crate::host::{Facts, FileKind};

/// Where the simulated clock of a new world stands: 2026-01-01T00:00:00Z, in milliseconds since 1970.
pub const EPOCH_MS: i64 = 1_767_225_600_000;

/// The whole world.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// The simulated clock, milliseconds since 1970.
    pub now_ms: i64,
    /// Servers by the name that project.yaml gives them.
    pub hosts: BTreeMap<String, HostState>,
    /// Clusters by id: what the datastores of servers hold.
    pub clusters: BTreeMap<String, ClusterState>,
    /// What happens by itself: when, in which order, what.
    pub agenda: BTreeSet<(i64, u64, Happening)>,
    /// Counts everything that needs a unique number.
    pub counter: u64,
}

/// Something that happens by itself at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Happening {
    /// A unit's process comes to its next step.
    Unit {
        /// The host.
        host: String,
        /// The unit.
        unit: String,
        /// Which start of the unit this belongs to; an older one's steps no longer happen.
        generation: u64,
        /// The step.
        step: Step,
    },
    /// The control plane misses a kubelet.
    NodeLost {
        /// The host.
        host: String,
    },
}

/// The steps from a unit's start to a Ready node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// systemd executes the program, which reads its configuration.
    Exec,
    /// K3s finds its cluster: its own data, or the server it is told.
    Join,
    /// K3s serves.
    Up,
    /// The kubelet registers its node.
    Register,
    /// The node becomes Ready.
    Ready,
    /// systemd starts the unit again after it ended.
    Restart,
}

/// One simulated server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostState {
    /// What a probe says of the machine; what changes with time is filled in when it is asked.
    pub facts: Facts,
    /// Its address.
    pub address: String,
    /// Other names and addresses it is known by.
    pub aliases: BTreeSet<String>,
    /// Whether xgenctl can connect at all (nodes with `join: manual` cannot be reached).
    pub reachable: bool,
    /// Until when no connection succeeds, in milliseconds since 1970.
    pub down_until_ms: i64,
    /// Everything in the file system that matters, by absolute path.
    pub files: BTreeMap<String, FileState>,
    /// What systemd has loaded, by unit.
    pub units: BTreeMap<String, UnitState>,
    /// The process id given last.
    pub last_pid: u32,
    /// When a unit's process ended last, in milliseconds since 1970.
    pub silent_since_ms: i64,
}

/// Something at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// File, folder or link.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
    /// Content of a file.
    #[serde(with = "text_or_base64")]
    pub content: Vec<u8>,
    /// Target of a link.
    pub target: Option<String>,
}

/// What systemd knows of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// The unit file as it was at the last daemon-reload.
    pub loaded: String,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `MainPID`.
    pub main_pid: u32,
    /// `NRestarts`.
    pub restarts: u32,
    /// Counts the starts.
    pub generation: u64,
    /// The next start fails once, whatever its configuration.
    pub fails_once: bool,
    /// The last lines of its journal.
    pub journal: Vec<String>,
}

/// What the datastore of a cluster holds, and what identifies it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClusterState {
    /// SHA-256 of its CA, in hexadecimal: part of every token.
    pub ca_hash: String,
    /// The password that servers join with.
    pub password: String,
    /// The password that agents may join with besides, if one is set.
    pub agent_password: Option<String>,
    /// The bearer token of the administrator's kubeconfig.
    pub admin_token: String,
    /// Whether its datastore is embedded etcd.
    pub etcd: bool,
    /// Its servers: the host, and the node's name once that registered.
    pub members: BTreeMap<String, Option<String>>,
    /// The server that is joining now; etcd takes one at a time.
    pub joining: Option<String>,
    /// Its objects; in memory the running API has them.
    pub store: Store,
}

impl State {
    /// The next unique number.
    pub fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Has something happen in `delay_ms`.
    pub fn schedule(&mut self, delay_ms: i64, happening: Happening) {
        let number = self.number();
        self.agenda.insert((self.now_ms + delay_ms, number, happening));
    }

    /// The host that an address or a name belongs to, as seen from `from`.
    pub fn resolve(&self, from: &str, address: &str) -> Option<&str> {
        if matches!(address, "127.0.0.1" | "localhost" | "::1") {
            return self.hosts.get_key_value(from).map(|(name, _)| name.as_str());
        }
        self.hosts
            .iter()
            .find(|(name, host)| *name == address || host.address == address || host.aliases.contains(address))
            .map(|(name, _)| name.as_str())
    }
}

/// Bytes as text where they are UTF-8, else in base64: state files stay readable.
mod text_or_base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Form {
        Text(String),
        Base64(String),
    }

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Form::Text(text.to_owned()),
            Err(_) => Form::Base64(STANDARD.encode(bytes)),
        }
        .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(text.into_bytes()),
            Form::Base64(text) => STANDARD.decode(text).map_err(serde::de::Error::custom),
        }
    }
}
