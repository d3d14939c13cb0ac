//! What tests ask of a rehearsed world when a run is over.

use serde_json::{Map, Value, json};

use super::world::World;

/// Fields of objects that differ from run to run though the state is the same.
const FLEETING: &[&str] = &[
    "uid",
    "resourceVersion",
    "generation",
    "managedFields",
    "creationTimestamp",
    "observedGeneration",
    "lastTransitionTime",
    "lastHeartbeatTime",
    "startTime",
    "startedAt",
    "clusterIP",
    "clusterIPs",
    "podIP",
    "podIPs",
    "podCIDR",
    "podCIDRs",
    "ownerReferences",
    "hash",
];

fn normalise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !FLEETING.contains(&key.as_str()));
            map.values_mut().for_each(normalise);
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        _ => {}
    }
}

impl World {
    /// The whole end state in a form that is equal for equal states: files, units, objects, without process ids, times,
    /// uids, versions, and without secrets that K3s makes up by itself.
    pub fn fingerprint(&self) -> Value {
        self.settle();
        let state = self.snapshot();
        let mut hosts = Map::new();
        for (name, host) in &state.hosts {
            let mut files = Map::new();
            for (path, file) in host.files.iter().filter(|(path, _)| !is_fleeting(path)) {
                let content = if is_made_up(path) {
                    "made up by K3s".into()
                } else {
                    without_tokens(&String::from_utf8_lossy(&file.content))
                };
                files.insert(
                    path.clone(),
                    json!({ "kind": file.kind, "mode": format!("{:o}", file.mode), "owner": file.owner, "group": file.group,
                            "content": content, "target": file.target }),
                );
            }
            let units: Map<String, Value> = host
                .units
                .iter()
                .map(|(unit, known)| {
                    let stale =
                        host.read_text(&super::systemd::unit_path(unit)).as_deref() != Some(known.loaded.as_str());
                    let value =
                        json!({ "active": known.active, "sub": known.sub, "enabled": known.enabled, "stale": stale });
                    (unit.clone(), value)
                })
                .collect();
            hosts.insert(name.clone(), json!({ "files": files, "units": units }));
        }
        // Clusters that no server holds any more are garbage of the simulation.
        let held: Vec<String> =
            state.hosts.values().filter_map(super::k3s::start::datastore).map(|found| found.cluster).collect();
        let clusters: Vec<Value> = state
            .clusters
            .iter()
            .filter(|(id, _)| held.contains(id))
            .map(|(_, cluster)| {
                let mut objects = Map::new();
                for (kind, object) in cluster.store.everything() {
                    let mut object = object.clone();
                    normalise(&mut object);
                    objects.insert(format!("{kind} {}", super::api::key_of(&object)), object);
                }
                let members: Vec<&String> = cluster.members.keys().collect();
                json!({ "etcd": cluster.etcd, "members": members, "version": cluster.store.version, "objects": objects })
            })
            .collect();
        json!({ "hosts": hosts, "clusters": clusters })
    }

    /// Temporary files of uploads that are still there, as `host:path`.
    pub fn leftovers(&self) -> Vec<String> {
        self.see(|state| {
            let temporary = |path: &&String| path.ends_with(".xgenctl-tmp") || path.ends_with(".xgenctl-part");
            state
                .hosts
                .iter()
                .flat_map(|(name, host)| host.files.keys().filter(temporary).map(move |path| format!("{name}:{path}")))
                .collect()
        })
    }

    /// Every simulated secret that must not be seen outside of files: join tokens, administrators' tokens, node passwords.
    pub fn secrets(&self) -> Vec<String> {
        self.see(|state| {
            let mut all = Vec::new();
            for cluster in state.clusters.values() {
                all.push(cluster.password.clone());
                all.push(cluster.admin_token.clone());
                all.extend(cluster.agent_password.clone());
            }
            for host in state.hosts.values() {
                all.extend(host.read_text("/etc/rancher/node/password").map(|t| t.trim().to_owned()));
            }
            all.retain(|secret| !secret.is_empty());
            all
        })
    }

    /// `MainPID` of every unit that runs, as `host/unit`: equal before and after a run that restarts nothing.
    pub fn main_pids(&self) -> std::collections::BTreeMap<String, u32> {
        self.see(|state| {
            state
                .hosts
                .iter()
                .flat_map(|(name, host)| host.units.iter().map(move |(unit, u)| (format!("{name}/{unit}"), u.main_pid)))
                .filter(|(_, pid)| *pid != 0)
                .collect()
        })
    }
}

/// What belongs to one run of the machine or of a program.
fn is_fleeting(path: &str) -> bool {
    matches!(path, "/run/xgenctl/lock" | "/run/xgenctl/holder" | "/run/xgenctl")
}

/// Files whose content K3s draws at random, or that hold it.
fn is_made_up(path: &str) -> bool {
    path == "/etc/rancher/node/password"
        || path == "/etc/rancher/k3s/k3s.yaml"
        || path.starts_with("/var/lib/rancher/k3s/server/")
}

/// The text without join tokens, which may have been drawn at random for this cluster.
fn without_tokens(text: &str) -> String {
    let mask = |line: &str| match line.split_once(':') {
        Some((key, _)) if matches!(key.trim(), "token" | "agent-token") => format!("{key}: a token"),
        _ => line.to_owned(),
    };
    text.lines().map(mask).collect::<Vec<_>>().join("\n")
}
