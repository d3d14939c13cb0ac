//! What a kubelet tells the API about its node: that it exists, and every second that it is well.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::agent::Api;
use crate::config::{Role, Settings};
use crate::log;

/// Time between two signs of life. A real kubelet takes ten seconds; tests wait for what depends on it.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A registered node.
pub struct Node {
    name: String,
    status: Value,
    ready_since: String,
}

/// Registers this machine, or takes up the registration of an earlier start.
///
/// Labels follow the configuration at every start, taints only at the first one: as the real one does it.
pub async fn register(settings: &Settings, api: &Api) -> anyhow::Result<Node> {
    let name = settings.node_name()?;
    let address = address(settings)?;
    let mut labels = Map::new();
    for (key, value) in [
        ("beta.kubernetes.io/arch", arch()),
        ("beta.kubernetes.io/instance-type", "k3s"),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch()),
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("node.kubernetes.io/instance-type", "k3s"),
    ] {
        labels.insert(key.to_owned(), json!(value));
    }
    if settings.role() == Role::Server {
        labels.insert("node-role.kubernetes.io/control-plane".to_owned(), json!("true"));
        if settings.is_on("cluster-init") || settings.get("server").is_some() {
            labels.insert("node-role.kubernetes.io/etcd".to_owned(), json!("true"));
        }
    }
    for label in settings.all("node-label") {
        let (key, value) = label.split_once('=').with_context(|| format!("invalid label {label}"))?;
        labels.insert(key.to_owned(), json!(value));
    }
    let taints = settings.all("node-taint").map(taint).collect::<anyhow::Result<Vec<_>>>()?;
    let annotations = json!({ "k3s.io/hostname": name, "k3s.io/internal-ip": address.to_string() });

    let path = format!("/api/v1/nodes/{name}");
    let (status, answer) = call(api, Method::GET, &path, Value::Null).await?;
    match status {
        StatusCode::OK => {
            let patch = json!({ "metadata": { "labels": labels, "annotations": annotations } });
            expect(call(api, Method::PATCH, &path, patch).await?)?;
        }
        StatusCode::NOT_FOUND => {
            let node = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": { "name": name, "labels": labels, "annotations": annotations },
                "spec": { "taints": taints, "providerID": format!("k3s://{name}") },
            });
            expect(call(api, Method::POST, "/api/v1/nodes", node).await?)?;
        }
        _ => {
            expect((status, answer))?;
        }
    }
    let node = Node { status: status_of(&name, address)?, name, ready_since: now() };
    expect(node.beat(api).await?)?;
    log::line("info", &format!("Successfully registered node {}", node.name));
    Ok(node)
}

impl Node {
    /// Tells the API every second that the node is well, until the program ends.
    pub async fn keep_alive(&self, api: &Api) -> anyhow::Result<()> {
        // The port of a kubelet; nobody gets an answer from this one.
        let _kubelet = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 10250)).await.context("port 10250")?;
        let mut ticks = tokio::time::interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A deleted node stays deleted: a kubelet registers only when it starts.
            if let Err(error) = async { expect(self.beat(api).await?) }.await {
                log::line("error", &format!("Error updating node status, will retry: {error:#}"));
            }
        }
    }

    async fn beat(&self, api: &Api) -> anyhow::Result<(StatusCode, Value)> {
        let now = now();
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": self.ready_since,
            })
        };
        let mut status = self.status.clone();
        status["conditions"] = json!([
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available"
            ),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ]);
        let path = format!("/api/v1/nodes/{}/status", self.name);
        call(api, Method::PATCH, &path, json!({ "status": status })).await
    }
}

fn status_of(name: &str, address: IpAddr) -> anyhow::Result<Value> {
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("MemTotal")?;
    let capacity = json!({
        "cpu": std::thread::available_parallelism()?.to_string(),
        "memory": memory.trim().replace(" kB", "Ki"),
        "pods": "110",
    });
    let os = std::fs::read_to_string("/etc/os-release")?;
    let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default().trim_matches('"');
    let version = crate::version()?;
    Ok(json!({
        "addresses": [
            { "type": "InternalIP", "address": address.to_string() },
            { "type": "Hostname", "address": name },
        ],
        "capacity": capacity,
        "allocatable": capacity,
        "nodeInfo": {
            "architecture": arch(),
            "containerRuntimeVersion": "containerd://2.1.5-k3s1",
            "kernelVersion": std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
            "kubeletVersion": version,
            "kubeProxyVersion": version,
            "machineID": std::fs::read_to_string("/etc/machine-id")?.trim(),
            "operatingSystem": "linux",
            "osImage": os,
        },
    }))
}

/// The node's address: `node-ip`, else that of the interface that leads out.
pub fn address(settings: &Settings) -> anyhow::Result<IpAddr> {
    if let Some(given) = settings.get("node-ip") {
        let first = given.split(',').next().unwrap_or_default();
        return first.parse().map_err(|_| anyhow::anyhow!("invalid node-ip {given}"));
    }
    // Nothing is sent: connecting a datagram socket only looks the route up.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).context("no default routes found")?;
    Ok(socket.local_addr()?.ip())
}

/// `key=value:Effect` or `key:Effect`.
fn taint(text: &str) -> anyhow::Result<Value> {
    let (key, effect) = text.rsplit_once(':').with_context(|| format!("invalid taint {text}"))?;
    let (key, value) = key.split_once('=').unwrap_or((key, ""));
    let mut taint = json!({ "key": key, "effect": effect });
    if !value.is_empty() {
        taint["value"] = json!(value);
    }
    Ok(taint)
}

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// The time as the API writes it: whole seconds.
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// One request to the API, changes as merge patches.
async fn call(api: &Api, method: Method, path: &str, body: Value) -> anyhow::Result<(StatusCode, Value)> {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let mut request = api.client.request(method, format!("{}{path}", api.url)).timeout(Duration::from_secs(10));
    if !body.is_null() {
        request = request.header("content-type", kind).body(serde_json::to_vec(&body)?);
    }
    let answer = request.send().await?;
    let status = answer.status();
    Ok((status, serde_json::from_slice(&answer.bytes().await?).context("the API's answer")?))
}

fn expect((status, answer): (StatusCode, Value)) -> anyhow::Result<Value> {
    if !status.is_success() {
        bail!("{}", answer["message"].as_str().unwrap_or(status.as_str()));
    }
    Ok(answer)
}
