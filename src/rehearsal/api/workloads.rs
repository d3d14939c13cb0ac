//! Pods of Deployments, StatefulSets and DaemonSets: made, placed on nodes, counted.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::selector::Selector;
use super::store::{Store, key_of};
use crate::engine::action::hex;

/// Whether a node's Ready condition is true.
pub fn is_ready(node: &Value) -> bool {
    node["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn tolerates(pod_spec: &Value, taint: &Value) -> bool {
    pod_spec["tolerations"].as_array().is_some_and(|all| {
        all.iter().any(|t| {
            let effect = t["effect"].as_str().is_none_or(|e| e.is_empty() || taint["effect"] == e);
            let exists = t["operator"] == "Exists";
            let key = t["key"].as_str().is_none_or(str::is_empty) && exists || t["key"] == taint["key"];
            let value =
                exists || t["value"].as_str().unwrap_or_default() == taint["value"].as_str().unwrap_or_default();
            effect && key && value
        })
    })
}

fn fits(node: &Value, pod_spec: &Value, daemon: bool) -> bool {
    let schedulable = daemon || node["spec"]["unschedulable"] != true;
    let selected = pod_spec["nodeSelector"]
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(|(k, v)| node["metadata"]["labels"].get(k) == Some(v)));
    let tolerated = node["spec"]["taints"].as_array().is_none_or(|taints| {
        taints.iter().all(|t| {
            t["effect"] == "PreferNoSchedule"
                || tolerates(pod_spec, t)
                || (daemon && t["key"].as_str().is_some_and(|k| k.starts_with("node.kubernetes.io/")))
        })
    });
    is_ready(node) && schedulable && selected && tolerated
}

fn owns(owner: &Value, object: &Value) -> bool {
    object["metadata"]["ownerReferences"]
        .as_array()
        .is_some_and(|refs| refs.iter().any(|r| r["uid"] == owner["metadata"]["uid"]))
}

/// The workload whose pod this is, as its kind's key and its own.
pub fn owner_workload(store: &Store, pod: &Value) -> Option<(String, String)> {
    let namespace = pod["metadata"]["namespace"].as_str()?;
    let reference = &pod["metadata"]["ownerReferences"][0];
    let name = reference["name"].as_str()?;
    match reference["kind"].as_str()? {
        "ReplicaSet" => {
            let set = store.get("apps/replicasets", &format!("{namespace}/{name}"))?;
            let deployment = set["metadata"]["ownerReferences"][0]["name"].as_str()?;
            Some(("apps/deployments".into(), format!("{namespace}/{deployment}")))
        }
        "StatefulSet" => Some(("apps/statefulsets".into(), format!("{namespace}/{name}"))),
        "DaemonSet" => Some(("apps/daemonsets".into(), format!("{namespace}/{name}"))),
        _ => None,
    }
}

fn reference(kind: &str, owner: &Value) -> Value {
    json!([{ "apiVersion": "apps/v1", "kind": kind, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
             "controller": true, "blockOwnerDeletion": true }])
}

fn template_hash(workload: &Value) -> String {
    hex(&Sha256::digest(workload["spec"]["template"].to_string().as_bytes()))[..10].to_owned()
}

/// Brings the pods of a workload to what it wants, and its status with them.
pub fn reconcile(store: &mut Store, kind: &str, key: &str) {
    let Some(workload) = store.get(kind, key).cloned() else { return };
    if !workload["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    match kind {
        "apps/deployments" => deployment(store, &workload),
        "apps/statefulsets" => {
            let wanted = workload["spec"]["replicas"].as_u64().unwrap_or(1);
            let name = workload["metadata"]["name"].as_str().unwrap_or_default();
            let names: Vec<String> = (0..wanted).map(|n| format!("{name}-{n}")).collect();
            pods(store, &workload, &workload, "StatefulSet", names.into_iter().map(|n| (n, None)).collect());
        }
        _ => {
            let name = workload["metadata"]["name"].as_str().unwrap_or_default();
            let spec = &workload["spec"]["template"]["spec"];
            let wanted: Vec<(String, Option<String>)> = store
                .list("/nodes")
                .filter(|node| fits(node, spec, true))
                .filter_map(|node| node["metadata"]["name"].as_str())
                .map(|node| (format!("{name}-{}", short(node)), Some(node.to_owned())))
                .collect();
            pods(store, &workload, &workload, "DaemonSet", wanted);
        }
    }
    count(store, kind, key);
}

/// Five characters that stand for a text: the tails of pods' names, the same in every run.
fn short(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))[..5].to_owned()
}

fn deployment(store: &mut Store, workload: &Value) {
    let (name, namespace) = (workload["metadata"]["name"].clone(), workload["metadata"]["namespace"].clone());
    let hash = template_hash(workload);
    let set_name = format!("{}-{hash}", name.as_str().unwrap_or_default());
    let set_key = format!("{}/{set_name}", namespace.as_str().unwrap_or_default());
    let replicas = workload["spec"]["replicas"].clone();
    let old: Vec<String> = store
        .list("apps/replicasets")
        .filter(|set| owns(workload, set) && set["metadata"]["name"] != set_name)
        .map(key_of)
        .collect();
    for key in old {
        if let Some(gone) = store.remove("apps/replicasets", &key) {
            super::controllers::removed(store, "apps/replicasets", &gone, None);
        }
    }
    if store.get("apps/replicasets", &set_key).is_none() {
        let mut set = json!({
            "metadata": { "name": set_name, "namespace": namespace, "ownerReferences": reference("Deployment", workload),
                          "labels": workload["spec"]["template"]["metadata"]["labels"] },
            "spec": { "replicas": replicas, "selector": workload["spec"]["selector"],
                      "template": workload["spec"]["template"] },
        });
        store.stamp(&mut set);
        store.put("apps/replicasets", set);
    }
    store.modify("apps/replicasets", &set_key, |set| set["spec"]["replicas"] = replicas.clone());
    let Some(set) = store.get("apps/replicasets", &set_key).cloned() else { return };
    let wanted = (0..replicas.as_u64().unwrap_or(1)).map(|n| (format!("{set_name}-{}", short(&n.to_string())), None));
    pods(store, workload, &set, "ReplicaSet", wanted.collect());
    let ready = store.list("/pods").filter(|p| owns(&set, p) && is_pod_ready(p)).count();
    store.modify("apps/replicasets", &set_key, |set| {
        set["status"] = json!({ "replicas": replicas, "readyReplicas": ready, "availableReplicas": ready });
    });
}

/// Makes the wanted pods that are missing (on a given node, or wherever they fit) and deletes the others.
fn pods(store: &mut Store, workload: &Value, owner: &Value, kind: &str, wanted: Vec<(String, Option<String>)>) {
    let namespace = workload["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let hash = template_hash(workload);
    let present: Vec<Value> = store.list("/pods").filter(|p| owns(owner, p)).cloned().collect();
    for pod in &present {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let outdated = pod["metadata"]["annotations"]["rehearsal/template"] != hash;
        if !wanted.iter().any(|(w, _)| w == name) || outdated {
            super::controllers::delete(store, "/pods", &key_of(pod), None, None);
        }
    }
    for (name, node) in wanted {
        let key = format!("{namespace}/{name}");
        let spec = &workload["spec"]["template"]["spec"];
        let node = node.or_else(|| place(store, spec));
        match store.get("/pods", &key) {
            Some(pod) if pod["spec"]["nodeName"].as_str().is_some() => continue,
            Some(_) => {
                if let Some(node) = node {
                    let now = store.timestamp();
                    let address = pod_address(store);
                    store.modify("/pods", &key, |pod| run(pod, &node, &now, &address));
                }
            }
            None => {
                let mut pod = json!({
                    "metadata": { "name": name, "namespace": namespace, "ownerReferences": reference(kind, owner) },
                    "spec": spec,
                });
                for field in ["labels", "annotations"] {
                    if let Some(map) = workload["spec"]["template"]["metadata"][field].as_object() {
                        pod["metadata"][field] = json!(map);
                    }
                }
                pod["metadata"]["annotations"]["rehearsal/template"] = json!(hash);
                store.stamp(&mut pod);
                let now = store.timestamp();
                match node {
                    Some(node) => {
                        let address = pod_address(store);
                        run(&mut pod, &node, &now, &address);
                    }
                    None => {
                        let count = store.list("/nodes").count();
                        pod["status"] = json!({ "phase": "Pending", "conditions": [{
                            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                            "message": format!("0/{count} nodes are available"), "lastTransitionTime": now,
                        }] });
                    }
                }
                store.put("/pods", pod);
            }
        }
    }
}

fn pod_address(store: &mut Store) -> String {
    let number = store.next_number();
    format!("10.42.{}.{}", number / 250, 2 + number % 250)
}

/// The node with the fewest pods, of those that fit.
fn place(store: &Store, spec: &Value) -> Option<String> {
    let name = |node: &Value| node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    store
        .list("/nodes")
        .filter(|node| fits(node, spec, false))
        .map(name)
        .min_by_key(|node| (store.list("/pods").filter(|p| p["spec"]["nodeName"] == *node).count(), node.clone()))
}

fn run(pod: &mut Value, node: &str, now: &str, address: &str) {
    pod["spec"]["nodeName"] = json!(node);
    let conditions: Vec<Value> = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .iter()
        .map(|kind| json!({ "type": kind, "status": "True", "lastTransitionTime": now }))
        .collect();
    let containers: Vec<Value> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| {
            json!({ "name": c["name"], "image": c["image"], "imageID": c["image"], "ready": true, "started": true,
                    "restartCount": 0, "state": { "running": { "startedAt": now } } })
        })
        .collect();
    pod["status"] = json!({
        "phase": "Running", "conditions": conditions, "containerStatuses": containers, "startTime": now,
        "podIP": address, "podIPs": [{ "ip": address }], "qosClass": "BestEffort",
    });
}

fn is_pod_ready(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && pod["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// Writes a workload's status from its pods.
pub fn count(store: &mut Store, kind: &str, key: &str) {
    let Some(workload) = store.get(kind, key).cloned() else { return };
    let sets: Vec<Value> = store.list("apps/replicasets").filter(|s| owns(&workload, s)).cloned().collect();
    let mine = |p: &&Value| owns(&workload, p) || sets.iter().any(|s| owns(s, p));
    let total = store.list("/pods").filter(mine).filter(|p| p["metadata"]["deletionTimestamp"].is_null()).count();
    let ready = store.list("/pods").filter(mine).filter(|p| is_pod_ready(p)).count();
    let generation = workload["metadata"]["generation"].clone();
    let wanted = workload["spec"]["replicas"].as_u64().unwrap_or(total as u64) as usize;
    let now = store.timestamp();
    let status = match kind {
        "apps/daemonsets" => json!({
            "observedGeneration": generation, "desiredNumberScheduled": total, "currentNumberScheduled": total,
            "numberReady": ready, "numberAvailable": ready, "updatedNumberScheduled": total, "numberMisscheduled": 0,
        }),
        _ => {
            let mut status = json!({
                "observedGeneration": generation, "replicas": total, "updatedReplicas": total,
                "readyReplicas": ready, "availableReplicas": ready,
            });
            if kind == "apps/deployments" {
                let available = if ready >= wanted { "True" } else { "False" };
                status["unavailableReplicas"] = json!(wanted.saturating_sub(ready));
                status["conditions"] = json!([
                    { "type": "Available", "status": available, "reason": if ready >= wanted
                        { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" }, "lastTransitionTime": now },
                    { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "lastTransitionTime": now },
                ]);
            } else {
                let revision = format!(
                    "{}-{}",
                    workload["metadata"]["name"].as_str().unwrap_or_default(),
                    template_hash(&workload)
                );
                status["currentRevision"] = json!(revision);
                status["updateRevision"] = json!(revision);
            }
            status
        }
    };
    // Times of conditions stay while the conditions do.
    let timeless = |s: &Value| {
        let mut s = s.clone();
        for condition in s.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            condition["lastTransitionTime"] = Value::Null;
        }
        s
    };
    if timeless(&workload["status"]) != timeless(&status) {
        store.modify(kind, key, |w| w["status"] = status);
    }
}

/// Writes how many pods of a budget may be disrupted now.
pub fn budget(store: &mut Store, key: &str) {
    let Some(budget) = store.get("policy/poddisruptionbudgets", key).cloned() else { return };
    let covered: Vec<&Value> = store
        .list("/pods")
        .filter(|p| p["metadata"]["namespace"] == budget["metadata"]["namespace"])
        .filter(|p| Selector::label_selector(&budget["spec"]["selector"], &p["metadata"]["labels"]))
        .collect();
    let healthy = covered.iter().filter(|p| is_pod_ready(p)).count() as i64;
    let expected = covered.len() as i64;
    let share = |value: &Value, up: bool| match value {
        Value::String(text) => text.trim_end_matches('%').parse::<i64>().ok().map(|percent| {
            let product = percent * expected;
            if up { (product + 99) / 100 } else { product / 100 }
        }),
        other => other.as_i64(),
    };
    let desired = match (share(&budget["spec"]["minAvailable"], true), share(&budget["spec"]["maxUnavailable"], true)) {
        (Some(least), _) => least,
        (None, Some(most)) => (expected - most).max(0),
        (None, None) => expected,
    };
    let generation = budget["metadata"]["generation"].clone();
    store.modify("policy/poddisruptionbudgets", key, |b| {
        b["status"] = json!({
            "disruptionsAllowed": (healthy - desired).max(0), "currentHealthy": healthy, "desiredHealthy": desired,
            "expectedPods": expected, "observedGeneration": generation,
        });
    });
}
