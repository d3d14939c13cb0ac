//! What K3s on a node has to be configured with, and whether what is there says the same.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::host::HostSeen;
use crate::project::{Access, Node, Project, Role};
use crate::secret::Secret;

/// First line of every configuration that is written.
const HEADER: &str = "# Managed by xgenctl: change project.yaml (k3s.config or the node's config) instead.\n";

/// Keys that only a server knows; `k3s.config` may hold them without harm to agents.
const SERVER_ONLY: &[&str] = &[
    "advertise-address",
    "advertise-port",
    "agent-token",
    "agent-token-file",
    "cluster-cidr",
    "cluster-dns",
    "cluster-domain",
    "cluster-init",
    "cluster-reset",
    "cluster-reset-restore-path",
    "datastore-cafile",
    "datastore-certfile",
    "datastore-endpoint",
    "datastore-keyfile",
    "default-local-storage-path",
    "disable",
    "disable-apiserver",
    "disable-cloud-controller",
    "disable-controller-manager",
    "disable-etcd",
    "disable-helm-controller",
    "disable-kube-proxy",
    "disable-network-policy",
    "disable-scheduler",
    "egress-selector-mode",
    "embedded-registry",
    "enable-pprof",
    "etcd-arg",
    "etcd-disable-snapshots",
    "etcd-expose-metrics",
    "etcd-s3",
    "etcd-s3-access-key",
    "etcd-s3-bucket",
    "etcd-s3-endpoint",
    "etcd-s3-endpoint-ca",
    "etcd-s3-folder",
    "etcd-s3-insecure",
    "etcd-s3-region",
    "etcd-s3-secret-key",
    "etcd-s3-skip-ssl-verify",
    "etcd-s3-timeout",
    "etcd-snapshot-compress",
    "etcd-snapshot-dir",
    "etcd-snapshot-name",
    "etcd-snapshot-retention",
    "etcd-snapshot-schedule-cron",
    "flannel-backend",
    "flannel-external-ip",
    "flannel-ipv6-masq",
    "helm-job-image",
    "https-listen-port",
    "kine-tls",
    "kube-apiserver-arg",
    "kube-cloud-controller-manager-arg",
    "kube-controller-manager-arg",
    "kube-scheduler-arg",
    "multus",
    "no-deploy",
    "secrets-encryption",
    "secrets-encryption-provider",
    "service-cidr",
    "service-node-port-range",
    "servicelb-namespace",
    "supervisor-metrics",
    "system-default-registry",
    "tls-san",
    "tls-san-security",
    "write-kubeconfig",
    "write-kubeconfig-group",
    "write-kubeconfig-mode",
];

/// The part of a configuration that a role understands.
pub fn for_role(role: Role, config: Map<String, Value>) -> Map<String, Value> {
    config.into_iter().filter(|(key, _)| role == Role::Server || !SERVER_ONLY.contains(&key.as_str())).collect()
}

/// How a node comes into the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// The join token; `None` where the server has yet to make it.
    pub token: Option<Secret>,
    /// `https://<server>:6443`; `None` for the server that begins the cluster.
    pub server: Option<String>,
    /// The first of several servers begins an etcd.
    pub cluster_init: bool,
}

/// Everything that `config.yaml` of a node has to hold.
pub fn wanted(project: &Project, node: &Node, seen: &HostSeen, join: &Join) -> Map<String, Value> {
    let mut config = Map::new();
    if node.role == Role::Server {
        config.insert("disable".into(), json!(["servicelb", "traefik"]));
        config.insert("write-kubeconfig-mode".into(), json!("0600"));
    }
    config.extend(for_role(node.role, project.k3s.config.clone()));
    config.extend(for_role(node.role, node.config.clone()));
    if node.role == Role::Server {
        let mut sans: BTreeSet<String> = strings(config.get("tls-san")).into_iter().collect();
        if let Access::Ssh(ssh) = &node.access {
            sans.insert(ssh.host.clone());
        }
        sans.extend(node.address.clone());
        if !sans.is_empty() {
            config.insert("tls-san".into(), json!(sans));
        }
    }
    if let Some(name) = &node.name {
        config.insert("node-name".into(), json!(name));
    }
    if let Some(ip) = node_ip(node, seen) {
        config.entry("node-ip").or_insert(json!(ip));
    }
    let mut labels: BTreeSet<String> = strings(config.get("node-label")).into_iter().collect();
    labels.extend(node.labels.iter().map(|(k, v)| format!("{k}={v}")));
    if !labels.is_empty() {
        config.insert("node-label".into(), json!(labels));
    }
    let mut taints: BTreeSet<String> = strings(config.get("node-taint")).into_iter().collect();
    taints.extend(node.taints.iter().map(ToString::to_string));
    if !taints.is_empty() {
        config.insert("node-taint".into(), json!(taints));
    }
    let token = join.token.as_ref().map_or("(made when the first server starts)", Secret::expose);
    config.insert("token".into(), json!(token));
    if let Some(server) = &join.server {
        config.insert("server".into(), json!(server));
    }
    if join.cluster_init {
        config.insert("cluster-init".into(), json!(true));
    }
    config
}

/// The address the kubelet reports, where project.yaml decides it.
fn node_ip(node: &Node, seen: &HostSeen) -> Option<IpAddr> {
    if let Some(address) = &node.address {
        return address.parse().ok();
    }
    match &node.access {
        Access::Ssh(ssh) => ssh.host.parse().ok().filter(|ip| seen.facts.addresses.contains(ip)),
        _ => None,
    }
}

/// A configuration as the text of `config.yaml`: keys sorted, always the same for the same content.
pub fn render(config: &Map<String, Value>) -> String {
    let sorted: std::collections::BTreeMap<_, _> = config.iter().collect();
    // Plain JSON values always have a YAML form.
    let body = serde_yaml::to_string(&sorted).unwrap_or_default();
    format!("{HEADER}{body}")
}

/// Reads a `config.yaml`; `None` where it is no mapping.
pub fn parse(text: &str) -> Option<Map<String, Value>> {
    if text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
        return Some(Map::new());
    }
    serde_yaml::from_str::<Map<String, Value>>(text).ok()
}

/// Whether two values mean the same to K3s: the order of lists, a single value for a list, and quotes do not matter.
pub fn same_value(key: &str, a: &Value, b: &Value) -> bool {
    if key == "token" {
        return same_token(a.as_str().unwrap_or_default(), b.as_str().unwrap_or_default());
    }
    match (a, b) {
        (Value::Object(_), _) | (_, Value::Object(_)) => a == b,
        _ => {
            let (mut a, mut b) = (strings(Some(a)), strings(Some(b)));
            a.sort();
            b.sort();
            a == b
        }
    }
}

/// Whether two tokens open the same door. Written with the hash of the cluster's CA (`K10<hash>::server:<password>`) or
/// without, the password decides; two different hashes differ.
fn same_token(a: &str, b: &str) -> bool {
    fn split(token: &str) -> (Option<&str>, &str) {
        match token.strip_prefix("K10").and_then(|t| t.split_once("::")) {
            Some((hash, rest)) => (Some(hash), rest.split_once(':').map_or(rest, |(_, password)| password)),
            None => (None, token),
        }
    }
    let ((hash_a, password_a), (hash_b, password_b)) = (split(a), split(b));
    password_a == password_b && (hash_a.is_none() || hash_b.is_none() || hash_a == hash_b)
}

/// A list of scalars, or one scalar, as strings.
pub fn strings(value: Option<&Value>) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items.iter().map(text).collect(),
        Some(scalar) => vec![text(scalar)],
    }
}

/// The keys in which two configurations differ.
pub fn differences<'a>(a: &'a Map<String, Value>, b: &'a Map<String, Value>) -> BTreeSet<&'a str> {
    let keys: BTreeSet<&str> = a.keys().chain(b.keys()).map(String::as_str).collect();
    keys.into_iter()
        .filter(|key| match (a.get(*key), b.get(*key)) {
            (Some(a), Some(b)) => !same_value(key, a, b),
            _ => true,
        })
        .collect()
}

/// Keys that K3s reads only when a node registers for the first time: a change needs no restart.
pub fn needs_restart(key: &str) -> bool {
    !matches!(key, "node-label" | "node-taint" | "write-kubeconfig-mode")
}

/// The environment file of the unit: proxies, with the cluster's own networks and nodes left out of them.
pub fn environment(project: &Project) -> String {
    let Some(proxy) = &project.proxy else { return String::new() };
    let mut no_proxy: Vec<String> = ["127.0.0.0/8", "localhost", ".svc", ".cluster.local"].map(str::to_owned).into();
    for (key, default) in [("cluster-cidr", "10.42.0.0/16"), ("service-cidr", "10.43.0.0/16")] {
        let configured = strings(project.k3s.config.get(key));
        no_proxy.extend(if configured.is_empty() { vec![default.to_owned()] } else { configured });
    }
    for node in &project.nodes {
        if let Access::Ssh(ssh) = &node.access {
            no_proxy.push(ssh.host.clone());
        }
        no_proxy.extend(node.address.clone());
    }
    no_proxy.extend(proxy.no_proxy.iter().cloned());
    let mut seen = BTreeSet::new();
    no_proxy.retain(|entry| seen.insert(entry.clone()));
    let mut lines = vec!["# Managed by xgenctl: change `proxy` in project.yaml instead.".to_owned()];
    for (name, value) in [("HTTP_PROXY", &proxy.http), ("HTTPS_PROXY", &proxy.https)] {
        lines.extend(value.as_ref().map(|v| format!("{name}={}", v.expose())));
    }
    lines.push(format!("NO_PROXY={}", no_proxy.join(",")));
    lines.join("\n") + "\n"
}
