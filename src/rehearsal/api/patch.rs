//! The three kinds of patches that change an object as it is: JSON merge patch, strategic merge patch, JSON patch.

use serde_json::{Map, Value};

use super::fields::{Merge, item_key, merge_of};
use super::status::{ApiResult, Failure};

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The strategic merge keys that differ from those of server-side apply: the list, what holds it, the key.
const STRATEGIC: &[(&str, &str, &str)] = &[
    ("taints", "spec", "key"),
    ("addresses", "status", "type"),
    ("ports", "containers", "containerPort"),
    ("ports", "initContainers", "containerPort"),
    ("ports", "spec", "port"),
    ("topologySpreadConstraints", "", "topologyKey"),
];

fn strategic_key(names: &[String]) -> Option<Vec<String>> {
    let (last, before) = names.split_last()?;
    let parent = before.last().map(String::as_str).unwrap_or_default();
    if let Some((_, _, key)) =
        STRATEGIC.iter().find(|(list, holder, _)| list == last && (holder.is_empty() || *holder == parent))
    {
        return Some(vec![(*key).to_owned()]);
    }
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    match merge_of(false, &refs) {
        Merge::Keys(keys) => Some(keys.iter().map(|k| (*k).to_owned()).collect()),
        _ => None,
    }
}

/// Strategic merge patch: lists with merge keys are merged by item; `$patch: delete|replace`, `$retainKeys` and
/// `$deleteFromPrimitiveList/…` are understood.
pub fn strategic(target: &mut Value, patch: &Value) {
    strategic_at(target, patch, &mut Vec::new());
}

fn strategic_at(target: &mut Value, patch: &Value, names: &mut Vec<String>) {
    match patch {
        Value::Object(fields) => {
            if fields.get("$patch").and_then(Value::as_str) == Some("replace") {
                let mut whole = fields.clone();
                whole.remove("$patch");
                *target = Value::Object(whole);
                return;
            }
            if fields.get("$patch").and_then(Value::as_str) == Some("delete") {
                *target = Value::Object(Map::new());
                return;
            }
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Value::Object(map) = target else { return };
            if let Some(retained) = fields.get("$retainKeys").and_then(Value::as_array) {
                map.retain(|key, _| retained.iter().any(|r| r == key));
            }
            for (key, value) in fields {
                if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
                    if let (Some(Value::Array(items)), Some(gone)) = (map.get_mut(list), value.as_array()) {
                        items.retain(|item| !gone.contains(item));
                    }
                } else if key.starts_with('$') {
                    // Order directives do not change what an object says.
                } else if value.is_null() {
                    map.remove(key);
                } else {
                    names.push(key.clone());
                    strategic_at(map.entry(key.clone()).or_insert(Value::Null), value, names);
                    names.pop();
                }
            }
        }
        Value::Array(items) => match strategic_key(names) {
            Some(keys) => merge_items(target, items, &keys, names),
            None if names.last().is_some_and(|n| n == "finalizers") => {
                let mut merged = target.as_array().cloned().unwrap_or_default();
                merged.extend(items.iter().filter(|i| !merged.contains(i)).cloned().collect::<Vec<_>>());
                *target = Value::Array(merged);
            }
            None => *target = patch.clone(),
        },
        scalar => *target = scalar.clone(),
    }
}

fn merge_items(target: &mut Value, items: &[Value], keys: &[String], names: &mut Vec<String>) {
    let refs: Vec<&str> = keys.iter().map(String::as_str).collect();
    let replace = items.iter().any(|i| i["$patch"] == "replace");
    let mut merged = if replace { Vec::new() } else { target.as_array().cloned().unwrap_or_default() };
    for item in items.iter().filter(|i| i["$patch"] != "replace") {
        let key = item_key(item, &refs);
        let at = merged.iter().position(|m| key.is_some() && item_key(m, &refs) == key);
        match (item["$patch"].as_str(), at) {
            (Some("delete"), Some(at)) => {
                merged.remove(at);
            }
            (Some("delete"), None) => {}
            (_, Some(at)) => strategic_at(&mut merged[at], item, names),
            (_, None) => {
                let mut fresh = Value::Null;
                strategic_at(&mut fresh, item, names);
                merged.push(fresh);
            }
        }
    }
    *target = Value::Array(merged);
}

/// RFC 6902.
///
/// # Errors
/// 422 where a `test` fails or a path is not there, 400 for what is no JSON patch.
pub fn json_patch(target: &mut Value, patch: &Value) -> ApiResult<()> {
    let Some(operations) = patch.as_array() else {
        return Err(Failure::bad_request("a JSON patch is a list of operations"));
    };
    let refused = |why: String| {
        Failure::new(
            422,
            "Invalid",
            format!("the server rejected our request due to an error in our request: {why}"),
            Value::Null,
        )
    };
    for operation in operations {
        let text = |key: &str| operation.get(key).and_then(Value::as_str);
        let (Some(op), Some(path)) = (text("op"), text("path")) else {
            return Err(Failure::bad_request("an operation of a JSON patch needs op and path"));
        };
        let missing = |path: &str| refused(format!("{op} operation does not apply: doc is missing path: {path}"));
        let value = operation.get("value").cloned().unwrap_or_default();
        match op {
            "test" => {
                if target.pointer(path).unwrap_or(&Value::Null) != &value {
                    return Err(refused(format!("testing value {path} failed: test failed")));
                }
            }
            "add" => add(target, path, value).ok_or_else(|| missing(path))?,
            "remove" => {
                take(target, path).ok_or_else(|| missing(path))?;
            }
            "replace" => *target.pointer_mut(path).ok_or_else(|| missing(path))? = value,
            "move" | "copy" => {
                let from = text("from").ok_or_else(|| Failure::bad_request(format!("{op} needs from")))?;
                let value = if op == "move" { take(target, from) } else { target.pointer(from).cloned() };
                add(target, path, value.ok_or_else(|| missing(from))?).ok_or_else(|| missing(path))?;
            }
            other => return Err(Failure::bad_request(format!("unknown operation {other} in a JSON patch"))),
        }
    }
    Ok(())
}

fn parent<'a>(target: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (before, last) = path.rsplit_once('/')?;
    Some((target.pointer_mut(before)?, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    match parent(target, path)? {
        (Value::Object(map), key) => {
            map.insert(key, value);
        }
        (Value::Array(items), key) => {
            let at = if key == "-" { items.len() } else { key.parse().ok().filter(|at| *at <= items.len())? };
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn take(target: &mut Value, path: &str) -> Option<Value> {
    match parent(target, path)? {
        (Value::Object(map), key) => map.remove(&key),
        (Value::Array(items), key) => {
            let at: usize = key.parse().ok()?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strategic_merge_knows_the_common_lists() {
        let mut pod = json!({ "spec": {
            "containers": [{ "name": "a", "image": "1", "env": [{ "name": "X", "value": "1" }] }, { "name": "b" }],
            "taints": [{ "key": "k", "effect": "NoSchedule" }],
            "tolerations": [{ "key": "t" }],
        } });
        strategic(
            &mut pod,
            &json!({ "spec": {
                "containers": [{ "name": "a", "image": "2", "env": [{ "name": "Y", "value": "2" }] },
                               { "name": "b", "$patch": "delete" }],
                "taints": [{ "key": "k", "effect": "NoExecute" }],
                "tolerations": [{ "key": "u" }],
            } }),
        );
        assert_eq!(
            pod,
            json!({ "spec": {
                "containers": [{ "name": "a", "image": "2",
                    "env": [{ "name": "X", "value": "1" }, { "name": "Y", "value": "2" }] }],
                "taints": [{ "key": "k", "effect": "NoExecute" }],
                "tolerations": [{ "key": "u" }],
            } })
        );
        strategic(&mut pod, &json!({ "spec": { "taints": [{ "$patch": "replace" }], "tolerations": null } }));
        assert_eq!(pod["spec"]["taints"], json!([]));
        assert!(pod["spec"].get("tolerations").is_none());
    }

    #[test]
    fn json_patches_do_all_or_tell_why_not() {
        let mut value = json!({ "a": { "b/c": [1, 2] } });
        let patch = json!([
            { "op": "test", "path": "/a/b~1c/0", "value": 1 },
            { "op": "add", "path": "/a/b~1c/-", "value": 3 },
            { "op": "remove", "path": "/a/b~1c/0" },
            { "op": "copy", "from": "/a/b~1c", "path": "/d" },
            { "op": "replace", "path": "/d/0", "value": 9 },
        ]);
        json_patch(&mut value, &patch).unwrap();
        assert_eq!(value, json!({ "a": { "b/c": [2, 3] }, "d": [9, 3] }));
        let failed = json_patch(&mut value, &json!([{ "op": "remove", "path": "/nope" }])).unwrap_err();
        assert!(failed.message.ends_with("doc is missing path: /nope"), "{}", failed.message);
    }

    #[test]
    fn a_merge_patch_removes_with_null() {
        let mut value = json!({ "a": 1, "b": { "c": 1, "d": [1] } });
        merge(&mut value, &json!({ "a": null, "b": { "d": [2], "e": { "f": null, "g": 1 } } }));
        assert_eq!(value, json!({ "b": { "c": 1, "d": [2], "e": { "g": 1 } } }));
    }
}
