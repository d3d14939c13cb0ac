//! `/version`, `/api`, `/apis` and below: what the API says it serves.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kinds::{self, Kind};
use super::store::Store;

/// `/version`.
pub fn version(store: &Store) -> Value {
    let number = store.version.trim_start_matches('v');
    let mut parts = number.split('.');
    json!({
        "major": parts.next().unwrap_or_default(),
        "minor": parts.next().unwrap_or_default(),
        "gitVersion": store.version,
        "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "go1.25.0",
        "compiler": "gc",
        "platform": "linux/amd64",
    })
}

/// `/api`.
pub fn core_versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

/// Groups with their versions, the preferred one first.
fn groups(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in kinds::all(store).into_iter().filter(|k| !k.group.is_empty()) {
        let versions = groups.entry(kind.group).or_default();
        for version in kind.versions {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
    }
    groups
}

fn group(name: &str, versions: &[String]) -> Value {
    let entry = |v: &String| json!({ "groupVersion": format!("{name}/{v}"), "version": v });
    json!({
        "name": name,
        "versions": versions.iter().map(entry).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(entry),
    })
}

/// `/apis`.
pub fn group_list(store: &Store) -> Value {
    let all: Vec<Value> = groups(store).iter().map(|(name, versions)| group(name, versions)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": all })
}

/// `/apis/<group>`; `None` where there is none.
pub fn one_group(store: &Store, name: &str) -> Option<Value> {
    let mut found = group(name, groups(store).get(name)?);
    found["kind"] = json!("APIGroup");
    found["apiVersion"] = json!("v1");
    Some(found)
}

/// `/api/v1` and `/apis/<group>/<version>`; `None` where there is none.
pub fn resources(store: &Store, group: &str, version: &str) -> Option<Value> {
    let served: Vec<Kind> =
        kinds::all(store).into_iter().filter(|k| k.group == group && k.versions.iter().any(|v| v == version)).collect();
    let first = served.first()?;
    let group_version = first.api_version(version);
    let mut list = Vec::new();
    for kind in &served {
        list.push(json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "shortNames": kind.short,
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        }));
        if kind.status {
            list.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": ["get", "patch", "update"],
            }));
        }
        match kind.key().as_str() {
            "/pods" => {
                list.push(json!({
                    "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy",
                    "version": "v1", "kind": "Eviction", "verbs": ["create"],
                }));
                list.push(json!({
                    "name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": ["get"],
                }));
            }
            "/namespaces" => list.push(json!({
                "name": "namespaces/finalize", "singularName": "", "namespaced": false, "kind": "Namespace",
                "verbs": ["update"],
            })),
            _ => {}
        }
    }
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list }))
}
