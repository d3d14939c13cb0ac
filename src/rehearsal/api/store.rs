//! The objects of a simulated cluster, their versions, and what changed lately (for watches).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kinds::Kind;

/// How many changes a watch may lag behind before it has to list again.
const LOG_LENGTH: usize = 4096;

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The resourceVersion that it made.
    pub version: u64,
    /// Key of the kind.
    pub kind: String,
    /// The object before; `None` where it is new.
    pub before: Option<Value>,
    /// The object after; `None` where it was removed.
    pub after: Option<Value>,
}

/// Everything a cluster's API serves. Serialisable: a rehearsal keeps it between runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Store {
    /// Version of Kubernetes, such as `v1.36.5+k3s1`.
    pub version: String,
    /// Milliseconds since 1970 on the simulated clock, as of the last operation.
    pub now_ms: i64,
    resource_version: u64,
    next_uid: u64,
    next_address: u32,
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// What the controllers do next: when, to which kind, to which object.
    pending: BTreeSet<(i64, String, String)>,
    #[serde(skip)]
    log: VecDeque<Change>,
}

/// The key of an object within its kind.
pub fn object_key(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// The key of an object, from its metadata.
pub fn key_of(object: &Value) -> String {
    let metadata = &object["metadata"];
    object_key(metadata["namespace"].as_str(), metadata["name"].as_str().unwrap_or_default())
}

impl Store {
    /// An empty store of a cluster of that version.
    pub fn new(version: &str, now_ms: i64) -> Self {
        Self { version: version.to_owned(), now_ms, resource_version: 1, ..Self::default() }
    }

    /// The newest resourceVersion.
    pub fn resource_version(&self) -> u64 {
        self.resource_version
    }

    /// The clock as the API writes times.
    pub fn timestamp(&self) -> String {
        timestamp(self.now_ms)
    }

    /// One object.
    pub fn get(&self, kind: &str, key: &str) -> Option<&Value> {
        self.objects.get(kind)?.get(key)
    }

    /// All objects of a kind, by key.
    pub fn list(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    /// Every kind's key with its objects.
    pub fn everything(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.objects.iter().flat_map(|(kind, objects)| objects.values().map(move |o| (kind.as_str(), o)))
    }

    /// Gives a new object its uid, creation time and first generation.
    pub fn stamp(&mut self, object: &mut Value) {
        self.next_uid += 1;
        object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", self.next_uid));
        object["metadata"]["creationTimestamp"] = json!(self.timestamp());
    }

    /// The next address of the service network, or a node port, counted from one number.
    pub fn next_number(&mut self) -> u32 {
        self.next_address += 1;
        self.next_address
    }

    /// The number that [`Store::next_number`] gave last.
    pub fn numbers(&self) -> u32 {
        self.next_address
    }

    /// Gives numbers back that were only tried.
    pub fn set_numbers(&mut self, last: u32) {
        self.next_address = last;
    }

    /// Stores an object, new or changed; returns it with its new resourceVersion.
    pub fn put(&mut self, kind: &str, mut object: Value) -> Value {
        self.resource_version += 1;
        object["metadata"]["resourceVersion"] = json!(self.resource_version.to_string());
        let before = self.objects.entry(kind.to_owned()).or_default().insert(key_of(&object), object.clone());
        self.record(kind, before, Some(object.clone()));
        object
    }

    /// Removes an object.
    pub fn remove(&mut self, kind: &str, key: &str) -> Option<Value> {
        let mut before = self.objects.get_mut(kind)?.remove(key)?;
        self.resource_version += 1;
        self.record(kind, Some(before.clone()), None);
        before["metadata"]["resourceVersion"] = json!(self.resource_version.to_string());
        Some(before)
    }

    /// Changes an object in place, if it is there and the change is one. The way of controllers.
    pub fn modify(&mut self, kind: &str, key: &str, change: impl FnOnce(&mut Value)) -> bool {
        let Some(before) = self.get(kind, key) else { return false };
        let mut after = before.clone();
        change(&mut after);
        if *before == after {
            return false;
        }
        self.put(kind, after);
        true
    }

    /// Puts an object there as the cluster itself would, if there is none; returns whether it did.
    pub fn ensure(&mut self, kind: &Kind, mut object: Value) -> bool {
        if self.get(&kind.key(), &key_of(&object)).is_some() {
            return false;
        }
        self.stamp(&mut object);
        self.put(&kind.key(), object);
        true
    }

    fn record(&mut self, kind: &str, before: Option<Value>, after: Option<Value>) {
        self.log.push_back(Change { version: self.resource_version, kind: kind.to_owned(), before, after });
        while self.log.len() > LOG_LENGTH {
            self.log.pop_front();
        }
    }

    /// The changes after a resourceVersion; `None` where they are no longer known.
    pub fn changes_since(&self, version: u64) -> Option<impl Iterator<Item = &Change>> {
        let oldest_known = self.resource_version - self.log.len() as u64;
        (version >= oldest_known).then(|| self.log.iter().filter(move |c| c.version > version))
    }

    /// Has the controllers look at an object in `delay_ms`.
    pub fn schedule(&mut self, delay_ms: i64, kind: &str, key: &str) {
        self.pending.insert((self.now_ms + delay_ms, kind.to_owned(), key.to_owned()));
    }

    /// When the controllers have something to do next.
    pub fn next_due(&self) -> Option<i64> {
        self.pending.first().map(|(due, _, _)| *due)
    }

    /// What is due until `now_ms`, the earliest first; moves the clock to its time.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<(String, String)> {
        if self.next_due().is_none_or(|due| due > now_ms) {
            return None;
        }
        let (due, kind, key) = self.pending.pop_first()?;
        self.now_ms = self.now_ms.max(due);
        Some((kind, key))
    }
}

/// Milliseconds since 1970 as the API writes times: whole seconds, UTC.
pub fn timestamp(ms: i64) -> String {
    Timestamp::from_second(ms.div_euclid(1000)).map(|t| t.to_string()).unwrap_or_default()
}
