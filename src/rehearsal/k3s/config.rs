//! What a K3s process is told: its command line, its environment, and /etc/rancher/k3s/config.yaml.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::flags;
use crate::rehearsal::state::HostState;

/// Where K3s looks for its configuration.
pub const CONFIG: &str = "/etc/rancher/k3s/config.yaml";

/// What a unit file says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `Type=`.
    pub kind: String,
    /// `ExecStart=`, split.
    pub exec: Vec<String>,
    /// `EnvironmentFile=`, without the leading dash.
    pub environment_files: Vec<String>,
    /// `Environment=`.
    pub environment: Vec<(String, String)>,
    /// `Restart=`.
    pub restart: String,
    /// `RestartSec=`, in milliseconds.
    pub restart_ms: i64,
}

/// Reads a unit file: assignments, continued lines, comments.
pub fn parse_unit(name: &str, text: &str) -> Unit {
    let mut unit = Unit {
        kind: "simple".into(),
        exec: Vec::new(),
        environment_files: Vec::new(),
        environment: Vec::new(),
        restart: "no".into(),
        restart_ms: 100,
    };
    let joined = text.replace("\\\n", " ");
    let short = name.strip_suffix(".service").unwrap_or(name);
    for line in joined.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        match key.trim() {
            "Type" => unit.kind = value.to_owned(),
            "ExecStart" => unit.exec = words(value),
            "EnvironmentFile" => {
                unit.environment_files.push(value.trim_start_matches('-').replace("%N", short).replace("%n", name));
            }
            "Environment" => {
                unit.environment.extend(words(value).iter().filter_map(|w| w.split_once('=')).map(owned));
            }
            "Restart" => unit.restart = value.to_owned(),
            "RestartSec" => {
                let seconds = value.trim_end_matches("ms").trim_end_matches('s').parse::<i64>().unwrap_or(5);
                unit.restart_ms = if value.ends_with("ms") { seconds } else { seconds * 1000 };
            }
            _ => {}
        }
    }
    unit
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// Splits at spaces, with quotes as systemd has them.
fn words(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let (mut word, mut quote, mut open) = (String::new(), None, false);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                open = true;
            }
            (None, c) if c.is_whitespace() => {
                if open || !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                open = false;
            }
            (None, c) => word.push(c),
        }
    }
    if open || !word.is_empty() {
        out.push(word);
    }
    out
}

/// The settings of a K3s process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Whether it is a server.
    pub server: bool,
    values: BTreeMap<String, Vec<String>>,
    /// Warnings that K3s logs about them.
    pub warnings: Vec<String>,
}

impl Config {
    /// The last value of a flag.
    pub fn one(&self, flag: &str) -> Option<&str> {
        self.values.get(flag).and_then(|v| v.last()).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// All values of a flag; values may be separated by commas.
    pub fn all(&self, flag: &str) -> Vec<String> {
        self.values.get(flag).into_iter().flatten().flat_map(|v| v.split(',')).map(str::to_owned).collect()
    }

    /// All values of a flag whose values may hold commas themselves.
    pub fn each(&self, flag: &str) -> &[String] {
        self.values.get(flag).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a boolean flag is on.
    pub fn is_on(&self, flag: &str) -> bool {
        matches!(self.one(flag), Some("true" | "1" | "t"))
    }

    fn add(&mut self, flag: &str, values: Vec<String>, append: bool) {
        let entry = self.values.entry(flag.to_owned()).or_default();
        if !append {
            entry.clear();
        }
        entry.extend(values);
    }
}

fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::Bool(b) => Ok(b.to_string()),
        Value::Number(n) => Ok(n.to_string()),
        Value::String(s) => Ok(s.clone()),
        _ => Err("a value is neither a scalar nor a list of scalars".into()),
    }
}

/// Short forms of flags.
fn long(flag: &str) -> &str {
    match flag {
        "t" => "token",
        "s" => "server",
        "d" => "data-dir",
        "c" => "config",
        "i" => "node-ip",
        "o" => "write-kubeconfig",
        "l" => "log",
        other => other,
    }
}

/// The settings that a unit's process starts with.
///
/// # Errors
/// The journal lines K3s ends with where they are no good.
pub fn load(host: &HostState, unit: &Unit) -> Result<Config, Vec<String>> {
    let fatal = |message: String| vec![format!("level=fatal msg={message:?}")];
    let mut config = Config { server: unit.exec.iter().any(|w| w == "server"), ..Config::default() };

    if let Some(bytes) = host.read(CONFIG) {
        let text = String::from_utf8_lossy(bytes);
        let parsed: Value = serde_yaml::from_str(&text).map_err(|e| fatal(format!("yaml: {e}")))?;
        let entries = match parsed {
            Value::Null => serde_yaml::Mapping::new(),
            Value::Mapping(entries) => entries,
            _ => return Err(fatal("yaml: unmarshal errors: cannot unmarshal the file into a mapping".into())),
        };
        for (key, value) in entries {
            let key = scalar(&key).map_err(|e| fatal(format!("yaml: {e}")))?;
            let (name, append) = match key.strip_suffix('+') {
                Some(name) => (name, true),
                None => (key.as_str(), false),
            };
            let name = long(name).to_owned();
            // A server skips what it does not know; an agent takes it for a flag and fails.
            if config.server && !flags::server_knows(&name) {
                config
                    .warnings
                    .push(format!("level=warning msg=\"Unknown flag --{name} found in config.yaml, skipping\\n\""));
                continue;
            }
            if !config.server && !flags::agent_knows(&name) {
                return Err(vec![
                    format!("Incorrect Usage: flag provided but not defined: -{name}"),
                    format!("level=fatal msg=\"flag provided but not defined: -{name}\""),
                ]);
            }
            let values = match &value {
                Value::Sequence(items) => items.iter().map(scalar).collect::<Result<Vec<_>, _>>(),
                single => scalar(single).map(|s| vec![s]),
            };
            config.add(&name, values.map_err(|e| fatal(format!("yaml: {e}")))?, append);
        }
    }

    let mut environment = unit.environment.clone();
    for file in &unit.environment_files {
        let text = host.read_text(file).unwrap_or_default();
        for line in text.lines().map(str::trim).filter(|l| !l.starts_with('#')) {
            if let Some((key, value)) = line.split_once('=') {
                environment.push((key.trim().to_owned(), value.trim().trim_matches(['\'', '"']).to_owned()));
            }
        }
    }
    for (key, value) in environment {
        let flag = match key.as_str() {
            "K3S_TOKEN" => "token",
            "K3S_URL" => "server",
            "K3S_NODE_NAME" => "node-name",
            "K3S_AGENT_TOKEN" => "agent-token",
            _ => continue,
        };
        config.values.entry(flag.to_owned()).or_insert_with(|| vec![value]);
    }

    let mut arguments = unit.exec.iter().skip_while(|w| *w != "server" && *w != "agent").skip(1).peekable();
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else { continue };
        let (flag, value) = match flag.split_once('=') {
            Some((flag, value)) => (flag, value.to_owned()),
            None => match arguments.peek() {
                Some(next) if !next.starts_with('-') => (flag, arguments.next().cloned().unwrap_or_default()),
                _ => (flag, "true".to_owned()),
            },
        };
        let flag = long(flag);
        let known = if config.server { flags::server_knows(flag) } else { flags::agent_knows(flag) };
        if !known {
            return Err(vec![
                format!("Incorrect Usage: flag provided but not defined: -{flag}"),
                format!("level=fatal msg=\"flag provided but not defined: -{flag}\""),
            ]);
        }
        given.entry(flag.to_owned()).or_default().push(value);
    }
    for (flag, values) in given {
        let repeats =
            matches!(flag.as_str(), "node-label" | "node-taint" | "tls-san" | "disable") || flag.ends_with("-arg");
        config.add(&flag, values, repeats);
    }
    if let Some(path) = config.one("token-file").map(str::to_owned) {
        let token = host.read_text(&path).ok_or_else(|| fatal(format!("open {path}: no such file or directory")))?;
        config.add("token", vec![token.trim().to_owned()], false);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "[Service]\nType=notify\nEnvironmentFile=-/etc/default/%N\n\
        EnvironmentFile=-/etc/systemd/system/k3s.service.env\nExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--disable' \\\n\t'traefik' \\\n\nRestart=always\nRestartSec=5s\n";

    #[test]
    fn a_unit_of_the_install_script_is_understood() {
        let unit = parse_unit("k3s.service", UNIT);
        assert_eq!(unit.exec, ["/usr/local/bin/k3s", "server", "--disable", "traefik"]);
        assert_eq!(unit.kind, "notify");
        assert_eq!(unit.restart_ms, 5000);
        assert_eq!(unit.environment_files, ["/etc/default/k3s", "/etc/systemd/system/k3s.service.env"]);
        let mut host = HostState::default();
        host.write("/etc/systemd/system/k3s.service.env", 0o600, "K3S_TOKEN='abc'\n");
        host.write(CONFIG, 0o600, "disable: [servicelb]\ncolour: red\nwrite-kubeconfig-mode: 600\n");
        let config = load(&host, &unit).unwrap();
        assert_eq!(config.one("token"), Some("abc"));
        assert_eq!(config.all("disable"), ["servicelb", "traefik"]);
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn an_agent_fails_on_a_flag_it_does_not_know() {
        let unit = parse_unit("k3s-agent.service", "[Service]\nExecStart=/usr/local/bin/k3s agent\n");
        let mut host = HostState::default();
        host.write(CONFIG, 0o600, "tls-san: [a]\n");
        let lines = load(&host, &unit).unwrap_err();
        assert_eq!(lines[1], "level=fatal msg=\"flag provided but not defined: -tls-san\"");
        host.write(CONFIG, 0o600, "a: [b\n");
        assert!(load(&host, &unit).unwrap_err()[0].starts_with("level=fatal msg=\"yaml: "));
    }
}
