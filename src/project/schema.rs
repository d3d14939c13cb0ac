//! The JSON Schema of project.yaml, and the walk that holds a file against it.
//!
//! One schema serves the editor and the program: what `xgenctl schema` prints is what decides about unknown keys and
//! wrong types here.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Number, Value};

use super::error::{is_secret_key, shorten};
use super::raw::RawProject;
use super::yaml::{Fault, Kind, Node, is_null};

/// Up to this many unknown keys the known one that is nearest is looked for.
const SUGGESTED: usize = 100;

/// The JSON Schema of project.yaml (draft 2020-12), all definitions inlined.
pub static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true).for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<RawProject>().to_value();
    tidy(&mut schema);
    schema
});

/// Makes the schema say what the file looks like, not how Rust holds it: a key that may be left out is not one that may
/// be `null`, and the defaults of a section are those of its keys.
fn tidy(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(Value::Array(alternatives)) = map.remove("anyOf") {
        // The only alternative that the types make is `null`.
        let value = alternatives.into_iter().find(|s| s["type"] != "null").unwrap_or_default();
        for (key, value) in value.as_object().into_iter().flatten() {
            map.entry(key.clone()).or_insert(value.clone());
        }
    }
    if let Some(kind) = map.get_mut("type")
        && let Some(kinds) = kind.as_array()
    {
        *kind = kinds.iter().find(|k| *k != "null").cloned().unwrap_or_default();
    }
    if map.get("default").is_some_and(|d| d.is_null() || d.is_object()) {
        map.remove("default");
    }
    map.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten().for_each(|(_, sub)| tidy(sub));
    for key in ["items", "additionalProperties"] {
        map.get_mut(key).into_iter().for_each(tidy);
    }
}

/// The schema as indented JSON with a newline at its end.
pub fn text() -> String {
    format!("{:#}\n", *SCHEMA)
}

/// Turns the tree into JSON of the schema's shape.
///
/// # Errors
/// Every unknown key, missing key and wrong type, in the order of the file.
pub fn conform(root: &Node) -> Result<Value, Vec<Fault>> {
    let mut faults = Vec::new();
    let value = convert(&SCHEMA, root, "", &mut faults);
    if faults.is_empty() { Ok(value) } else { Err(faults) }
}

/// The words an enumeration allows; empty where the schema is none.
fn choices(schema: &Value) -> Vec<&str> {
    let plain = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let described = schema["oneOf"].as_array().into_iter().flatten().filter_map(|s| s["const"].as_str());
    plain.chain(described).collect()
}

fn convert(schema: &Value, node: &Node, path: &str, faults: &mut Vec<Fault>) -> Value {
    let allowed = choices(schema);
    if !allowed.is_empty() {
        return word(&allowed, node, path, faults);
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" => object(schema, node, path, faults),
        "array" => match &*node.kind {
            Kind::List(items) => items
                .iter()
                .enumerate()
                .map(|(i, item)| convert(&schema["items"], item, &format!("{path}[{i}]"), faults))
                .collect(),
            _ => wrong(node, path, "a list", Some("write `- item`, one a line, or `[item, item]`"), faults),
        },
        "string" => match &*node.kind {
            Kind::Scalar { text, plain } if !plain || matches!(plain_value(text), Ok(Value::String(_))) => {
                text.clone().into()
            }
            Kind::Scalar { text, .. } if !is_null(text) => {
                let help = match is_secret_key(path) {
                    true => "write `${secret:NAME}` and put the value into secrets.yaml".to_owned(),
                    false => format!("put it in quotes: \"{}\"", shorten(text)),
                };
                wrong(node, path, "text", Some(&help), faults)
            }
            _ => wrong(node, path, "text", None, faults),
        },
        "integer" => integer(schema, node, path, faults),
        "boolean" => match &*node.kind {
            Kind::Scalar { text, plain: true } if matches!(plain_value(text), Ok(Value::Bool(_))) => {
                plain_value(text).unwrap_or_default()
            }
            _ => wrong(node, path, "true or false", Some("write `true` or `false`, without quotes"), faults),
        },
        _ => anything(node, path, faults),
    }
}

fn object(schema: &Value, node: &Node, path: &str, faults: &mut Vec<Fault>) -> Value {
    if !matches!(&*node.kind, Kind::Map(..)) {
        return wrong(node, path, "a section with keys", Some("write `key: value`, one a line"), faults);
    }
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let empty = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&empty);
    let others = &schema["additionalProperties"];
    let mut out = Map::new();
    let before = faults.len();
    for entry in node.entries() {
        let value = match known.get(&entry.key) {
            // `key:` with nothing behind it is a key that is left out; only of `nodes` that would mean too much.
            Some(_) if entry.value.is_null() && !(path.is_empty() && entry.key == "nodes") => continue,
            Some(schema) => convert(schema, &entry.value, &join(&entry.key), faults),
            None if others.is_object() => convert(others, &entry.value, &join(&entry.key), faults),
            None if *others == Value::Bool(false) => {
                let mut fault = unknown(&entry.key, entry.key_span.clone(), path);
                // Looking for what was meant costs, and nobody reads that many.
                if faults.len() < SUGGESTED {
                    fault.help = Some(suggest(&entry.key, known));
                }
                faults.push(fault);
                continue;
            }
            None => anything(&entry.value, &join(&entry.key), faults),
        };
        out.insert(entry.key.clone(), value);
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        // A key that is missing where another is unknown was most likely mistyped.
        if !out.contains_key(required) && faults.len() == before {
            let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
            let help = match known.get(required).and_then(|s| s["description"].as_str()) {
                Some(text) => format!("`{required}` is: {text}"),
                None => format!("add `{required}:`"),
            };
            faults.push(Fault {
                span: node.span.clone(),
                message: format!("the key `{required}` is missing{place}"),
                label: "in this section".into(),
                help: Some(help),
            });
        }
    }
    Value::Object(out)
}

fn word(allowed: &[&str], node: &Node, path: &str, faults: &mut Vec<Fault>) -> Value {
    let list = sentence(allowed, "or");
    match &*node.kind {
        Kind::Scalar { text, .. } if allowed.contains(&text.as_str()) => text.clone().into(),
        Kind::Scalar { text, .. } if !is_null(text) => {
            faults.push(Fault {
                span: node.span.clone(),
                message: format!("`{path}` cannot be `{}`", shorten(text)),
                label: format!("expected {list}"),
                help: nearest(text, allowed.iter().copied()).map(|w| format!("did you mean `{w}`?")),
            });
            Value::Null
        }
        _ => wrong(node, path, &list, None, faults),
    }
}

fn integer(schema: &Value, node: &Node, path: &str, faults: &mut Vec<Fault>) -> Value {
    let (min, max) = (schema["minimum"].as_i64().unwrap_or(0), schema["maximum"].as_i64().unwrap_or(i64::MAX));
    let expected = format!("a whole number from {min} to {max}");
    match &*node.kind {
        Kind::Scalar { text, plain: true } => match plain_value(text) {
            Ok(Value::Number(number)) if number.as_i64().is_some_and(|n| (min..=max).contains(&n)) => {
                return Value::Number(number);
            }
            Ok(Value::Number(_)) => {
                faults.push(Fault {
                    span: node.span.clone(),
                    message: format!("`{path}` cannot be {}", shorten(text)),
                    label: format!("expected {expected}"),
                    help: None,
                });
                return Value::Null;
            }
            _ => {}
        },
        Kind::Scalar { text, plain: false } if text.parse::<u64>().is_ok() => {
            return wrong(node, path, &expected, Some(&format!("write it without quotes: {text}")), faults);
        }
        _ => {}
    }
    wrong(node, path, &expected, None, faults)
}

/// A value of no fixed shape: typed as YAML 1.2 has it.
fn anything(node: &Node, path: &str, faults: &mut Vec<Fault>) -> Value {
    match &*node.kind {
        Kind::Map(entries, _) => entries
            .iter()
            .map(|e| (e.key.clone(), anything(&e.value, &format!("{path}.{}", e.key), faults)))
            .collect::<Map<_, _>>()
            .into(),
        Kind::List(items) => {
            items.iter().enumerate().map(|(i, n)| anything(n, &format!("{path}[{i}]"), faults)).collect()
        }
        Kind::Scalar { text, plain: false } => text.clone().into(),
        Kind::Scalar { text, .. } => unambiguous(text).unwrap_or_else(|reason| {
            faults.push(Fault {
                span: node.span.clone(),
                message: format!("`{path}` {reason}"),
                label: "ambiguous".into(),
                help: Some(match is_secret_key(path) {
                    true => "put it in quotes if it is text".to_owned(),
                    false if is_old_boolean(text) => format!("write true or false, or \"{text}\" if it is text"),
                    false => format!("put it in quotes if it is text: \"{}\"", shorten(text)),
                }),
            });
            Value::Null
        }),
    }
}

/// What a scalar without quotes means to every program that may read it later.
fn unambiguous(text: &str) -> Result<Value, &'static str> {
    match is_old_boolean(text) {
        true => Err("is true or false for some programs and text for others"),
        false => plain_value(text),
    }
}

/// Whether readers of YAML 1.1, such as K3s and Helm, take a word for true or false.
fn is_old_boolean(text: &str) -> bool {
    ["y", "n", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Whether a text can stand without quotes and is still text to every reader.
pub fn is_plain_text(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | '+'))
        && !is_old_boolean(text)
        && matches!(plain_value(text), Ok(Value::String(_)))
        || text.strip_prefix("~/").is_some_and(|rest| is_plain_text(&format!("/{rest}")))
}

/// What a scalar without quotes means: YAML 1.2's core schema, without what other readers of YAML understand differently.
fn plain_value(text: &str) -> Result<Value, &'static str> {
    if is_null(text) {
        return Ok(Value::Null);
    }
    match text {
        "true" | "True" | "TRUE" => return Ok(true.into()),
        "false" | "False" | "FALSE" => return Ok(false.into()),
        ".inf" | "-.inf" | "+.inf" | ".Inf" | "-.Inf" | "+.Inf" | ".nan" | ".NaN" => {
            return Err("is no number that can be passed on");
        }
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.starts_with("0x") || unsigned.starts_with("0o") {
        let radix = if unsigned.starts_with("0x") { 16 } else { 8 };
        return match i64::from_str_radix(&unsigned[2..], radix) {
            Ok(_) => Err("is a number in a notation that not every program reads the same"),
            Err(_) => Ok(text.into()),
        };
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || !unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
    {
        return Ok(text.into());
    }
    if unsigned.chars().all(|c| c.is_ascii_digit()) {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return Err("is a number with a leading zero, which some programs read as octal");
        }
        let plus = text.strip_prefix('+').unwrap_or(text);
        let number = plus.parse::<i64>().map(Number::from).or_else(|_| plus.parse::<u64>().map(Number::from));
        return number.map(Value::Number).map_err(|_| "is too large for a number");
    }
    match text.parse::<f64>().ok().filter(|f| f.is_finite()).and_then(Number::from_f64) {
        Some(number) => Ok(Value::Number(number)),
        None => Ok(text.into()),
    }
}

fn wrong(node: &Node, path: &str, expected: &str, help: Option<&str>, faults: &mut Vec<Fault>) -> Value {
    let found = match &*node.kind {
        Kind::Map(..) => "a section with keys",
        Kind::List(_) => "a list",
        Kind::Scalar { plain: false, .. } => "text",
        Kind::Scalar { text, .. } => match plain_value(text) {
            Ok(Value::Null) => "nothing",
            Ok(Value::Bool(_)) => "true or false",
            Ok(Value::Number(_)) | Err(_) => "a number",
            Ok(_) => "text",
        },
    };
    faults.push(Fault {
        span: node.span.clone(),
        message: match path {
            "" => "this is no project.yaml".to_owned(),
            path => format!("`{path}` has the wrong type"),
        },
        label: format!("expected {expected}, found {found}"),
        help: match (help, found) {
            (Some(help), "nothing") => Some(format!("{help}; or remove the key")),
            (help, _) => help.map(str::to_owned),
        },
    });
    Value::Null
}

fn unknown(key: &str, span: std::ops::Range<usize>, path: &str) -> Fault {
    let owner = if path.is_empty() { "project.yaml".to_owned() } else { format!("`{path}`") };
    let message = format!("unknown key `{}`", shorten(key));
    Fault { span, message, label: format!("not a key of {owner}"), help: None }
}

fn suggest(key: &str, known: &Map<String, Value>) -> String {
    let keys = || known.keys().map(String::as_str);
    match nearest(key, keys()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => {
            let mut sorted: Vec<&str> = keys().collect();
            sorted.sort_unstable();
            format!("known keys: {}", sorted.join(", "))
        }
    }
}

/// The word that was probably meant.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Beyond this length nobody mistyped a key, and comparing would cost.
    if word.len() > 60 {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= (k.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, k)| (*distance, *k))
        .map(|(_, k)| k)
}

/// `a, b or c`.
pub fn sentence(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [head @ .., tail] => format!("{} {last} {tail}", head.join(", ")),
    }
}
