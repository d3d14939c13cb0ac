//! Changes to project.yaml that keep its comments and its form: lines are put in or taken out, nothing is rewritten.
//!
//! The result is read again and compared; where it would differ in anything but that one node, the change is refused and
//! the lines are given for a person to put in.

use std::fmt;

use serde_json::Value;

use super::raw::RawNode;
use super::schema::{conform, is_plain_text};
use super::secrets::quote;
use super::yaml::{self, Kind, Node};

/// The byte order mark that some editors put in front.
const BOM: char = '\u{feff}';

/// Why project.yaml was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditError {
    /// What is in the way, in one line.
    pub message: String,
    /// What a person can do: lines to put in or take out, where there are any.
    pub hint: Option<String>,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EditError {}

/// Adds a node at the end of `nodes`, in the style of the last one, and returns the new text.
///
/// # Errors
/// The file has no `nodes:` or writes them as `[…]`, has a node of that name, cannot be read, or is written in a way that
/// cannot be changed with certainty.
pub fn add_node(text: &str, node: &RawNode) -> Result<String, EditError> {
    if let Some(rest) = text.strip_prefix(BOM) {
        return add_node(rest, node).map(|out| format!("{BOM}{out}"));
    }
    let tree = read(text)?;
    let Some(entry) = tree.entry("nodes").filter(|e| !e.value.is_null()) else {
        let hint = format!(
            "without `nodes:` this machine is the only server; to add a node, name both in project.yaml:\n\nnodes:\n  \
             - {{ name: THIS-MACHINE, role: server, host: localhost }}\n  - {}\n",
            node_line(node)
        );
        return Err(EditError { message: "project.yaml has no `nodes:`".into(), hint: Some(hint) });
    };
    let items = entry.value.items();
    if items.iter().any(|item| name_of(item) == Some(&node.name)) {
        return Err(EditError { message: format!("project.yaml has a node `{}` already", node.name), hint: None });
    }
    let by_hand = || {
        let hint = format!("add this entry to `nodes` by hand:\n\n  - {}\n", node_line(node));
        EditError {
            message: "`nodes` of project.yaml is written in a way that cannot be changed safely".into(),
            hint: Some(hint),
        }
    };
    let last = items.last().ok_or_else(by_hand)?;
    let lines = lines_of(text, last).ok_or_else(by_hand)?;
    let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut entry = String::new();
    if !text[..lines.end].ends_with('\n') {
        entry.push_str(eol);
    }
    if let [.., before, _] = items
        && lines_of(text, before).is_some_and(|b| b.end < lines.start && has_blank_line(&text[b.end..lines.start]))
    {
        entry.push_str(eol);
    }
    let value = to_value(node);
    if text[last.span.start..].starts_with('{') {
        entry.push_str(&format!("{}- {}{eol}", lines.indent, node_line(node)));
    } else {
        let mut lead = format!("{}-{}", lines.indent, " ".repeat(lines.gap));
        for (key, value) in fields(&value) {
            entry.push_str(&format!("{lead}{key}: {}{eol}", flow(value)));
            lead = " ".repeat(lines.indent.len() + 1 + lines.gap);
        }
    }
    let out = format!("{}{entry}{}", &text[..lines.end], &text[lines.end..]);
    let added = read(&out).ok().filter(|new| {
        let list = new.entry("nodes").map(|e| e.value.items()).unwrap_or_default();
        let whole = conform(new).ok().and_then(|v| v["nodes"].as_array()?.last().cloned());
        let whole = whole.and_then(|v| serde_json::from_value::<RawNode>(v).ok()).map(|n| to_value(&n));
        same_but_nodes(&tree, new)
            && list.len() == items.len() + 1
            && list.iter().zip(items).all(|(a, b)| same(a, b))
            && whole == Some(value)
    });
    added.map(|_| out).ok_or_else(by_hand)
}

/// Removes a node and returns the new text. Comments above it stay.
///
/// # Errors
/// There is no node of that name, it is the only one, or the file is written in a way that cannot be changed with
/// certainty.
pub fn remove_node(text: &str, name: &str) -> Result<String, EditError> {
    if let Some(rest) = text.strip_prefix(BOM) {
        return remove_node(rest, name).map(|out| format!("{BOM}{out}"));
    }
    let tree = read(text)?;
    let items = tree.entry("nodes").map(|e| e.value.items()).unwrap_or_default();
    let Some(index) = items.iter().position(|item| name_of(item) == Some(name)) else {
        let names: Vec<&str> = items.iter().filter_map(name_of).collect();
        let hint = (!names.is_empty()).then(|| format!("it has: {}", names.join(", ")));
        return Err(EditError { message: format!("project.yaml has no node `{name}`"), hint });
    };
    if items.len() == 1 {
        let hint =
            "without nodes this machine would be the only server; remove the whole section by hand if that is meant";
        return Err(EditError {
            message: format!("`{name}` is the only node of project.yaml"),
            hint: Some(hint.into()),
        });
    }
    let by_hand = || EditError {
        message: "`nodes` of project.yaml is written in a way that cannot be changed safely".into(),
        hint: Some(format!("remove the entry `{name}` from `nodes` by hand")),
    };
    let lines = lines_of(text, &items[index]).ok_or_else(by_hand)?;
    let (before, mut after) = (&text[..lines.start], &text[lines.end..]);
    // Of two blank lines around the entry one stays.
    if before.trim_end_matches([' ', '\t']).ends_with("\n\n") || before.ends_with("\r\n\r\n") {
        after = after.strip_prefix("\r\n").or(after.strip_prefix('\n')).unwrap_or(after);
    }
    let out = format!("{before}{after}");
    let removed = read(&out).ok().filter(|new| {
        let list = new.entry("nodes").map(|e| e.value.items()).unwrap_or_default();
        let rest = items.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, item)| item);
        same_but_nodes(&tree, new) && list.len() + 1 == items.len() && list.iter().zip(rest).all(|(a, b)| same(a, b))
    });
    removed.map(|_| out).ok_or_else(by_hand)
}

fn read(text: &str) -> Result<Node, EditError> {
    yaml::parse(text).map_err(|fault| EditError {
        message: format!("project.yaml cannot be read: {}", fault.message),
        hint: fault.help,
    })
}

fn name_of(node: &Node) -> Option<&str> {
    match &*node.entry("name")?.value.kind {
        Kind::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// The lines of an entry of a block list.
struct Lines<'a> {
    /// Where its first line begins.
    start: usize,
    /// Where the line after it begins.
    end: usize,
    /// What stands before the dash.
    indent: &'a str,
    /// How many blanks stand behind the dash.
    gap: usize,
}

/// The lines that belong to an entry and to nothing else; `None` where that cannot be told.
fn lines_of<'a>(text: &'a str, item: &Node) -> Option<Lines<'a>> {
    let head = text[..item.span.start].trim_end_matches([' ', '\t']);
    let dash = head.strip_suffix('-')?.len();
    let start = text[..dash].rfind('\n').map_or(0, |i| i + 1);
    let indent = &text[start..dash];
    if !indent.chars().all(|c| c == ' ') {
        return None;
    }
    let line_end = |at: usize| text[at..].find('\n').map_or(text.len(), |i| at + i + 1);
    let last = text[..item.span.end].trim_end().len();
    let mut end = line_end(last);
    // A last key with nothing behind it ends at its name.
    let behind = text[last..end].trim().trim_start_matches(':').trim_start();
    if !behind.is_empty() && !behind.starts_with('#') {
        return None;
    }
    // Comments that are indented deeper than the dash belong to the entry: keys that were switched off, say.
    while end < text.len() {
        let next = line_end(end);
        let line = &text[end..next];
        let depth = line.len() - line.trim_start_matches(' ').len();
        if depth <= indent.len() || !line.trim_start().starts_with('#') {
            break;
        }
        end = next;
    }
    Some(Lines { start, end, indent, gap: item.span.start - dash - 1 })
}

fn has_blank_line(text: &str) -> bool {
    text.lines().any(|line| line.trim().is_empty())
}

fn same_but_nodes(a: &Node, b: &Node) -> bool {
    a.entries().len() == b.entries().len()
        && a.entries()
            .iter()
            .zip(b.entries())
            .all(|(x, y)| x.key == y.key && (x.key == "nodes" || same(&x.value, &y.value)))
}

/// Whether two values are the same, wherever they stand.
fn same(a: &Node, b: &Node) -> bool {
    match (&*a.kind, &*b.kind) {
        (Kind::Scalar { text: x, plain: p }, Kind::Scalar { text: y, plain: q }) => x == y && p == q,
        (Kind::List(x), Kind::List(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Kind::Map(x, _), Kind::Map(y, _)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.key == y.key && same(&x.value, &y.value))
        }
        _ => false,
    }
}

fn to_value(node: &RawNode) -> Value {
    // A node holds nothing that JSON cannot carry.
    serde_json::to_value(node).unwrap_or_default()
}

/// The keys of a map, those of a node and its `ssh` in the order in which a person writes them.
fn fields(value: &Value) -> Vec<(&str, &Value)> {
    const ORDER: &[&str] = &[
        "name", "role", "host", "address", "join", "labels", "taints", "config", "ssh", "user", "key", "port", "jump",
    ];
    let mut all: Vec<_> = value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value)).collect();
    all.sort_by_key(|(key, _)| ORDER.iter().position(|k| k == key).unwrap_or(ORDER.len()));
    all
}

/// A node on one line.
pub(crate) fn node_line(node: &RawNode) -> String {
    flow(&to_value(node))
}

/// A text as a scalar, in quotes where it needs them.
pub(crate) fn text(text: &str) -> String {
    if is_plain_text(text) { text.to_owned() } else { quote(text) }
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(value) => text(value),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".into(),
        Value::Object(_) => {
            let pairs = fields(value).into_iter().map(|(key, value)| format!("{}: {}", text(key), flow(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
