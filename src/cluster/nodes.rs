//! Kubernetes nodes: what is seen of them, and the few things that are done to them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::ClusterError;
use crate::project::Taint;

/// What the API says of its nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum NodesSeen {
    /// There is no cluster yet.
    #[default]
    NoCluster,
    /// There is one, but its API does not answer, and why.
    Unreachable(String),
    /// The nodes, by name.
    Seen(BTreeMap<String, NodeSeen>),
}

impl NodesSeen {
    /// The node of that name, where the API could be asked and has it.
    pub fn get(&self, name: &str) -> Option<&NodeSeen> {
        match self {
            Self::Seen(nodes) => nodes.get(name),
            _ => None,
        }
    }
}

/// One Kubernetes node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeSeen {
    /// Condition Ready is True.
    pub ready: bool,
    /// Why it is not: the message of that condition.
    pub message: String,
    /// Marked unschedulable (cordoned).
    pub unschedulable: bool,
    /// `status.nodeInfo.kubeletVersion`.
    pub version: String,
    /// Its InternalIP.
    pub address: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints, those that Kubernetes itself sets left out.
    pub taints: Vec<Taint>,
}

/// Taints under this prefix come and go with conditions of the node: nobody configures them.
const OWN_TAINTS: &str = "node.kubernetes.io/";

impl From<&Node> for NodeSeen {
    fn from(node: &Node) -> Self {
        let status = node.status.clone().unwrap_or_default();
        let spec = node.spec.clone().unwrap_or_default();
        let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
        Self {
            ready: ready.is_some_and(|c| c.status == "True"),
            message: ready.and_then(|c| c.message.clone()).unwrap_or_else(|| "it has not reported yet".into()),
            unschedulable: spec.unschedulable.unwrap_or_default(),
            version: status.node_info.map(|i| i.kubelet_version).unwrap_or_default(),
            address: status.addresses.into_iter().flatten().find(|a| a.type_ == "InternalIP").map(|a| a.address),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec
                .taints
                .into_iter()
                .flatten()
                .filter(|t| !t.key.starts_with(OWN_TAINTS))
                .map(|t| Taint { key: t.key, value: t.value.unwrap_or_default(), effect: t.effect })
                .collect(),
        }
    }
}

/// How long the API may take to answer one request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits for the answer to a request; none in time is as good as no connection.
async fn ask<T>(
    operation: impl Into<String>,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ClusterError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|e| ClusterError::new(operation, &e)),
        Err(_) => Err(ClusterError::no_answer(operation, ANSWER_TIMEOUT)),
    }
}

/// As [`ask`], but what is gone already is no error.
async fn ask_gone<T>(
    operation: impl Into<String>,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<(), ClusterError> {
    let request = async {
        match request.await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    };
    ask(operation, request).await
}

/// Lists all nodes.
///
/// # Errors
/// Where the API does not answer or refuses.
pub async fn list(client: &Client) -> Result<BTreeMap<String, NodeSeen>, ClusterError> {
    let nodes = ask("list nodes", Api::<Node>::all(client.clone()).list(&ListParams::default())).await?;
    Ok(nodes.iter().map(|n| (n.name_any(), NodeSeen::from(n))).collect())
}

/// Reads one node; `None` where it is not registered.
///
/// # Errors
/// Where the API does not answer or refuses.
pub async fn get(client: &Client, name: &str) -> Result<Option<NodeSeen>, ClusterError> {
    let node = ask(format!("read node {name}"), Api::<Node>::all(client.clone()).get_opt(name)).await?;
    Ok(node.as_ref().map(NodeSeen::from))
}

/// Sets or removes labels, and replaces the taints that are configured (those Kubernetes sets itself stay).
///
/// # Errors
/// Where the API does not answer or refuses.
pub async fn patch(
    client: &Client,
    name: &str,
    labels: &BTreeMap<String, Option<String>>,
    taints: Option<&[Taint]>,
) -> Result<(), ClusterError> {
    let api = Api::<Node>::all(client.clone());
    let operation = || format!("change labels and taints of node {name}");
    let mut patch = json!({});
    if !labels.is_empty() {
        patch["metadata"] = json!({ "labels": labels });
    }
    if let Some(taints) = taints {
        let node = ask(operation(), api.get(name)).await?;
        let mut all: Vec<_> =
            taints.iter().map(|t| json!({ "key": t.key, "value": t.value, "effect": t.effect })).collect();
        let own = node.spec.and_then(|s| s.taints).unwrap_or_default();
        all.extend(own.into_iter().filter(|t| t.key.starts_with(OWN_TAINTS)).map(|t| json!(t)));
        patch["spec"] = json!({ "taints": all });
        // The list is replaced whole: nobody may have changed it in between.
        patch["metadata"]["resourceVersion"] = json!(node.metadata.resource_version);
    }
    ask(operation(), api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await?;
    Ok(())
}

/// Marks a node unschedulable and evicts its pods, DaemonSets' and static ones left alone, until none is left.
///
/// Evictions that a PodDisruptionBudget refuses are tried again until `timeout`. Returns what still runs there, empty
/// when the node is drained.
///
/// # Errors
/// Where the API does not answer or refuses.
pub async fn drain(client: &Client, name: &str, timeout: Duration) -> Result<Vec<String>, ClusterError> {
    let api = Api::<Node>::all(client.clone());
    let operation = |what: &str| format!("{what} node {name}");
    if ask(operation("read"), api.get_opt(name)).await?.is_none() {
        return Ok(Vec::new());
    }
    ask(operation("cordon"), api.cordon(name)).await?;
    let end = tokio::time::Instant::now() + timeout;
    loop {
        let left = evictable(client, name).await?;
        if left.is_empty() {
            return Ok(Vec::new());
        }
        for pod in &left {
            let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            // A budget that asks to wait answers with 429: the next round asks again.
            let eviction = async {
                match pods.evict(&pod.name_any(), &EvictParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 429 => Ok(()),
                    other => other.map(drop),
                }
            };
            ask_gone(format!("evict pod {}", pod.name_any()), eviction).await?;
        }
        if tokio::time::Instant::now() >= end {
            return Ok(left
                .iter()
                .map(|p| format!("{}/{}", p.namespace().unwrap_or_default(), p.name_any()))
                .collect());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The pods of a node that have to leave before it goes.
async fn evictable(client: &Client, node: &str) -> Result<Vec<Pod>, ClusterError> {
    let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let pods = ask(format!("list pods of node {node}"), Api::<Pod>::all(client.clone()).list(&params)).await?;
    Ok(pods
        .into_iter()
        .filter(|pod| {
            let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
            let daemon = pod.owner_references().iter().any(|o| o.kind == "DaemonSet");
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
            !mirror && !daemon && phase != "Succeeded" && phase != "Failed"
        })
        .collect())
}

/// Deletes a node and its node-password secret: without the latter, K3s would refuse a host of that name for ever.
///
/// # Errors
/// Where the API does not answer or refuses; what is gone already is no error.
pub async fn delete(client: &Client, name: &str) -> Result<(), ClusterError> {
    let params = DeleteParams::default();
    let nodes = Api::<Node>::all(client.clone());
    ask_gone(format!("delete node {name}"), nodes.delete(name, &params)).await?;
    let secret = format!("{name}.node-password.k3s");
    let secrets = Api::<Secret>::namespaced(client.clone(), "kube-system");
    ask_gone(format!("delete secret {secret}"), secrets.delete(&secret, &params)).await
}
