//! Who owns which field: server-side apply, and what every other write does to ownership.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fields::{Fields, Merge, Path, display, from_v1, item_key, leaves, merge_of, to_v1};
use super::kinds::Kind;
use super::status::{ApiResult, Failure};

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Manager {
    name: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    fields: Fields,
}

fn managers(object: &Value) -> Vec<Manager> {
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| Manager {
            name: text(entry, "manager"),
            operation: text(entry, "operation"),
            api_version: text(entry, "apiVersion"),
            subresource: text(entry, "subresource"),
            time: text(entry, "time"),
            fields: from_v1(&entry["fieldsV1"]),
        })
        .collect()
}

fn write_managers(object: &mut Value, mut managers: Vec<Manager>) {
    managers.retain(|m| !m.fields.is_empty());
    managers.sort_by(|a, b| (&a.operation, &a.name, &a.subresource).cmp(&(&b.operation, &b.name, &b.subresource)));
    let entries: Vec<Value> = managers
        .iter()
        .map(|m| {
            let mut entry = json!({
                "manager": m.name, "operation": m.operation, "apiVersion": m.api_version,
                "time": m.time, "fieldsType": "FieldsV1", "fieldsV1": to_v1(&m.fields),
            });
            if !m.subresource.is_empty() {
                entry["subresource"] = json!(m.subresource);
            }
            entry
        })
        .collect();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        if entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".into(), Value::Array(entries));
        }
    }
}

/// Who writes: the field manager and the way.
#[derive(Debug, Clone)]
pub struct Writer<'a> {
    /// `fieldManager`.
    pub manager: &'a str,
    /// `apiVersion` of the request.
    pub api_version: &'a str,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// Now, as the API writes times.
    pub time: &'a str,
}

/// Notes who owns what after a create, update or patch that turned `before` into `after`.
pub fn track_update(kind: &Kind, before: Option<&Value>, after: &mut Value, writer: &Writer<'_>) {
    let old = before.map(|b| leaves(b, kind.custom)).unwrap_or_default();
    let new = leaves(after, kind.custom);
    let changed: Fields =
        new.iter().filter(|(path, value)| old.get(*path) != Some(*value)).map(|(p, _)| p.clone()).collect();
    let gone: Fields = old.keys().filter(|path| !new.contains_key(*path)).cloned().collect();
    let mut all = before.map(managers).unwrap_or_default();
    if changed.is_empty() && gone.is_empty() {
        write_managers(after, all);
        return;
    }
    for manager in &mut all {
        let own = manager.name == writer.manager
            && manager.operation == "Update"
            && manager.subresource == writer.subresource;
        manager.fields.retain(|path| !gone.contains(path) && (own || !changed.contains(path)));
    }
    add_fields(&mut all, "Update", writer, changed);
    write_managers(after, all);
}

fn add_fields(all: &mut Vec<Manager>, operation: &str, writer: &Writer<'_>, fields: Fields) {
    if fields.is_empty() {
        return;
    }
    let same =
        |m: &&mut Manager| m.name == writer.manager && m.operation == operation && m.subresource == writer.subresource;
    match all.iter_mut().find(same) {
        Some(manager) => {
            manager.fields.extend(fields);
            manager.time = writer.time.to_owned();
            manager.api_version = writer.api_version.to_owned();
        }
        None => all.push(Manager {
            name: writer.manager.to_owned(),
            operation: operation.to_owned(),
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: writer.time.to_owned(),
            fields,
        }),
    }
}

/// Server-side apply: the object after `applied` was merged into `live`.
///
/// # Errors
/// 409 with every field that another manager owns and that would change, unless `force`.
pub fn apply(kind: &Kind, live: Option<&Value>, applied: &Value, writer: &Writer<'_>, force: bool) -> ApiResult<Value> {
    let wanted = leaves(applied, kind.custom);
    let new: Fields = wanted.keys().cloned().collect();
    let name = applied["metadata"]["name"].as_str().unwrap_or_default();
    let mut all = live.map(managers).unwrap_or_default();
    let is_own =
        |m: &Manager| m.name == writer.manager && m.operation == "Apply" && m.subresource == writer.subresource;

    let current = live.map(|l| leaves(l, kind.custom)).unwrap_or_default();
    let differs = |path: &Path| current.get(path) != wanted.get(path);
    let mut conflicts: Vec<(String, Path)> = Vec::new();
    for manager in all.iter().filter(|m| !is_own(m)) {
        for path in manager.fields.intersection(&new).filter(|path| differs(path)) {
            conflicts.push((describe(manager), path.clone()));
        }
    }
    if !conflicts.is_empty() {
        if !force {
            return Err(conflict(kind, name, &conflicts));
        }
        for manager in all.iter_mut().filter(|m| !is_own(m)) {
            manager.fields.retain(|path| !conflicts.iter().any(|(_, p)| p == path));
        }
    }

    let mut merged = live.cloned().unwrap_or_else(|| json!({}));
    merge_applied(&mut merged, applied, kind.custom, &mut Vec::new());

    let previous = all.iter().find(|m| is_own(m)).map(|m| m.fields.clone()).unwrap_or_default();
    let owned_by_others: Fields = all.iter().filter(|m| !is_own(m)).flat_map(|m| m.fields.iter().cloned()).collect();
    let mut removed: Vec<&Path> = previous.difference(&new).filter(|p| !owned_by_others.contains(*p)).collect();
    // The shortest first: an item of a list goes as a whole while its keys still tell which one it is.
    removed.sort_by_key(|p| p.len());
    for path in removed {
        remove_path(&mut merged, path, &owned_by_others, &new, &mut Vec::new());
    }

    let unchanged = previous == new && live.is_some_and(|l| same_but_managers(l, &merged));
    if !unchanged {
        all.retain(|m| !is_own(m));
        add_fields(&mut all, "Apply", writer, new);
    }
    write_managers(&mut merged, all);
    Ok(merged)
}

/// Whether two objects are equal but for who owns what.
pub fn same_but_managers(a: &Value, b: &Value) -> bool {
    let strip = |v: &Value| {
        let mut v = v.clone();
        if let Some(metadata) = v["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        v
    };
    strip(a) == strip(b)
}

fn describe(manager: &Manager) -> String {
    let mut text = format!("{:?}", manager.name);
    if !manager.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", manager.subresource));
    }
    if manager.operation == "Update" {
        text.push_str(&format!(" using {}", manager.api_version));
        if !manager.time.is_empty() {
            text.push_str(&format!(" at {}", manager.time));
        }
    }
    text
}

fn conflict(kind: &Kind, name: &str, conflicts: &[(String, Path)]) -> Box<Failure> {
    let mut by_manager: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (manager, path) in conflicts {
        by_manager.entry(manager).or_default().push(display(path));
    }
    let mut said = Vec::new();
    for (manager, fields) in &by_manager {
        said.push(match fields.as_slice() {
            [one] => format!("conflict with {manager}: {one}"),
            many => format!("conflicts with {manager}:\n- {}", many.join("\n- ")),
        });
    }
    let count = conflicts.len();
    let noun = if count == 1 { "conflict" } else { "conflicts" };
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(manager, path)| {
            json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": display(path) })
        })
        .collect();
    let details = json!({ "name": name, "group": kind.group, "kind": kind.plural, "causes": causes });
    Failure::new(409, "Conflict", format!("Apply failed with {count} {noun}: {}", said.join("\n")), details)
}

fn merge_applied(live: &mut Value, applied: &Value, custom: bool, names: &mut Vec<String>) {
    match applied {
        Value::Object(fields) => {
            // An atomic map is found by its having one leaf, itself.
            let refs: Vec<&str> = names.iter().map(String::as_str).collect();
            if !live.is_object() || super::fields::is_atomic_map(custom, &refs) {
                *live = Value::Object(Map::new());
            }
            let Value::Object(map) = live else { return };
            for (key, value) in fields {
                names.push(key.clone());
                merge_applied(map.entry(key.clone()).or_insert(Value::Null), value, custom, names);
                names.pop();
            }
        }
        Value::Array(items) => {
            let refs: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut merged = live.as_array().cloned().unwrap_or_default();
            match merge_of(custom, &refs) {
                Merge::Atomic => merged.clone_from(items),
                Merge::Set => {
                    for item in items {
                        if !merged.contains(item) {
                            merged.push(item.clone());
                        }
                    }
                }
                Merge::Keys(keys) => {
                    for item in items {
                        let key = item_key(item, keys);
                        match merged.iter_mut().find(|m| key.is_some() && item_key(m, keys) == key) {
                            Some(found) => merge_applied(found, item, custom, names),
                            None => merged.push(item.clone()),
                        }
                    }
                }
            }
            *live = Value::Array(merged);
        }
        scalar => *live = scalar.clone(),
    }
}

/// Removes what is at a path, and maps that become empty because of it. An item of a list stays while others own
/// something in it.
fn remove_path(node: &mut Value, path: &[String], others: &Fields, kept: &Fields, done: &mut Path) {
    let Some((part, rest)) = path.split_first() else { return };
    done.push(part.clone());
    let still_owned = |prefix: &Path| others.iter().chain(kept.iter()).any(|p| p.starts_with(prefix));
    if let (Some(key), Value::Object(map)) = (part.strip_prefix("f:"), &mut *node) {
        if rest.is_empty() {
            map.remove(key);
        } else if let Some(inner) = map.get_mut(key) {
            remove_path(inner, rest, others, kept, done);
            let empty = inner.as_object().is_some_and(Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty);
            if empty && !still_owned(done) {
                map.remove(key);
            }
        }
    } else if let (Some(keys), Value::Array(items)) = (part.strip_prefix("k:"), &mut *node) {
        let wanted: Value = serde_json::from_str(keys).unwrap_or_default();
        let names: Vec<&str> = wanted.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
        let at = items.iter().position(|item| item_key(item, &names).as_deref() == Some(part));
        if let Some(at) = at {
            if rest.is_empty() {
                if !still_owned(done) {
                    items.remove(at);
                }
            } else {
                remove_path(&mut items[at], rest, others, kept, done);
            }
        }
    } else if let (Some(value), Value::Array(items)) = (part.strip_prefix("v:"), &mut *node) {
        let gone: Value = serde_json::from_str(value).unwrap_or_default();
        items.retain(|item| *item != gone);
    }
    done.pop();
}
