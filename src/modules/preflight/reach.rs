//! Whether nodes reach each other, and whether downloads work.

use super::scope::{Finding, Scope};
use crate::artifact::FetchError;
use crate::engine::event::{CheckLevel, CheckResult};
use crate::engine::identity::{node_address, url_host};
use crate::host::HostSeen;
use crate::project::{Node, Project, Role};

pub(super) const REACHABLE: &str = "reachable";
pub(super) const DOWNLOAD: &str = "download";

/// A port of another node that a node has to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, as `reach.sh` takes it.
    pub endpoint: String,
    /// The node it belongs to.
    pub node: String,
    /// How bad it is when a firewall is between.
    pub level: CheckLevel,
}

/// What one node has to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The node that tries.
    pub from: String,
    /// What it tries.
    pub targets: Vec<Target>,
}

impl Reach {
    /// The arguments for `reach.sh`.
    pub fn endpoints(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.endpoint.clone()).collect()
    }
}

/// What has to be tried from which node, to be run there with `reach.sh`. Nodes with nothing to try are left out.
pub fn reach_targets(project: &Project, hosts: &[(Node, HostSeen)]) -> Vec<Reach> {
    let runs = |node: &Node, seen: &HostSeen| Scope::new(project, node, seen).runs_k3s();
    let mut all = Vec::new();
    for (from, from_seen) in hosts {
        let etcd = Scope::new(project, from, from_seen).etcd();
        let mut targets = Vec::new();
        for (to, to_seen) in hosts.iter().filter(|(to, _)| to.display_name() != from.display_name()) {
            // Both work in the cluster already: no need to ask again in every run.
            if runs(from, from_seen) && runs(to, to_seen) {
                continue;
            }
            let Some(address) = node_address(to, to_seen).map(|a| url_host(&a)) else { continue };
            let mut ports = Vec::new();
            if to.role == Role::Server {
                ports.push((Scope::new(project, to, to_seen).api_port(), CheckLevel::Block));
                if from.role == Role::Server && etcd {
                    ports.extend([(2379, CheckLevel::Block), (2380, CheckLevel::Block)]);
                }
            }
            if from.role == Role::Server {
                // Logs and commands go through a tunnel that the agent opens; metrics come by this port.
                ports.push((10250, CheckLevel::Warning));
            }
            targets.extend(ports.into_iter().map(|(port, level)| Target {
                endpoint: format!("{address}:{port}"),
                node: to.display_name().to_owned(),
                level,
            }));
        }
        if !targets.is_empty() {
            all.push(Reach { from: from.display_name().to_owned(), targets });
        }
    }
    all
}

/// Judges what `reach.sh` printed on the node of `reach`. A port that refuses is reachable: nothing listens there yet.
pub fn judge_reach(reach: &Reach, output: &str) -> CheckResult {
    let state = |endpoint: &str| {
        output.lines().find_map(|line| line.strip_prefix(endpoint)?.strip_prefix(' ')).unwrap_or("unknown").trim_end()
    };
    let in_state = |wanted: &str| reach.targets.iter().filter(|t| state(&t.endpoint) == wanted).collect::<Vec<_>>();
    let list = |targets: &[&Target]| {
        targets.iter().map(|t| format!("{} ({})", t.endpoint, t.node)).collect::<Vec<_>>().join(", ")
    };
    let (filtered, unresolved) = (in_state("filtered"), in_state("unresolved"));
    let reached = in_state("open").len() + in_state("refused").len();
    let (mut seen, mut fixes, mut level) = (Vec::new(), Vec::new(), CheckLevel::Pass);
    if !filtered.is_empty() {
        seen.push(format!("no answer from {}", list(&filtered)));
        let mut ports: Vec<_> = filtered.iter().filter_map(|t| t.endpoint.rsplit(':').next()).collect();
        ports.sort_unstable();
        ports.dedup();
        let (ports, from) = (ports.join(", "), &reach.from);
        fixes.push(format!(
            "let TCP {ports} from {from} through every firewall on the way (security groups of a cloud, firewalls between \
             networks, ufw or firewalld on the node), or set `address` of the node to one that {from} reaches"
        ));
        level = filtered.iter().map(|t| t.level).max().unwrap_or(level);
    }
    if !unresolved.is_empty() {
        seen.push(format!("names that do not resolve on {}: {}", reach.from, list(&unresolved)));
        fixes.push(
            "set `address` of these nodes in project.yaml to an IP address, or add the names to /etc/hosts there"
                .into(),
        );
        level = level.max(unresolved.iter().map(|t| t.level).max().unwrap_or(level));
    }
    let finding = if seen.is_empty() && reached < reach.targets.len() {
        let untried = reach.targets.len() - reached;
        Finding::skipped(format!(
            "{untried} of {} ports could not be tried (no bash on this host)",
            reach.targets.len()
        ))
    } else if seen.is_empty() {
        Finding::pass(format!("all {reached} ports of other nodes can be reached"))
    } else {
        Finding { level, ..Finding::warning(seen.join("; "), fixes.join("; ")) }
    };
    finding.result(REACHABLE, Some(&reach.from))
}

/// Judges whether what has to be downloaded can be: `result` is the outcome of asking for `url` from the operator's machine.
pub fn judge_download(url: &str, result: &Result<(), FetchError>) -> CheckResult {
    let fix = match result {
        Ok(()) => return Finding::pass(format!("{url} answers")).result(DOWNLOAD, None),
        Err(FetchError::Status { status: 404, .. }) => {
            "check `k3s.version` (https://github.com/k3s-io/k3s/releases lists them); a mirror in `mirrors.k3s` must have \
             <version>/<file> as the releases have"
        }
        Err(FetchError::Status { status: 401 | 403 | 407, .. }) => {
            "the server, or a proxy on the way, wants a login: check HTTPS_PROXY on this machine, or use a mirror that needs \
             none in `mirrors.k3s`"
        }
        Err(FetchError::Cache { .. }) => "free some space, or set XDG_CACHE_HOME to a folder that can be written",
        Err(FetchError::Status { .. } | FetchError::Connection { .. } | FetchError::Truncated { .. }) => {
            "`curl -I` with the same address shows more; behind a proxy set HTTPS_PROXY on this machine; in a closed network \
             name a mirror in `mirrors.k3s`"
        }
        Err(FetchError::Trust { .. }) => {
            "a proxy or mirror with a certificate of its own: add its CA to this machine's trust store, or set SSL_CERT_FILE"
        }
        Err(FetchError::Digest { .. } | FetchError::NoChecksum { .. }) => {
            "the server delivers something else than K3s' release: check `mirrors.k3s`, and what a proxy on the way makes of it"
        }
    };
    let seen = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
    Finding::block(seen, fix).result(DOWNLOAD, None)
}
