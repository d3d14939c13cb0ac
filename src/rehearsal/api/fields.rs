//! Field sets: who owns which field of an object, in the form `managedFields` has (`fieldsV1`), and how lists are merged.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// A path in the notation of fieldsV1: `f:name` for a key, `k:{…}` for a list item, `v:…` for a value of a set.
pub type Path = Vec<String>;
/// The fields that somebody owns.
pub type Fields = BTreeSet<Path>;

/// How a list is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// One value, replaced as a whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// Items known by these keys.
    Keys(&'static [&'static str]),
}

/// Names of lists whose items are known by keys, in the built-in kinds: the list, the name of what holds it (empty: any),
/// the keys.
const KEYED: &[(&str, &str, &[&str])] = &[
    ("containers", "", &["name"]),
    ("initContainers", "", &["name"]),
    ("ephemeralContainers", "", &["name"]),
    ("env", "", &["name"]),
    ("volumes", "", &["name"]),
    ("volumeMounts", "", &["mountPath"]),
    ("volumeDevices", "", &["devicePath"]),
    ("imagePullSecrets", "", &["name"]),
    ("secrets", "", &["name"]),
    ("conditions", "", &["type"]),
    ("ownerReferences", "", &["uid"]),
    ("hostAliases", "", &["ip"]),
    ("topologySpreadConstraints", "", &["topologyKey", "whenUnsatisfiable"]),
    ("webhooks", "", &["name"]),
    ("resourceClaims", "", &["name"]),
    ("ports", "containers", &["containerPort", "protocol"]),
    ("ports", "initContainers", &["containerPort", "protocol"]),
    ("ports", "spec", &["port", "protocol"]),
];

/// How the list at `names` (field names only, from the top) of an object is merged. Custom kinds carry no schema here:
/// only metadata is known.
pub fn merge_of(custom: bool, names: &[&str]) -> Merge {
    let Some((last, before)) = names.split_last() else { return Merge::Atomic };
    let parent = before.last().copied().unwrap_or_default();
    if names == ["metadata", "finalizers"] {
        return Merge::Set;
    }
    if custom && names.first() != Some(&"metadata") {
        return Merge::Atomic;
    }
    KEYED
        .iter()
        .find(|(list, holder, _)| list == last && (holder.is_empty() || *holder == parent))
        .map_or(Merge::Atomic, |(_, _, keys)| Merge::Keys(keys))
}

/// Maps that are one value: replaced as a whole.
pub fn is_atomic_map(custom: bool, names: &[&str]) -> bool {
    if custom {
        return false;
    }
    matches!(
        names,
        [.., "spec", "selector"]
            | [.., "nodeSelector" | "labelSelector" | "namespaceSelector" | "podSelector" | "matchLabels"]
            | [.., "secretKeyRef" | "configMapKeyRef" | "fieldRef" | "resourceFieldRef"]
    )
}

/// The default of a merge key that may be left out.
fn key_default(key: &str) -> Option<Value> {
    (key == "protocol").then(|| Value::from("TCP"))
}

/// The path element of a list item, `None` where a key is missing.
pub fn item_key(item: &Value, keys: &[&str]) -> Option<String> {
    let mut parts = Map::new();
    for key in keys {
        parts.insert((*key).to_owned(), item.get(key).cloned().or_else(|| key_default(key))?);
    }
    Some(format!("k:{}", Value::Object(parts)))
}

/// What the server sets itself and nobody owns.
fn is_server_owned(names: &[&str]) -> bool {
    matches!(
        names,
        ["apiVersion" | "kind"]
            | [
                "metadata",
                "name"
                    | "namespace"
                    | "managedFields"
                    | "creationTimestamp"
                    | "resourceVersion"
                    | "uid"
                    | "generation"
                    | "selfLink"
                    | "deletionTimestamp"
                    | "deletionGracePeriodSeconds"
            ]
    )
}

/// Every field of an object with its value. An item of a keyed list has an entry of its own, with null.
pub fn leaves(object: &Value, custom: bool) -> BTreeMap<Path, Value> {
    fn walk(value: &Value, names: &mut Vec<String>, path: &mut Path, custom: bool, out: &mut BTreeMap<Path, Value>) {
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        if is_server_owned(&refs) {
            return;
        }
        match value {
            Value::Object(map) if !map.is_empty() && !is_atomic_map(custom, &refs) => {
                for (key, inner) in map {
                    names.push(key.clone());
                    path.push(format!("f:{key}"));
                    walk(inner, names, path, custom, out);
                    path.pop();
                    names.pop();
                }
            }
            Value::Array(items) if !items.is_empty() => match merge_of(custom, &refs) {
                Merge::Atomic => {
                    out.insert(path.clone(), value.clone());
                }
                Merge::Set => {
                    for item in items {
                        path.push(format!("v:{item}"));
                        out.insert(path.clone(), Value::Null);
                        path.pop();
                    }
                }
                Merge::Keys(keys) => {
                    for item in items {
                        let Some(key) = item_key(item, keys) else { continue };
                        path.push(key);
                        out.insert(path.clone(), Value::Null);
                        walk(item, names, path, custom, out);
                        path.pop();
                    }
                }
            },
            _ => {
                out.insert(path.clone(), value.clone());
            }
        }
    }
    let mut out = BTreeMap::new();
    // The root itself is never atomic, whatever it is called.
    if let Value::Object(map) = object {
        for (key, inner) in map {
            walk(inner, &mut vec![key.clone()], &mut vec![format!("f:{key}")], custom, &mut out);
        }
    }
    out
}

/// The fieldsV1 tree of a set.
pub fn to_v1(fields: &Fields) -> Value {
    let mut root = Map::new();
    for path in fields {
        let mut node = &mut root;
        for part in path {
            let entry = node.entry(part.clone()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(next) = entry else { return Value::Null };
            node = next;
        }
        if path.last().is_some_and(|p| p.starts_with("k:")) {
            node.insert(".".into(), Value::Object(Map::new()));
        }
    }
    Value::Object(root)
}

/// The set of a fieldsV1 tree.
pub fn from_v1(tree: &Value) -> Fields {
    fn walk(node: &Value, path: &mut Path, out: &mut Fields) {
        let Some(map) = node.as_object() else { return };
        if map.is_empty() || map.contains_key(".") {
            out.insert(path.clone());
        }
        for (key, inner) in map.iter().filter(|(key, _)| *key != ".") {
            path.push(key.clone());
            walk(inner, path, out);
            path.pop();
        }
    }
    let mut out = Fields::new();
    if let Some(map) = tree.as_object() {
        for (key, inner) in map {
            walk(inner, &mut vec![key.clone()], &mut out);
        }
    }
    out
}

/// A path as conflict messages show it: `.spec.containers[name="x"].image`.
pub fn display(path: &Path) -> String {
    let mut out = String::new();
    for part in path {
        if let Some(name) = part.strip_prefix("f:") {
            out.push('.');
            out.push_str(name);
        } else if let Some(keys) = part.strip_prefix("k:") {
            let parsed: Value = serde_json::from_str(keys).unwrap_or_default();
            let inner: Vec<String> =
                parsed.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
            out.push_str(&format!("[{}]", inner.join(",")));
        } else if let Some(value) = part.strip_prefix("v:") {
            out.push_str(&format!("[={value}]"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_set_survives_its_wire_form() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "a", "labels": { "x": "y" }, "finalizers": ["f/1"] },
            "spec": { "template": { "spec": { "containers": [
                { "name": "c", "image": "i", "ports": [{ "containerPort": 80 }], "args": ["1"] }
            ] } } },
        });
        let fields: Fields = leaves(&object, false).into_keys().collect();
        assert_eq!(from_v1(&to_v1(&fields)), fields);
        let shown: Vec<String> = fields.iter().map(display).collect();
        assert_eq!(
            shown,
            [
                ".metadata.finalizers[=\"f/1\"]",
                ".metadata.labels.x",
                ".spec.template.spec.containers[name=\"c\"]",
                ".spec.template.spec.containers[name=\"c\"].args",
                ".spec.template.spec.containers[name=\"c\"].image",
                ".spec.template.spec.containers[name=\"c\"].name",
                ".spec.template.spec.containers[name=\"c\"].ports[containerPort=80,protocol=\"TCP\"]",
                ".spec.template.spec.containers[name=\"c\"].ports[containerPort=80,protocol=\"TCP\"].containerPort",
            ]
        );
    }

    #[test]
    fn lists_of_custom_kinds_are_one_value() {
        let object = json!({ "spec": { "ports": [{ "port": 1 }], "containers": [{ "name": "x" }] } });
        assert_eq!(leaves(&object, true).len(), 2);
    }
}
