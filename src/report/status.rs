//! What `xgenctl status` prints.

use serde_json::Value;

use super::exit::ExitCode;
use super::style::{Paint, Style, harmless, pad, width, wrap};
use crate::engine::status::{ModuleState, ModuleStatus, StatusReport};

/// Columns of a table that stand before the others, in this order; the rest follow by name.
const FIRST_COLUMNS: [&str; 5] = ["name", "role", "state", "ready", "version"];

/// How `status` exits: 0 only if everything is converged.
pub fn exit_code(report: &StatusReport) -> ExitCode {
    if report.converged { ExitCode::Done } else { ExitCode::NotConverged }
}

/// The report as text. The JSON is the report itself, serialised.
pub fn render(report: &StatusReport, style: Style) -> String {
    let rows: Vec<Vec<String>> = report
        .modules
        .iter()
        .map(|m| {
            let of = |version: &Option<String>| version.as_deref().map_or("–".to_owned(), harmless);
            let (symbol, word, _) = words(m.state);
            vec![harmless(&m.module), format!("{symbol} {word}"), of(&m.version), of(&m.wanted)]
        })
        .collect();
    let head = ["module", "state", "version", "wanted"].map(str::to_owned);
    let paint = |row: usize, column: usize| (column == 1).then(|| words(report.modules[row].state).2);
    let mut text = table(style, 0, &head, &rows, paint);
    for module in &report.modules {
        text += &details(style, module);
    }
    let open = report.modules.iter().filter(|m| m.state != ModuleState::Converged).count();
    let (paint, said) = match (report.converged, open) {
        (true, _) => (Paint::Good, "Everything is as wanted.".to_owned()),
        (false, open) => (Paint::Warn, format!("{open} of {} not as wanted.", modules(report.modules.len()))),
    };
    let name = style.paint(Paint::Strong, &harmless(&report.project));
    format!("{name}\n\n{text}\n{}\n", style.paint(paint, &said))
}

fn modules(number: usize) -> String {
    super::style::count(number, "module")
}

/// Symbol, word and colour of a state.
fn words(state: ModuleState) -> (&'static str, &'static str, Paint) {
    match state {
        ModuleState::Converged => ("✔", "converged", Paint::Good),
        ModuleState::Drifted => ("~", "drifted", Paint::Warn),
        ModuleState::Absent => ("–", "absent", Paint::Warn),
        ModuleState::Unhealthy => ("✘", "unhealthy", Paint::Bad),
        ModuleState::Unknown => ("?", "unknown", Paint::Bad),
    }
}

/// The details of a module: plain values first, then lists, then tables.
fn details(style: Style, module: &ModuleStatus) -> String {
    if module.details.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", style.paint(Paint::Strong, &harmless(&module.module)));
    let is_table = |value: &Value| matches!(value, Value::Array(v) if !v.is_empty() && v.iter().all(Value::is_object));
    let (tables, values): (Vec<_>, Vec<_>) = module.details.iter().partition(|(_, value)| is_table(value));
    let column = values.iter().map(|(key, _)| width(key)).max().unwrap_or(0) + 4;
    for (key, value) in values {
        let head = format!("  {}", pad(&format!("{}:", harmless(key)), column - 2));
        let parts = match value {
            Value::Array(items) => items.iter().map(plain).collect(),
            value => vec![plain(value)],
        };
        let room = style.width.map_or(usize::MAX, |columns| columns.saturating_sub(column));
        let lines: Vec<_> = parts.iter().flat_map(|part| wrap(part, room)).collect();
        let lines = lines.join(&format!("\n{}", " ".repeat(column)));
        text += format!("{head}{lines}").trim_end();
        text.push('\n');
    }
    for (key, value) in tables {
        let Value::Array(rows) = value else { continue };
        text += &format!("  {}:\n", harmless(key));
        text += &objects(style, 4, rows);
    }
    text
}

/// Records of one kind as a table, one a line.
///
/// # Errors
/// Where they cannot be serialised.
pub fn records<T: serde::Serialize>(rows: &[T], style: Style) -> Result<String, serde_json::Error> {
    let rows = rows.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    Ok(objects(style, 0, &rows))
}

/// A list of objects as a table.
fn objects(style: Style, blanks: usize, rows: &[Value]) -> String {
    let mut keys: Vec<&String> = Vec::new();
    for key in rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let place = |key: &str| FIRST_COLUMNS.iter().position(|first| *first == key).unwrap_or(FIRST_COLUMNS.len());
    keys.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    let head: Vec<_> = keys.iter().map(|key| harmless(key)).collect();
    let cell = |row: &Value, key: &str| match row.get(key).map(plain) {
        Some(text) if !text.is_empty() => text,
        _ => "–".to_owned(),
    };
    let rows: Vec<Vec<_>> = rows.iter().map(|row| keys.iter().map(|key| cell(row, key)).collect()).collect();
    table(style, blanks, &head, &rows, |_, _| None)
}

/// A value on one line.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => harmless(text).trim_end().to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            map.iter().map(|(k, v)| format!("{}={}", harmless(k), plain(v))).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Columns below their heads; cells are coloured after they were measured.
pub(super) fn table(
    style: Style,
    blanks: usize,
    head: &[String],
    rows: &[Vec<String>],
    paint: impl Fn(usize, usize) -> Option<Paint>,
) -> String {
    let widest = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).chain(head.get(column)).map(|c| width(c)).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(widest).collect();
    let line = |cells: &[String], paint: &dyn Fn(usize) -> Option<Paint>| {
        let cells: Vec<_> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                // The last column needs no blanks behind it.
                let wide = if column + 1 == widths.len() { 0 } else { widths[column] };
                let cell = pad(cell, wide);
                paint(column).map_or(cell.clone(), |paint| style.paint(paint, &cell))
            })
            .collect();
        format!("{}{}\n", " ".repeat(blanks), cells.join("  ").trim_end())
    };
    let mut text = line(head, &|_| Some(Paint::Faint));
    for (number, row) in rows.iter().enumerate() {
        text += &line(row, &|column| paint(number, column));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> StatusReport {
        let k3s = ModuleStatus {
            version: Some("v1.36.5+k3s1".into()),
            wanted: Some("v1.36.6+k3s1".into()),
            ..ModuleStatus::new("k3s", ModuleState::Drifted)
        }
        .detail("differs", json!(["master: config.yaml differs from project.yaml", "gpu-1: not joined"]))
        .detail("api", "https://10.0.0.10:6443")
        .detail(
            "nodes",
            json!([
                {"address": "10.0.0.10", "name": "master", "ready": true, "role": "server"},
                {"name": "gpu-1", "ready": false, "role": "agent", "labels": {"gpu": "true"}},
            ]),
        );
        StatusReport::new("xgen", vec![k3s, ModuleStatus::new("agents", ModuleState::Converged)])
    }

    #[test]
    fn a_person_sees_modules_details_and_nodes() {
        assert_eq!(
            render(&report(), Style::PLAIN),
            "xgen

module  state        version       wanted
k3s     ~ drifted    v1.36.5+k3s1  v1.36.6+k3s1
agents  ✔ converged  –             –

k3s
  api:     https://10.0.0.10:6443
  differs: master: config.yaml differs from project.yaml
           gpu-1: not joined
  nodes:
    name    role    ready  address    labels
    master  server  yes    10.0.0.10  –
    gpu-1   agent   no     –          gpu=true

1 of 2 modules not as wanted.
"
        );
        let narrow = render(&report(), Style { colour: false, width: Some(40) });
        assert!(narrow.contains("           from project.yaml\n"), "{narrow}");
        assert_eq!(exit_code(&report()), ExitCode::NotConverged);
        let good = StatusReport::new("xgen", vec![ModuleStatus::new("k3s", ModuleState::Converged)]);
        assert!(render(&good, Style::PLAIN).ends_with("\nEverything is as wanted.\n"));
        assert_eq!(exit_code(&good), ExitCode::Done);
    }

    #[test]
    fn every_state_has_a_symbol_and_colours_do_not_move_columns() {
        let states = [ModuleState::Absent, ModuleState::Unhealthy, ModuleState::Unknown];
        let modules = states.map(|state| ModuleStatus::new("m", state)).to_vec();
        let report = StatusReport::new("p", modules);
        let plain = render(&report, Style::PLAIN);
        for line in
            ["m       – absent     –        –", "m       ✘ unhealthy  –        –", "m       ? unknown    –        –"]
        {
            assert!(plain.contains(line), "{plain}");
        }
        let coloured = render(&report, Style { colour: true, width: None });
        assert!(coloured.contains("\x1b[31m✘ unhealthy\x1b[0m  –"), "{coloured}");
        assert_eq!(harmless(&coloured), plain);
    }

    #[test]
    fn the_json_is_the_contract() {
        let text = serde_json::to_string(&StatusReport::new(
            "xgen",
            vec![ModuleStatus::new("k3s", ModuleState::Absent).detail("why", "no cluster")],
        ))
        .unwrap();
        assert_eq!(
            text,
            r#"{"project":"xgen","converged":false,"modules":[{"module":"k3s","state":"absent","version":null,"wanted":null,"details":{"why":"no cluster"}}]}"#
        );
    }
}
