//! A host as a node of its cluster: the node password, the Node object, its readiness.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::config::{Config, parse_unit};
use super::start::datastore;
use crate::engine::action::hex;
use crate::rehearsal::api::{Api, timestamp};
use crate::rehearsal::state::State;
use crate::rehearsal::systemd::{NODE_LOST_MS, running_k3s};
use crate::rehearsal::world::World;

const PASSWORD: &str = "/etc/rancher/node/password";
/// The field manager of what K3s writes.
const MANAGER: &str = "k3s";

/// The name of a host's node.
fn name(state: &State, host: &str, config: &Config) -> String {
    let hostname = state.hosts.get(host).map(|h| h.facts.hostname.clone()).unwrap_or_default();
    config.one("node-name").map(str::to_owned).unwrap_or(hostname).to_lowercase()
}

/// Checks the node's password against the one the cluster knows; a node without one makes one up, and a cluster that
/// does not know the node remembers it.
///
/// # Errors
/// The journal line of the agent.
pub fn admit(api: &Api, state: &mut State, host: &str, config: &Config) -> Result<(), String> {
    let name = name(state, host, config);
    let number = state.number();
    let Some(machine) = state.hosts.get_mut(host) else { return Err("no such host".into()) };
    let password = match machine.read_text(PASSWORD) {
        Some(text) => text.trim().to_owned(),
        None => {
            let fresh = hex(&Sha256::digest(format!("node password {host} {number}")))[..32].to_owned();
            machine.write(PASSWORD, 0o600, format!("{fresh}\n"));
            fresh
        }
    };
    admit_node(api, &name, &password).map_err(|reason| {
        format!(
            "level=info msg={:?}",
            format!("Waiting to retrieve agent configuration; server is not ready: {reason}")
        )
    })
}

/// What a K3s server does with the password of a node that wants in.
///
/// # Errors
/// The words of the refusal.
pub fn admit_node(api: &Api, name: &str, password: &str) -> Result<(), String> {
    let hash = format!("$1:{}", hex(&Sha256::digest(format!("{name}:{password}"))));
    let secret = format!("{name}.node-password.k3s");
    let known = api.look(|store| store.get("/secrets", &format!("kube-system/{secret}")).cloned());
    match known {
        Some(known) if known["data"]["hash"] == STANDARD.encode(&hash) => Ok(()),
        Some(_) => Err(format!(
            "Node password rejected, duplicate hostname or contents of '{PASSWORD}' may not match server node-passwd \
             entry, try enabling a unique node name with the --with-node-id flag"
        )),
        None => {
            let object = json!({
                "metadata": { "name": secret, "namespace": "kube-system" },
                "type": "Opaque", "immutable": true, "data": { "hash": STANDARD.encode(&hash) },
            });
            api.create_as(MANAGER, "v1", "secrets", object).map(|_| ()).map_err(|failure| failure.message)
        }
    }
}

/// What a Node object is made from.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its addresses within the cluster.
    pub internal: Vec<String>,
    /// Its addresses outside.
    pub external: Vec<String>,
    /// amd64, arm64, arm.
    pub arch: String,
    /// What /etc/os-release calls the system.
    pub os: String,
    /// The kernel.
    pub kernel: String,
    /// /etc/machine-id.
    pub machine_id: String,
    /// Version of K3s.
    pub version: String,
    /// Processors.
    pub cpus: u32,
    /// Memory.
    pub memory_kib: u64,
    /// Whether it is a server, and whether its datastore is etcd.
    pub server: Option<bool>,
    /// `node-label`.
    pub labels: BTreeMap<String, String>,
    /// `node-taint`, as `key=value:Effect`.
    pub taints: Vec<String>,
}

fn taint(text: &str) -> Option<Value> {
    let (key, effect) = text.rsplit_once(':')?;
    Some(match key.split_once('=') {
        Some((key, value)) if !value.is_empty() => json!({ "key": key, "value": value, "effect": effect }),
        Some((key, _)) => json!({ "key": key, "effect": effect }),
        None => json!({ "key": key, "effect": effect }),
    })
}

/// Registers a node, or brings what a kubelet reports of a known one up to date. Labels and taints of the configuration
/// are set only when it registers for the first time, as the real kubelet does.
///
/// # Errors
/// The API's words.
pub fn register_node(api: &Api, info: &NodeInfo, now: &str) -> Result<(), String> {
    let addresses: Vec<Value> = info
        .internal
        .iter()
        .map(|a| json!({ "type": "InternalIP", "address": a }))
        .chain(info.external.iter().map(|a| json!({ "type": "ExternalIP", "address": a })))
        .chain([json!({ "type": "Hostname", "address": info.name })])
        .collect();
    let resources = json!({ "cpu": info.cpus.to_string(), "memory": format!("{}Ki", info.memory_kib), "pods": "110",
                            "ephemeral-storage": "209715200Ki" });
    let node_info = json!({
        "architecture": info.arch, "operatingSystem": "linux", "osImage": info.os, "kernelVersion": info.kernel,
        "kubeletVersion": info.version, "kubeProxyVersion": info.version, "containerRuntimeVersion": "containerd://2.1.4-k3s1",
        "machineID": info.machine_id, "systemUUID": info.machine_id, "bootID": info.machine_id,
    });
    let known = api.look(|store| store.get("/nodes", &info.name).is_some());
    if !known {
        let mut labels = json!({
            "beta.kubernetes.io/arch": info.arch, "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/instance-type": "k3s", "node.kubernetes.io/instance-type": "k3s",
            "kubernetes.io/arch": info.arch, "kubernetes.io/os": "linux", "kubernetes.io/hostname": info.name,
        });
        for (key, value) in &info.labels {
            labels[key] = json!(value);
        }
        let taints: Vec<Value> = info.taints.iter().filter_map(|t| taint(t)).collect();
        let count = api.look(|store| store.list("/nodes").count());
        let mut spec = json!({ "providerID": format!("k3s://{}", info.name), "podCIDR": format!("10.42.{count}.0/24"),
                               "podCIDRs": [format!("10.42.{count}.0/24")] });
        if !taints.is_empty() {
            spec["taints"] = json!(taints);
        }
        let object = json!({
            "metadata": { "name": info.name, "labels": labels,
                          "annotations": { "k3s.io/hostname": info.name, "k3s.io/node-args": "[]",
                                           "alpha.kubernetes.io/provided-node-ip": info.internal.join(",") } },
            "spec": spec,
        });
        api.create_as(MANAGER, "v1", "nodes", object).map_err(|failure| failure.message)?;
    }
    api.modify_as(MANAGER, "/nodes", &info.name, |node| {
        if let Some(etcd) = info.server {
            node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = json!("true");
            if etcd {
                node["metadata"]["labels"]["node-role.kubernetes.io/etcd"] = json!("true");
            }
        }
        node["metadata"]["annotations"]["k3s.io/internal-ip"] = json!(info.internal.join(","));
        node["status"]["addresses"] = json!(addresses);
        node["status"]["capacity"] = resources.clone();
        node["status"]["allocatable"] = resources;
        node["status"]["nodeInfo"] = node_info;
    });
    let registered = api.look(|store| store.get("/nodes", &info.name).map(|n| !n["status"]["conditions"].is_null()));
    if registered == Some(false) {
        set_ready(api, &info.name, false, "KubeletNotReady", "container runtime network not ready", now);
    }
    Ok(())
}

/// Sets a node's Ready condition.
pub fn set_ready(api: &Api, name: &str, ready: bool, reason: &str, message: &str, now: &str) {
    let status = match (ready, reason) {
        (true, _) => "True",
        (false, "NodeStatusUnknown") => "Unknown",
        (false, _) => "False",
    };
    let changed = api.modify_as(MANAGER, "/nodes", name, |node| {
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({ "type": kind, "status": status, "reason": reason, "message": message,
                    "lastHeartbeatTime": now, "lastTransitionTime": now })
        };
        let same = node["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == status));
        if same {
            return;
        }
        let pressure = if status == "Unknown" { "Unknown" } else { "False" };
        node["status"]["conditions"] = json!([
            condition(
                "MemoryPressure",
                pressure,
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available"
            ),
            condition("DiskPressure", pressure, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", pressure, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", status, reason, message),
        ]);
        // The control plane taints nodes that are not ready, and takes the taint away again.
        let key = if status == "Unknown" { "node.kubernetes.io/unreachable" } else { "node.kubernetes.io/not-ready" };
        let mut taints: Vec<Value> = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        taints.retain(|t| t["key"] != "node.kubernetes.io/unreachable" && t["key"] != "node.kubernetes.io/not-ready");
        if !ready {
            taints.push(json!({ "key": key, "effect": "NoSchedule" }));
        }
        if let Some(spec) = node["spec"].as_object_mut() {
            if taints.is_empty() {
                spec.remove("taints");
            } else {
                spec.insert("taints".into(), json!(taints));
            }
        }
    });
    if changed {
        api.nodes_changed();
    }
}

/// Registers a host's node.
pub(super) fn register(api: &Api, state: &mut State, host: &str, config: &Config, version: &str) -> Result<(), String> {
    admit(api, state, host, config)?;
    let name = name(state, host, config);
    let Some(machine) = state.hosts.get(host) else { return Err("no such host".into()) };
    let etcd = datastore(machine).map(|d| d.etcd);
    let internal = config.all("node-ip");
    let info = NodeInfo {
        internal: if internal.is_empty() { vec![machine.address.clone()] } else { internal },
        external: config.all("node-external-ip"),
        arch: match machine.facts.arch.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            _ => "arm",
        }
        .into(),
        os: machine.facts.os_name.clone(),
        kernel: machine.facts.kernel.clone(),
        machine_id: machine.facts.machine_id.clone(),
        version: version.to_owned(),
        cpus: machine.facts.cpus,
        memory_kib: machine.facts.memory_kib,
        server: config.server.then_some(etcd.unwrap_or(false)),
        labels: config
            .each("node-label")
            .iter()
            .flat_map(|l| l.split(','))
            .map(|l| l.split_once('=').unwrap_or((l, "")))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        taints: config.each("node-taint").iter().flat_map(|t| t.split(',')).map(str::to_owned).collect(),
        name: name.clone(),
    };
    register_node(api, &info, &timestamp(state.now_ms)).map_err(|reason| format!("level=error msg={reason:?}"))?;
    if config.server {
        for cluster in state.clusters.values_mut() {
            if let Some(member) = cluster.members.get_mut(host) {
                *member = Some(name.clone());
            }
        }
    }
    Ok(())
}

/// A host's node becomes Ready.
pub(super) fn ready(api: &Api, state: &State, host: &str, config: &Config) {
    let name = name(state, host, config);
    set_ready(api, &name, true, "KubeletReady", "kubelet is posting ready status", &timestamp(state.now_ms));
}

/// The control plane has not heard of a host's kubelet for a while.
pub(in crate::rehearsal) fn lost(world: &World, state: &mut State, host: &str) {
    let Some(machine) = state.hosts.get(host) else { return };
    let silent_ms = state.now_ms - machine.silent_since_ms;
    if running_k3s(machine).is_some() || silent_ms < NODE_LOST_MS {
        return;
    }
    // The configuration may be gone by now; the node is then the one with the host's name.
    let config = machine
        .units
        .iter()
        .find_map(|(unit, known)| super::config::load(machine, &parse_unit(unit, &known.loaded)).ok())
        .unwrap_or_default();
    let name = name(state, host, &config);
    let now = timestamp(state.now_ms);
    for id in state.clusters.keys() {
        let Some(api) = world.api(id) else { continue };
        let address = &machine.address;
        let is_his = api.look(|store| {
            store.get("/nodes", &name).is_some_and(|n| {
                n["status"]["addresses"].as_array().is_some_and(|all| all.iter().any(|a| a["address"] == *address))
            })
        });
        if is_his {
            set_ready(&api, &name, false, "NodeStatusUnknown", "Kubelet stopped posting node status.", &now);
        }
    }
}
