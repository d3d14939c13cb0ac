//! From the file's shape to validated types: everything that a schema cannot say. All problems are collected.

mod nodes;

pub(super) use nodes::{only_server, this_machine};

use std::collections::{BTreeMap, HashMap};
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use serde_json::{Map, Value};

use super::defaults;
use super::error::{is_reference, password_in, shorten};
use super::model::*;
use super::raw::*;
use super::rules;
use super::schema::sentence;
use super::secrets::{Mode, SecretsStore, missing};
use super::yaml::{Fault, Kind, Node as Tree};
use crate::secret::Secret;

/// The reference to a secret, as messages show it.
const REFERENCE: &str = "${secret:NAME}";

/// A place in the tree; one that does not exist stands for the nearest that does.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    tree: Option<&'a Tree>,
    key: Option<Range<usize>>,
    near: Range<usize>,
}

impl<'a> At<'a> {
    fn root(tree: &'a Tree) -> Self {
        Self { tree: Some(tree), key: None, near: tree.span.clone() }
    }

    /// The value under a key.
    fn key(&self, key: &str) -> Self {
        match self.tree.and_then(|t| t.entry(key)) {
            Some(e) => Self { tree: Some(&e.value), key: Some(e.key_span.clone()), near: e.key_span.clone() },
            None => Self { tree: None, key: None, near: self.span() },
        }
    }

    /// An item of a list.
    fn item(&self, index: usize) -> Self {
        match self.tree.and_then(|t| t.items().get(index)) {
            Some(item) => Self { tree: Some(item), key: None, near: item.span.clone() },
            None => Self { tree: None, key: None, near: self.span() },
        }
    }

    /// What is marked for this place: a value, or the key of a section.
    fn span(&self) -> Range<usize> {
        match (self.tree, &self.key) {
            (Some(tree), _) if matches!(&*tree.kind, Kind::Scalar { .. }) && !tree.span.is_empty() => tree.span.clone(),
            (_, Some(key)) => key.clone(),
            (Some(tree), None) => tree.span.clone(),
            (None, None) => self.near.clone(),
        }
    }

    /// The key itself.
    fn key_span(&self) -> Range<usize> {
        self.key.clone().unwrap_or_else(|| self.span())
    }
}

/// What validation works with.
pub(super) struct Check<'a> {
    /// Where paths that are relative begin.
    pub folder: &'a Path,
    /// Where the lines of the text end, in bytes.
    pub line_ends: Vec<usize>,
    /// Where references are looked up.
    pub secrets: &'a mut SecretsStore,
    /// Whether key files must be there.
    pub mode: Mode,
    /// What was found wrong.
    pub faults: Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, span: Range<usize>, message: String, label: impl Into<String>, help: impl Into<String>) {
        let help = help.into();
        let help = (!help.is_empty()).then_some(help);
        self.faults.push(Fault { span, message, label: label.into(), help });
    }

    fn line(&self, at: &At<'_>) -> usize {
        self.line_ends.partition_point(|end| *end < at.span().start) + 1
    }

    /// A value that must be one `${secret:NAME}`: passwords never stand in project.yaml.
    fn secret(&mut self, at: &At<'_>, value: Option<&str>) -> Option<Secret> {
        let value = value?;
        if !is_reference(value) {
            let message = "a secret in the clear".to_owned();
            let help = format!("write `{REFERENCE}` here and `NAME: \"the value\"` into secrets.yaml beside this file");
            self.fault(at.span(), message, "passwords never stand in project.yaml", help);
            return None;
        }
        self.expand(at, value).map(Secret::new)
    }

    /// A text in which `${secret:NAME}` stands for a secret. `None` where one is wrong or missing (which is reported).
    fn expand(&mut self, at: &At<'_>, value: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = value;
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let end = rest[start..].find('}').map(|end| start + end);
            let name = end.and_then(|end| rest[start..end].strip_prefix("${secret:"));
            let (Some(end), Some(name)) = (end, name.filter(|n| rules::secret_name(n))) else {
                let help =
                    format!("write `{REFERENCE}`; names have capital letters, digits and `_`, and begin with a letter");
                self.fault(at.span(), "not a reference to a secret".into(), "cannot be read", help);
                return None;
            };
            match self.secrets.find(name) {
                Ok(secret) => out.push_str(secret.expose()),
                Err(help) => {
                    self.fault(at.span(), missing(name), "needed here", help);
                    return None;
                }
            }
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Some(out)
    }

    /// The same for every text in a value of no fixed shape.
    fn expand_all(&mut self, at: &At<'_>, value: &mut Value) {
        match value {
            Value::String(text) if text.contains("${") => {
                if let Some(expanded) = self.expand(at, text) {
                    *text = expanded;
                }
            }
            Value::Array(items) => {
                items.iter_mut().enumerate().for_each(|(i, item)| self.expand_all(&at.item(i), item));
            }
            Value::Object(map) => map.iter_mut().for_each(|(key, item)| self.expand_all(&at.key(key), item)),
            _ => {}
        }
    }

    /// Refuses a reference to a secret where it would end up somewhere readable.
    fn no_secret(&mut self, at: &At<'_>, value: &str) {
        if value.contains("${") {
            let help = "secrets go to passwords of `ssh`, `proxy` and `config`".to_owned();
            self.fault(at.span(), "a reference to a secret cannot stand here".into(), "not a secret place", help);
        }
    }

    fn name(&mut self, at: &At<'_>, what: &str, name: &str, rule: fn(&str) -> Result<(), String>) {
        if let Err(reason) = rule(name) {
            let help = match rules::suggest_name(name).filter(|n| rule(n).is_ok()) {
                Some(made) => format!("write `{made}`"),
                None => String::new(),
            };
            self.fault(at.span(), format!("the {what} `{}` {reason}", shorten(name)), "not a valid name", help);
        }
    }

    fn domain(&mut self, at: &At<'_>, domain: &str) {
        if domain.is_empty() {
            return;
        }
        if let Err(reason) = rules::subdomain(&domain.to_ascii_lowercase()) {
            let help = "write a DNS name without `https://`, port or path: xgen.example";
            self.fault(at.span(), format!("the domain `{}` {reason}", shorten(domain)), "not a DNS name", help);
        }
    }

    /// An address that begins with http:// or https:// and holds no password.
    fn url(&mut self, at: &At<'_>, what: &str, url: &str, credentials: &str) {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if rest.is_none_or(|r| r.is_empty() || r.starts_with('/') || r.contains(char::is_whitespace)) {
            let message = format!("{what} is no address: `{}`", shorten(url));
            self.fault(at.span(), message, "expected http:// or https:// and a host", "");
        }
        if password_in(url).is_some() {
            self.fault(at.span(), "a secret in the clear".into(), "this address has a password in it", credentials);
        }
    }

    fn unique<'n>(&mut self, at: &At<'_>, what: &str, name: &'n str, seen: &mut HashMap<&'n str, usize>) {
        let line = self.line(at);
        match seen.get(name) {
            Some(first) => {
                let label = format!("first used in line {first}");
                let message = format!("two {what} are named `{}`", shorten(name));
                self.fault(at.span(), message, label, "give each a name of its own");
            }
            None => {
                seen.insert(name, line);
            }
        }
    }

    /// K3s configuration: keys that xgenctl sets itself are refused, references to secrets resolved.
    fn k3s_config(&mut self, at: &At<'_>, path: &str, config: &mut Map<String, Value>) {
        for key in config.keys().cloned().collect::<Vec<_>>() {
            let place = at.key(&key);
            let bare = key.trim_end_matches('+');
            if let Some((_, instead)) = MANAGED.iter().find(|(managed, _)| *managed == bare) {
                let message = format!("`{}` in `{path}` is set by xgenctl itself", shorten(&key));
                self.fault(place.key_span(), message, "cannot be set here", *instead);
            } else if bare == "node-ip" && path == "k3s.config" {
                let message = format!("`{key}` cannot be the same on every node");
                self.fault(place.key_span(), message, "cannot be set here", "use `address` of each entry of `nodes`");
            } else if bare.is_empty()
                || bare.starts_with('-')
                || !bare.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            {
                let made = bare.trim_start_matches('-').to_ascii_lowercase().replace('_', "-");
                let message = format!("`{}` is no key of K3s' configuration", shorten(&key));
                let help = format!("keys are K3s' options without the dashes in front: `{}`", shorten(&made));
                self.fault(place.key_span(), message, "not an option's name", help);
            } else if SECRET_OPTIONS.contains(&bare) && config[&key].as_str().is_none_or(|v| !is_reference(v)) {
                self.secret(&place, Some("in the clear"));
            }
        }
        // Problems of references inside are reported by the place they stand at.
        for (key, value) in config.iter_mut() {
            self.expand_all(&at.key(key), value);
        }
    }
}

/// Options of K3s that xgenctl sets, and where a person sets them instead.
const MANAGED: &[(&str, &str)] = &[
    ("token", "a join token for a new cluster is the secret K3S_TOKEN in secrets.yaml"),
    ("token-file", "a join token for a new cluster is the secret K3S_TOKEN in secrets.yaml"),
    ("agent-token", "agents join with the token of the servers: the secret K3S_TOKEN in secrets.yaml"),
    ("agent-token-file", "agents join with the token of the servers: the secret K3S_TOKEN in secrets.yaml"),
    ("server", "it follows from `nodes`: the first entry with `role: server`"),
    ("cluster-init", "it follows from `nodes`: set where there is more than one server"),
    ("cluster-reset", "it is for a start by hand, once, never for a configuration that stays"),
    ("node-name", "use `name` of the entry in `nodes`"),
    ("with-node-id", "use `name` of the entries in `nodes`"),
    ("node-label", "use `labels` of the entry in `nodes`"),
    ("node-taint", "use `taints` of the entry in `nodes`"),
    ("data-dir", "xgenctl relies on /var/lib/rancher/k3s; to use another disk, mount it there"),
    ("write-kubeconfig", "xgenctl reads /etc/rancher/k3s/k3s.yaml; use `xgenctl kubeconfig` for a copy"),
    ("private-registry", "xgenctl writes /etc/rancher/k3s/registries.yaml"),
];

/// Options of K3s that are secrets as a whole.
const SECRET_OPTIONS: &[&str] = &["etcd-s3-secret-key", "etcd-s3-session-token", "vpn-auth"];

/// Validates the whole file. The result only counts where no fault was found.
pub(super) fn project(raw: RawProject, tree: &Tree, check: &mut Check<'_>) -> Project {
    let root = At::root(tree);
    let meta = root.key("project");
    check.name(&meta.key("name"), "project name", &raw.project.name, rules::label_name);
    if let Some(namespace) = &raw.project.namespace {
        check.name(&meta.key("namespace"), "namespace", namespace, rules::label_name);
    }
    let namespace = raw.project.namespace.unwrap_or_else(|| raw.project.name.clone());
    check.name(&root.key("env"), "environment", &raw.env, rules::label_name);

    let destinations = destinations(check, &root, raw.destinations);
    let own = raw.domain.trim();
    check.domain(&root.key("domain"), own);
    let domain = match (own, destinations.get(&raw.env)) {
        ("", Some(destination)) => Some(destination.domain.clone()).filter(|d| !d.is_empty()),
        ("", None) if !destinations.is_empty() => {
            let known = destinations.keys().take(10).map(|k| format!("`{k}`")).collect::<Vec<_>>();
            let known = sentence(&known.iter().map(String::as_str).collect::<Vec<_>>(), "and");
            let message = format!("the environment `{}` is not among the destinations", shorten(&raw.env));
            let help = format!("`destinations` has {known}; add this one there, or set `domain`");
            check.fault(root.key("env").span(), message, "the domain cannot be found", help);
            None
        }
        ("", None) => None,
        (own, _) => Some(own.to_owned()),
    };
    let source = raw.source.map(|s| {
        let at = root.key("source").key("repoURL");
        check.no_secret(&at, &s.repo_url);
        if !s.repo_url.starts_with("git@") && !s.repo_url.starts_with("ssh://") {
            let help = "write the address without user and password; the token is the secret GIT_TOKEN in secrets.yaml";
            check.url(&at, "`source.repoURL`", &s.repo_url, help);
        }
        GitSource { repo_url: s.repo_url, target_revision: s.target_revision }
    });
    let (services, extra_apps) = applications(check, &root, raw.services, raw.extra_apps);

    let k3s_at = root.key("k3s");
    let mut config = raw.k3s.config;
    let range = node_port_range(check, &k3s_at.key("config"), &config);
    check.k3s_config(&k3s_at.key("config"), "k3s.config", &mut config);
    let version = raw.k3s.version.parse().unwrap_or_else(|help: String| {
        let message = format!("`{}` is no version of K3s", shorten(&raw.k3s.version));
        check.fault(k3s_at.key("version").span(), message, "expected something like v1.36.5+k3s1", help);
        default_version()
    });
    let external_datastore = config.contains_key("datastore-endpoint");
    let nodes = nodes::nodes(check, &root, raw.nodes, external_datastore);
    ports(check, &root, &raw.ingress, &raw.registry, range);
    if !rules::storage(&raw.registry.storage) {
        let message = format!("`{}` is no size", shorten(&raw.registry.storage));
        check.fault(root.key("registry").key("storage").span(), message, "expected something like 20Gi", "");
    }
    let mirror = root.key("mirrors").key("k3s");
    check.no_secret(&mirror, &raw.mirrors.k3s);
    check.url(&mirror, "`mirrors.k3s`", &raw.mirrors.k3s, "a mirror must be readable without a password");

    let registries = raw.images.registries.unwrap_or_else(|| vec![format!("localhost:{}", raw.registry.node_port)]);
    for (index, registry) in registries.iter().enumerate() {
        if registry.is_empty() || registry.contains("://") || registry.contains(char::is_whitespace) {
            let at = root.key("images").key("registries").item(index);
            let message = format!("`{}` is no registry", shorten(registry));
            check.fault(
                at.span(),
                message,
                "expected a host and port without https://",
                "for example nexus.example:5000",
            );
        }
    }
    let token = check.secrets.get("K3S_TOKEN");
    Project {
        file: None,
        name: raw.project.name,
        description: raw.project.description,
        namespace,
        source,
        env: raw.env,
        domain,
        site: raw.site,
        nodes,
        k3s: K3s { version, config, token },
        proxy: raw.proxy.map(|p| proxy(check, &root.key("proxy"), p)),
        k3s_mirror: raw.mirrors.k3s.trim_end_matches('/').to_owned(),
        ingress: Ingress {
            kind: raw.ingress.kind,
            status_port: raw.ingress.node_ports.status,
            http_port: raw.ingress.node_ports.http,
            https_port: raw.ingress.node_ports.https,
        },
        registry: Registry { node_port: raw.registry.node_port, storage: raw.registry.storage },
        images: Images { mode: raw.images.mode, registries },
        services,
        extra_apps,
        destinations,
        vars: raw.vars,
        environments: raw.environments,
    }
}

/// The version where project.yaml names none.
pub(super) fn default_version() -> K3sVersion {
    // The constant is a valid version, which a test holds it to; the fallback only spares a panic.
    defaults::K3S_VERSION.parse().unwrap_or(K3sVersion { major: 0, minor: 0, patch: 0, suffix: String::new() })
}

fn destinations(
    check: &mut Check<'_>,
    root: &At<'_>,
    raw: BTreeMap<String, RawDestination>,
) -> BTreeMap<String, Destination> {
    let at = root.key("destinations");
    raw.into_iter()
        .map(|(env, d)| {
            let place = at.key(&env);
            if let Err(reason) = rules::label_name(&env) {
                let message = format!("the environment `{}` {reason}", shorten(&env));
                check.fault(place.key_span(), message, "not a valid name", "");
            }
            check.domain(&place.key("domain"), d.domain.trim());
            check.url(&place.key("server"), "`server`", &d.server, "credentials of a cluster go to secrets.yaml");
            (env, Destination { server: d.server, domain: d.domain.trim().to_owned() })
        })
        .collect()
}

fn applications(
    check: &mut Check<'_>,
    root: &At<'_>,
    services: Vec<RawService>,
    extra: Vec<RawExtraApp>,
) -> (Vec<Service>, Vec<ExtraApp>) {
    let mut seen = HashMap::new();
    for (i, service) in services.iter().enumerate() {
        let at = root.key("services").item(i);
        check.name(&at.key("name"), "service name", &service.name, rules::label_name);
        check.unique(&at.key("name"), "services", &service.name, &mut seen);
        if let Some(file) = service.values_file.as_deref().filter(|f| !rules::inside(f)) {
            let message = format!("`{}` is no file of the repository", shorten(file));
            check.fault(
                at.key("valuesFile").span(),
                message,
                "expected a relative path",
                "write it without `/` in front and without `..`",
            );
        }
    }
    for (i, app) in extra.iter().enumerate() {
        let at = root.key("extraApps").item(i);
        check.name(&at.key("name"), "name of an extra app", &app.name, rules::label_name);
        check.unique(&at.key("name"), "applications", &app.name, &mut seen);
        if !rules::inside(&app.path) {
            let message = format!("`{}` is no folder of the repository", shorten(&app.path));
            check.fault(
                at.key("path").span(),
                message,
                "expected a relative path",
                "write it without `/` in front and without `..`",
            );
        }
        if let Some(namespace) = &app.namespace {
            check.name(&at.key("namespace"), "namespace", namespace, rules::label_name);
        }
    }
    let services = services.into_iter().map(|s| Service {
        values_file: s.values_file.unwrap_or_else(|| format!("{}.yaml", s.name)),
        name: s.name,
        has_domain: s.has_domain,
    });
    let extra = extra.into_iter().map(|a| ExtraApp {
        namespace: a.namespace.unwrap_or_else(|| a.name.clone()),
        name: a.name,
        path: a.path,
    });
    (services.collect(), extra.collect())
}

fn proxy(check: &mut Check<'_>, at: &At<'_>, raw: RawProxy) -> Proxy {
    let mut one = |key: &str, value: Option<String>| {
        let value = value.filter(|v| !v.is_empty())?;
        let place = at.key(key);
        // A reference may stand for the whole address.
        if !is_reference(&value) {
            let help = "write `http://user:${secret:PROXY_PASSWORD}@host:port` and PROXY_PASSWORD into secrets.yaml";
            check.url(&place, &format!("`proxy.{key}`"), &value, help);
        }
        let expanded = check.expand(&place, &value)?;
        let blank = |text: &str| text.contains(|c: char| c.is_whitespace() || c.is_control());
        if blank(&expanded) && !blank(&value) {
            let message = format!("the address of `proxy.{key}` has a blank in it");
            check.fault(place.span(), message, "not an address", "write %20 for a blank in a password");
        }
        Some(Secret::new(expanded))
    };
    let (http, https) = (one("http", raw.http), one("https", raw.https));
    for (i, entry) in raw.no_proxy.iter().enumerate() {
        if entry.is_empty() || entry.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control()) {
            let message = format!("`{}` is no entry for NO_PROXY", shorten(entry));
            let help = "write a host, a domain or a network, one an entry";
            check.fault(at.key("noProxy").item(i).span(), message, "not one entry", help);
        }
    }
    Proxy { http, https, no_proxy: raw.no_proxy }
}

/// The range of node ports that `k3s.config` asks for.
fn node_port_range(check: &mut Check<'_>, at: &At<'_>, config: &Map<String, Value>) -> RangeInclusive<u16> {
    let Some(value) = config.get("service-node-port-range") else { return defaults::NODE_PORTS };
    let range = value.as_str().and_then(|text| {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
        (first > 0 && first <= last).then_some(first..=last)
    });
    range.unwrap_or_else(|| {
        let at = at.key("service-node-port-range");
        check.fault(at.span(), "no range of ports".into(), "expected something like 30000-32767", "");
        1..=u16::MAX
    })
}

fn ports(
    check: &mut Check<'_>,
    root: &At<'_>,
    ingress: &RawIngress,
    registry: &RawRegistry,
    range: RangeInclusive<u16>,
) {
    let gateway = root.key("ingress").key("nodePorts");
    let all = [
        ("ingress.nodePorts.status", gateway.key("status"), ingress.node_ports.status),
        ("ingress.nodePorts.http", gateway.key("http"), ingress.node_ports.http),
        ("ingress.nodePorts.https", gateway.key("https"), ingress.node_ports.https),
        ("registry.nodePort", root.key("registry").key("nodePort"), registry.node_port),
    ];
    for (i, (name, at, port)) in all.iter().enumerate() {
        if !range.contains(port) {
            let message = format!("port {port} of `{name}` is no node port");
            let label = format!("expected {} to {}", range.start(), range.end());
            check.fault(at.span(), message, label, "`service-node-port-range` in `k3s.config` changes the range");
        }
        if let Some((other, _, _)) = all[..i].iter().find(|(_, _, p)| p == port) {
            let message = format!("`{name}` and `{other}` have the same port {port}");
            check.fault(at.span(), message, "taken already", "give each a port of its own");
        }
    }
}
