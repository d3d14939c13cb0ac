//! Label and field selectors of lists and watches.

use serde_json::Value;

use super::status::{ApiResult, Failure};

#[derive(Debug, Clone, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

/// What a list or a watch is narrowed to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

/// Splits at commas that are not within parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|p| !p.is_empty()).collect()
}

fn values(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.split(',').map(|v| v.trim().to_owned()).collect())
}

fn requirement(part: &str) -> Option<Requirement> {
    if let Some((key, rest)) = part.split_once(" notin ") {
        return Some(Requirement::NotIn(key.trim().to_owned(), values(rest)?));
    }
    if let Some((key, rest)) = part.split_once(" in ") {
        return Some(Requirement::In(key.trim().to_owned(), values(rest)?));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some(Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Requirement::In(key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    if part.contains(' ') {
        return None;
    }
    Some(match part.strip_prefix('!') {
        Some(key) => Requirement::Missing(key.to_owned()),
        None => Requirement::Exists(part.to_owned()),
    })
}

/// Fields that the simulated server can select by, for every kind.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "status.phase",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.kind",
    "involvedObject.uid",
    "type",
    "reason",
];

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400 for what cannot be parsed or is not supported.
    pub fn parse(labels: Option<&str>, fields: Option<&str>) -> ApiResult<Self> {
        let mut selector = Self::default();
        for part in split(labels.unwrap_or_default()) {
            let Some(parsed) = requirement(part) else {
                return Err(Failure::bad_request(format!("unable to parse requirement: {part}")));
            };
            selector.labels.push(parsed);
        }
        for part in split(fields.unwrap_or_default()) {
            let parsed = part
                .split_once("!=")
                .map(|(k, v)| (k, false, v))
                .or_else(|| part.split_once("==").or_else(|| part.split_once('=')).map(|(k, v)| (k, true, v)));
            let Some((key, equal, value)) = parsed else {
                return Err(Failure::bad_request(format!("invalid field selector: {part}")));
            };
            if !FIELDS.contains(&key) {
                return Err(Failure::bad_request(format!("field label not supported: {key}")));
            }
            selector.fields.push((key.to_owned(), equal, value.to_owned()));
        }
        Ok(selector)
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"].get(key).and_then(Value::as_str);
        let labels = self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Requirement::NotIn(key, values) => label(key).is_none_or(|v| values.iter().all(|w| w != v)),
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Missing(key) => label(key).is_none(),
        });
        labels
            && self.fields.iter().all(|(key, equal, wanted)| {
                let found = key.split('.').fold(object, |value, part| &value[part]).as_str().unwrap_or_default();
                (found == wanted) == *equal
            })
    }

    /// Whether `matchLabels` and `matchExpressions` of a LabelSelector select these labels. An empty one selects all.
    pub fn label_selector(selector: &Value, labels: &Value) -> bool {
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        let by_label = selector["matchLabels"]
            .as_object()
            .is_none_or(|wanted| wanted.iter().all(|(key, value)| label(key) == value.as_str()));
        let by_expression = selector["matchExpressions"].as_array().is_none_or(|all| {
            all.iter().all(|expression| {
                let found = expression["key"].as_str().and_then(label);
                let listed = expression["values"]
                    .as_array()
                    .is_some_and(|values| found.is_some_and(|v| values.iter().any(|w| w == v)));
                match expression["operator"].as_str() {
                    Some("In") => listed,
                    Some("NotIn") => !listed,
                    Some("Exists") => found.is_some(),
                    Some("DoesNotExist") => found.is_none(),
                    _ => false,
                }
            })
        });
        by_label && by_expression
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_label_and_field_selectors_selects_what_it_should() {
        let object = json!({
            "metadata": { "name": "a", "labels": { "app": "x", "tier": "web" } },
            "spec": { "nodeName": "n1" },
        });
        let matches =
            |labels: &str, fields: &str| Selector::parse(Some(labels), Some(fields)).unwrap().matches(&object);
        assert!(matches("", ""));
        assert!(matches("app=x,tier in (web, db)", "spec.nodeName=n1"));
        assert!(matches("app==x,!gone,tier", "metadata.name=a,spec.nodeName!=n2"));
        assert!(matches("tier notin (db),other!=1", ""));
        assert!(!matches("app=y", ""));
        assert!(!matches("!app", ""));
        assert!(!matches("tier notin (web,db)", ""));
        assert!(!matches("", "metadata.name=b"));
    }

    #[test]
    fn what_cannot_be_selected_by_is_refused() {
        assert_eq!(
            Selector::parse(None, Some("spec.colour=red")).unwrap_err().message,
            "field label not supported: spec.colour"
        );
        assert_eq!(Selector::parse(Some("a b"), None).unwrap_err().code, 400);
    }
}
