//! The controllers of a simulated cluster: what happens by itself after something was written or deleted.
//!
//! Nothing runs in the background. Writes note what is due when, and [`settle`] does what has become due; the order is
//! fixed, so the same requests at the same times always end in the same state.

use serde_json::{Value, json};

use super::kinds::{self, Kind};
use super::selector::Selector;
use super::store::{Store, key_of};
use super::workloads;

/// How long pods take from nothing to ready.
pub const PODS_READY_MS: i64 = 3_000;
/// How long a pod takes to end.
const POD_ENDS_MS: i64 = 1_000;
/// How long the API takes to serve a new CustomResourceDefinition.
const CRD_ESTABLISHED_MS: i64 = 200;
/// How long a namespace takes to go once it is told to.
const NAMESPACE_ENDS_MS: i64 = 1_500;

const WORKLOADS: &[&str] = &["apps/deployments", "apps/statefulsets", "apps/daemonsets"];

/// Does everything that is due until `now_ms`, each at its own time, and sets the clock.
pub fn settle(store: &mut Store, now_ms: i64) {
    while let Some((kind, key)) = store.pop_due(now_ms) {
        match kind.as_str() {
            "/namespaces" => namespace(store, &key),
            "/pods" => end_pod(store, &key),
            "apiextensions.k8s.io/customresourcedefinitions" => establish(store, &key),
            "policy/poddisruptionbudgets" => workloads::budget(store, &key),
            kind if WORKLOADS.contains(&kind) => {
                workloads::reconcile(store, kind, &key);
                let namespace = key.split('/').next().unwrap_or_default().to_owned();
                budgets_in(store, &namespace);
            }
            _ => {}
        }
    }
    store.now_ms = store.now_ms.max(now_ms);
}

/// Takes note of a create or an update.
pub fn written(store: &mut Store, kind: &str, before: Option<&Value>, after: &Value) {
    let key = key_of(after);
    let new_spec = before.is_none_or(|b| b.get("spec") != after.get("spec"));
    match kind {
        "/namespaces" if before.is_none() => furnish(store, &key),
        "apiextensions.k8s.io/customresourcedefinitions" if before.is_none() => {
            store.schedule(CRD_ESTABLISHED_MS, kind, &key);
        }
        "/nodes" => {
            let availability = |n: &Value| (n["spec"].clone(), n["metadata"]["labels"].clone());
            if before.is_none_or(|b| availability(b) != availability(after)) {
                node_changed(store);
            }
        }
        "policy/poddisruptionbudgets" if new_spec => workloads::budget(store, &key),
        kind if WORKLOADS.contains(&kind) => {
            let annotations = |o: &Value| o["spec"]["template"].clone();
            if new_spec || before.is_some_and(|b| annotations(b) != annotations(after)) {
                store.schedule(PODS_READY_MS, kind, &key);
            }
        }
        _ => {}
    }
}

/// Nodes came, went or changed: every workload is looked at again.
pub fn node_changed(store: &mut Store) {
    for kind in WORKLOADS {
        let keys: Vec<String> = store.list(kind).map(key_of).collect();
        for key in keys {
            store.schedule(PODS_READY_MS, kind, &key);
        }
    }
}

/// Whether something keeps an object that is being deleted: finalizers of its metadata, or a namespace's own.
pub fn is_held(kind: &Kind, object: &Value) -> bool {
    let some = |list: &Value| list.as_array().is_some_and(|l| !l.is_empty());
    some(&object["metadata"]["finalizers"]) || (kind.key() == "/namespaces" && some(&object["spec"]["finalizers"]))
}

/// Deletes an object as far as it can go now; returns it where it is still there, waiting.
pub fn delete(
    store: &mut Store,
    kind: &str,
    key: &str,
    grace_seconds: Option<i64>,
    propagation: Option<&str>,
) -> Option<Value> {
    let object = store.get(kind, key)?.clone();
    let held = object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let running = kind == "/pods"
        && grace_seconds != Some(0)
        && object["spec"]["nodeName"].as_str().is_some_and(|node| store.get("/nodes", node).is_some());
    if !held && !running && kind != "/namespaces" {
        let gone = store.remove(kind, key)?;
        removed(store, kind, &gone, propagation);
        return None;
    }
    if object["metadata"]["deletionTimestamp"].is_null() {
        let now = store.timestamp();
        store.modify(kind, key, |o| {
            o["metadata"]["deletionTimestamp"] = json!(now);
            if running {
                o["metadata"]["deletionGracePeriodSeconds"] = json!(grace_seconds.unwrap_or(30));
            }
            if kind == "/namespaces" {
                o["status"]["phase"] = json!("Terminating");
            }
        });
        match kind {
            "/pods" => store.schedule(POD_ENDS_MS, kind, key),
            "/namespaces" => store.schedule(NAMESPACE_ENDS_MS, kind, key),
            _ => {}
        }
    }
    store.get(kind, key).cloned()
}

/// Takes note of an object's removal: what it owned goes too, and who owned it looks again.
pub fn removed(store: &mut Store, kind: &str, object: &Value, propagation: Option<&str>) {
    let uid = object["metadata"]["uid"].clone();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    if propagation != Some("Orphan") {
        let owned: Vec<(String, String)> = store
            .everything()
            .filter(|(_, o)| {
                o["metadata"]["ownerReferences"].as_array().is_some_and(|r| r.iter().any(|r| r["uid"] == uid))
            })
            .map(|(kind, o)| (kind.to_owned(), key_of(o)))
            .collect();
        for (kind, key) in owned {
            delete(store, &kind, &key, None, None);
        }
    }
    match kind {
        "/pods" => {
            if let Some((kind, key)) = workloads::owner_workload(store, object) {
                store.schedule(PODS_READY_MS, &kind, &key);
                workloads::count(store, &kind, &key);
            }
            budgets_in(store, &namespace);
        }
        "/nodes" => {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let pods: Vec<String> = store.list("/pods").filter(|p| p["spec"]["nodeName"] == name).map(key_of).collect();
            for pod in pods {
                delete(store, "/pods", &pod, Some(0), None);
            }
            node_changed(store);
        }
        "apiextensions.k8s.io/customresourcedefinitions" => {
            let spec = &object["spec"];
            let custom = format!(
                "{}/{}",
                spec["group"].as_str().unwrap_or_default(),
                spec["names"]["plural"].as_str().unwrap_or_default()
            );
            let keys: Vec<String> = store.list(&custom).map(key_of).collect();
            for key in keys {
                delete(store, &custom, &key, None, None);
            }
        }
        _ => {}
    }
}

/// What every namespace holds from its first moment on.
fn furnish(store: &mut Store, namespace: &str) {
    let accounts = kinds::find(store, "", "v1", "serviceaccounts");
    let maps = kinds::find(store, "", "v1", "configmaps");
    if let Some(kind) = accounts {
        store.ensure(&kind, json!({ "metadata": { "name": "default", "namespace": namespace } }));
    }
    if let Some(kind) = maps {
        let data = json!({ "ca.crt": "simulated" });
        store
            .ensure(&kind, json!({ "metadata": { "name": "kube-root-ca.crt", "namespace": namespace }, "data": data }));
    }
}

/// Empties a namespace that is being deleted, and removes it once nothing holds it.
fn namespace(store: &mut Store, name: &str) {
    let Some(found) = store.get("/namespaces", name) else { return };
    if found["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    let content: Vec<(String, String)> = store
        .everything()
        .filter(|(_, o)| o["metadata"]["namespace"] == name)
        .map(|(kind, o)| (kind.to_owned(), key_of(o)))
        .collect();
    for (kind, key) in &content {
        delete(store, kind, key, None, None);
    }
    let left = store.everything().filter(|(_, o)| o["metadata"]["namespace"] == name).count();
    if left > 0 {
        let message =
            format!("Some content in the namespace has finalizers remaining or is still ending: {left} objects");
        store.modify("/namespaces", name, |n| {
            n["status"]["conditions"] = json!([{ "type": "NamespaceContentRemaining", "status": "True",
                "reason": "SomeResourcesRemain", "message": message }]);
        });
        store.schedule(NAMESPACE_ENDS_MS, "/namespaces", name);
        return;
    }
    store.modify("/namespaces", name, |n| n["spec"]["finalizers"] = json!([]));
    let held = store
        .get("/namespaces", name)
        .is_some_and(|n| n["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty()));
    if !held {
        store.remove("/namespaces", name);
    }
}

fn end_pod(store: &mut Store, key: &str) {
    let Some(pod) = store.get("/pods", key) else { return };
    let held = pod["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    // The kubelet of a node that is not there does not report that a pod ended.
    let node_ready =
        pod["spec"]["nodeName"].as_str().and_then(|n| store.get("/nodes", n)).is_none_or(workloads::is_ready);
    if pod["metadata"]["deletionTimestamp"].is_null() || held {
        return;
    }
    if !node_ready {
        store.schedule(POD_ENDS_MS * 10, "/pods", key);
        return;
    }
    if let Some(gone) = store.remove("/pods", key) {
        removed(store, "/pods", &gone, None);
    }
}

fn establish(store: &mut Store, key: &str) {
    let now = store.timestamp();
    store.modify("apiextensions.k8s.io/customresourcedefinitions", key, |crd| {
        let condition = |kind: &str, reason: &str| {
            json!({ "type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now })
        };
        crd["status"] = json!({
            "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
            "acceptedNames": crd["spec"]["names"],
            "storedVersions": [crd["spec"]["versions"][0]["name"]],
        });
    });
}

/// The disruption budgets that cover a pod.
pub fn budgets_of(store: &Store, pod: &Value) -> Vec<Value> {
    store
        .list("policy/poddisruptionbudgets")
        .filter(|b| b["metadata"]["namespace"] == pod["metadata"]["namespace"])
        .filter(|b| Selector::label_selector(&b["spec"]["selector"], &pod["metadata"]["labels"]))
        .cloned()
        .collect()
}

/// Counts the budgets of a namespace again.
pub fn budgets_in(store: &mut Store, namespace: &str) {
    let keys: Vec<String> = store
        .list("policy/poddisruptionbudgets")
        .filter(|b| b["metadata"]["namespace"] == namespace)
        .map(key_of)
        .collect();
    for key in keys {
        workloads::budget(store, &key);
    }
}
