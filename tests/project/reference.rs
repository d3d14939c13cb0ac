//! The JSON Schema, and the page that explains every key of it.

use serde_json::Value;
use xgenctl::project::schema;

use super::load;

/// Every key of the schema with its path and its schema.
fn keys(schema: &Value, path: &str, out: &mut Vec<(String, Value)>) {
    for (key, sub) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        out.push((path.clone(), sub.clone()));
        keys(sub, &path, out);
    }
    for part in schema["anyOf"].as_array().into_iter().flatten() {
        keys(part, path, out);
    }
    if schema["items"].is_object() {
        keys(&schema["items"], &format!("{path}[]"), out);
    }
    if schema["additionalProperties"].is_object() {
        keys(&schema["additionalProperties"], &format!("{path}.*"), out);
    }
}

fn all_keys() -> Vec<(String, Value)> {
    let mut out = Vec::new();
    keys(&schema::SCHEMA, "", &mut out);
    out
}

#[test]
fn every_key_is_described_and_every_section_is_closed() {
    let keys = all_keys();
    assert!(keys.len() > 55, "{}", keys.len());
    for (path, schema) in &keys {
        assert!(schema["description"].as_str().is_some_and(|d| d.len() > 5), "{path} has no description");
    }
    fn closed(schema: &Value, path: &str) {
        if schema["properties"].is_object() {
            assert_eq!(schema["additionalProperties"], false, "{path} takes unknown keys");
        }
        for (key, value) in schema.as_object().into_iter().flatten() {
            closed(value, &format!("{path}/{key}"));
        }
        for (i, value) in schema.as_array().into_iter().flatten().enumerate() {
            closed(value, &format!("{path}/{i}"));
        }
    }
    closed(&schema::SCHEMA, "");
}

#[test]
fn the_schema_has_defaults_patterns_and_choices() {
    let schema = &*schema::SCHEMA;
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let find = |path: &str| all_keys().into_iter().find(|(p, _)| p == path).unwrap_or_else(|| panic!("{path}")).1;
    assert_eq!(find("k3s.version")["default"], "v1.36.5+k3s1");
    assert_eq!(find("ingress.nodePorts.http")["default"], 30080);
    assert_eq!(find("registry.nodePort")["minimum"], 1);
    assert_eq!(find("source.targetRevision")["default"], "main");
    assert!(find("nodes[].ssh.password")["pattern"].as_str().unwrap().contains("secret"));
    assert_eq!(schema["required"], serde_json::json!(["project"]));
    let text = schema::text();
    assert!(!text.contains("$ref") && !text.contains("null"), "everything is inlined, and nothing is null");
}

#[test]
fn the_schema_is_printed_as_json_with_a_line_break_at_its_end() {
    let text = schema::text();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), *schema::SCHEMA);
    assert!(text.ends_with("}\n"));
}

#[test]
fn the_page_mentions_every_key() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/project-yaml.md")).unwrap();
    for (path, schema) in all_keys() {
        let row = format!("| `{path}` |");
        let line =
            page.lines().find(|l| l.starts_with(&row)).unwrap_or_else(|| panic!("docs/project-yaml.md lacks {row}"));
        let default = match &schema["default"] {
            Value::String(text) if !text.is_empty() => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        assert!(line.contains(&format!("`{default}`")), "the default `{default}` is not in: {line}");
    }
    for line in page.lines().filter(|l| l.starts_with("| `")) {
        let path = line[3..].split('`').next().unwrap();
        let known = all_keys().iter().any(|(p, _)| p == path)
            || path.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        assert!(known, "the page explains `{path}`, which is no key");
    }
}

/// What the published schema says about a value: a second reading of it, apart from the program's own.
fn violations(schema: &Value, value: &Value, path: &str, out: &mut Vec<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if schema["type"].as_str().is_some_and(|wanted| wanted != kind) {
        out.push(format!("{path}: {kind}"));
    }
    if let Some(choices) = schema["oneOf"].as_array()
        && !choices.iter().any(|c| c["const"] == *value)
    {
        out.push(format!("{path}: no choice"));
    }
    if value.as_i64().is_some_and(|n| {
        schema["minimum"].as_i64().is_some_and(|min| n < min) || schema["maximum"].as_i64().is_some_and(|max| n > max)
    }) {
        out.push(format!("{path}: out of range"));
    }
    let items = value.as_array().into_iter().flatten().enumerate();
    items.for_each(|(i, item)| violations(&schema["items"], item, &format!("{path}[{i}]"), out));
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => out.push(format!("{path}: unknown")),
            (Value::Null, other) => violations(other, value, &path, out),
            (known, _) => violations(known, value, &path, out),
        }
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(key).is_none() {
            out.push(format!("{path}.{key}: missing"));
        }
    }
}

#[test]
fn the_example_is_valid_to_the_schema_and_another_reader() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/projects/xgen.yaml")).unwrap();
    let check = |text: &str| {
        let value: Value = serde_yaml::from_str(text).unwrap();
        let mut out = Vec::new();
        violations(&schema::SCHEMA, &value, "", &mut out);
        (value, out)
    };
    let (value, wrong) = check(&text);
    assert!(wrong.is_empty(), "{wrong:?}");
    // The same values as another YAML library reads.
    assert_eq!(schema::conform(&xgenctl::project::yaml::parse(&text).unwrap()).unwrap(), value);
    for (from, to, expected) in [
        ("\nvars:", "\nvras:", ".vras: unknown"),
        ("port: 22,", "prot: 22,", ".nodes[0].ssh.prot: unknown"),
        ("port: 22,", "port: 0,", ".nodes[0].ssh.port: out of range"),
        ("  type: istio", "  type: nginx", ".ingress.type: no choice"),
        ("  name: xgen\n", "", ".project.name: missing"),
        ("gpu: \"true\"", "gpu: true", ".nodes[2].labels.gpu: boolean"),
    ] {
        assert!(text.contains(from), "{from}");
        let broken = text.replacen(from, to, 1);
        assert_eq!(check(&broken).1, [expected]);
        assert!(super::load_with(&broken, &[], xgenctl::project::Mode::Rehearsal).is_err());
    }
}

#[test]
fn every_block_of_the_page_loads() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/project-yaml.md")).unwrap();
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let text =
            if block.contains("project:") { block.to_owned() } else { format!("project: {{ name: a }}\n{block}") };
        let result = super::load_with(&text, &[], xgenctl::project::Mode::Rehearsal);
        assert!(result.is_ok(), "{block}\n{}", result.unwrap_err().render());
    }
}

/// Texts that are written without quotes are read as the same text.
#[test]
fn plain_text_stays_text() {
    for text in ["a", "10.0.0.1", "v1.36.5+k3s1", "~/.ssh/id", "/a/b", "ops@h", "1a", "1e5x"] {
        assert!(schema::is_plain_text(text), "{text}");
        assert_eq!(load(&format!("project: {{ name: a, description: {text} }}\n")).unwrap().description, text);
    }
    for text in [
        "", "true", "no", "On", "1", "1.5", "1e5", "0x1f", "007", "~", "null", "a b", "a: b", "- a", "#", "a,b", "*a",
        "a]",
    ] {
        assert!(!schema::is_plain_text(text), "{text}");
    }
}
