//! How K3s starts: step by step, with the journal lines and failures of the real one.

use sha2::{Digest, Sha256};

use super::config::{self, Config, Unit};
use super::node;
use crate::engine::action::hex;
use crate::rehearsal::api::Api;
use crate::rehearsal::artifact;
use crate::rehearsal::state::{ClusterState, HostState, State, Step};
use crate::rehearsal::systemd::served_api;
use crate::rehearsal::world::World;

/// How long a server takes from its configuration to serving, and an agent from there to its kubelet.
const SERVER_UP_MS: i64 = 6_000;
const AGENT_UP_MS: i64 = 2_000;
/// How long reading the configuration and making certificates takes.
const JOIN_MS: i64 = 2_000;
/// How long a node takes from registered to Ready.
const READY_MS: i64 = 5_000;
/// How long K3s waits before it tries again what has to work first.
const RETRY_MS: i64 = 5_000;

/// Where the datastore is: a line that names the cluster stands for SQLite's file or etcd's folder.
const SQLITE: &str = "/var/lib/rancher/k3s/server/db/state.db";
const ETCD: &str = "/var/lib/rancher/k3s/server/db/etcd/name";
/// The join token of a server.
const TOKEN: &str = "/var/lib/rancher/k3s/server/token";

/// How a step ended.
pub enum Outcome {
    /// Well: these lines, and in a while the next step.
    Goes {
        /// Journal lines.
        lines: Vec<String>,
        /// When the next step comes.
        after_ms: i64,
        /// Which; `None` after the last.
        to: Option<Step>,
    },
    /// K3s waits and tries the step again.
    Waits {
        /// Journal lines.
        lines: Vec<String>,
        /// When.
        after_ms: i64,
    },
    /// The process ends.
    Fails {
        /// Journal lines.
        lines: Vec<String>,
        /// What systemd says of it.
        status: &'static str,
    },
}

impl Outcome {
    fn fatal(message: impl AsRef<str>) -> Self {
        Self::Fails { lines: vec![format!("level=fatal msg={:?}", message.as_ref())], status: "status=1/FAILURE" }
    }

    fn waits(line: String) -> Self {
        Self::Waits { lines: vec![line], after_ms: RETRY_MS }
    }
}

/// What a server's disk holds of its cluster.
pub struct Datastore {
    /// The cluster.
    pub cluster: String,
    /// Whether it is etcd.
    pub etcd: bool,
}

/// The datastore on a server's disk, if there is one.
pub fn datastore(host: &HostState) -> Option<Datastore> {
    let read = |path: &str| host.read_text(path).and_then(|t| t.trim().strip_prefix("cluster ").map(str::to_owned));
    read(ETCD)
        .map(|cluster| Datastore { cluster, etcd: true })
        .or_else(|| read(SQLITE).map(|cluster| Datastore { cluster, etcd: false }))
}

/// Takes one step of a K3s unit.
pub fn step(world: &World, state: &mut State, host: &str, unit: &str, file: &Unit, step: Step) -> Outcome {
    let Some(machine) = state.hosts.get(host) else { return Outcome::fatal("no such host") };
    let version = match executable(machine, file) {
        Ok(version) => version,
        Err(reason) => {
            let program = file.exec.first().map(String::as_str).unwrap_or("ExecStart");
            let lines = vec![
                format!("{unit}: Failed to execute {program}: {reason}"),
                format!("{unit}: Failed at step EXEC spawning {program}: {reason}"),
            ];
            return Outcome::Fails { lines, status: "status=203/EXEC" };
        }
    };
    let config = match config::load(machine, file) {
        Ok(config) => config,
        Err(lines) => return Outcome::Fails { lines, status: "status=1/FAILURE" },
    };
    match step {
        Step::Exec => exec(&config, &version),
        Step::Join if config.server => join_server(world, state, host, &config, &version),
        Step::Join => join_agent(world, state, host, &config),
        Step::Up if config.server => serve(world, state, host, &config, &version),
        Step::Up => Outcome::Goes {
            lines: vec!["level=info msg=\"Running kubelet\"".into()],
            after_ms: 100,
            to: Some(Step::Register),
        },
        Step::Register => match cluster_of(world, state, host, &config) {
            Ok(api) => match node::register(&api, state, host, &config, &version) {
                Ok(()) => Outcome::Goes {
                    lines: vec!["level=info msg=\"Annotations and labels have been set successfully on node\"".into()],
                    after_ms: READY_MS,
                    to: Some(Step::Ready),
                },
                Err(reason) => Outcome::waits(reason),
            },
            Err(reason) => Outcome::waits(reason),
        },
        Step::Ready => {
            if let Ok(api) = cluster_of(world, state, host, &config) {
                node::ready(&api, state, host, &config);
            }
            Outcome::Goes { lines: Vec::new(), after_ms: 0, to: None }
        }
        Step::Restart => Outcome::Goes { lines: Vec::new(), after_ms: 0, to: Some(Step::Exec) },
    }
}

/// The version of the binary that a unit executes, or why it cannot be executed.
fn executable(host: &HostState, unit: &Unit) -> Result<String, String> {
    let program = unit.exec.first().ok_or("Invalid argument")?;
    let found = host.follow(program).ok_or("No such file or directory")?;
    if found.mode & 0o111 == 0 {
        return Err("Permission denied".into());
    }
    match artifact::identify(&found.content) {
        Some((version, arch)) if artifact::runs_on(&arch, &host.facts.arch) => Ok(version),
        _ => Err("Exec format error".into()),
    }
}

fn exec(config: &Config, version: &str) -> Outcome {
    let mut lines = config.warnings.clone();
    let what = if config.server { "k3s" } else { "k3s agent" };
    lines.push(format!("level=info msg=\"Starting {what} {version}\""));
    if !config.server {
        if config.one("token").is_none() {
            return Outcome::fatal("--token is required");
        }
        if config.one("server").is_none() {
            return Outcome::fatal("--server is required");
        }
    }
    Outcome::Goes { lines, after_ms: JOIN_MS, to: Some(Step::Join) }
}

/// The parts of a token: the CA's hash if it is a full one, and the password.
fn parse_token(token: &str) -> Result<(Option<&str>, &str), String> {
    match token.strip_prefix("K10") {
        Some(rest) => {
            let (hash, credentials) = rest.split_once("::").ok_or("invalid token format")?;
            let password = credentials.split_once(':').map_or(credentials, |(_, password)| password);
            Ok((Some(hash), password))
        }
        None => Ok((None, token)),
    }
}

/// Checks a token against a cluster; `agent`: agents' own tokens are good too.
fn check_token(cluster: &ClusterState, token: &str, agent: bool) -> Result<(), String> {
    let (hash, password) = parse_token(token)?;
    if let Some(hash) = hash
        && hash != cluster.ca_hash
    {
        return Err(format!(
            "token CA hash does not match the Cluster CA certificate hash: {hash} != {}",
            cluster.ca_hash
        ));
    }
    if password == cluster.password || (agent && cluster.agent_password.as_deref() == Some(password)) {
        Ok(())
    } else {
        Err("token is not valid: https://127.0.0.1:6444/apis: 401 Unauthorized".into())
    }
}

/// The cluster that serves at a URL, as seen from a host, and its API.
fn reach(world: &World, state: &State, from: &str, url: &str) -> Result<(String, Api), String> {
    let authority = url.strip_prefix("https://").ok_or_else(|| format!("unsupported URL scheme: {url}"))?;
    let authority = authority.split('/').next().unwrap_or_default();
    let (address, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
    let address = address.trim_matches(['[', ']']);
    let cacerts = format!("failed to get CA certs: Get \"https://{authority}/cacerts\"");
    let Some(target) = state.resolve(from, address) else {
        return Err(match address.parse::<std::net::IpAddr>() {
            Ok(_) => format!("{cacerts}: dial tcp {address}:{port}: connect: no route to host"),
            Err(_) => format!("{cacerts}: dial tcp: lookup {address}: no such host"),
        });
    };
    let refused = || format!("{cacerts}: dial tcp {address}:{port}: connect: connection refused");
    if port != "6443" {
        return Err(refused());
    }
    served_api(world, state, target).ok_or_else(refused)
}

fn join_server(world: &World, state: &mut State, host: &str, config: &Config, version: &str) -> Outcome {
    let Some(machine) = state.hosts.get(host) else { return Outcome::fatal("no such host") };
    let up = |lines: Vec<String>| Outcome::Goes { lines, after_ms: SERVER_UP_MS, to: Some(Step::Up) };
    if let Some(found) = datastore(machine) {
        let Some(cluster) = state.clusters.get(&found.cluster) else {
            return Outcome::fatal("starting kubernetes: preparing server: datastore is damaged");
        };
        if let Some(token) = config.one("token")
            && let Err(reason) = check_token(cluster, token, false)
        {
            let told = if reason.starts_with("token CA") {
                reason
            } else {
                "bootstrap data already found and encrypted with different token".into()
            };
            return Outcome::fatal(format!("starting kubernetes: preparing server: {told}"));
        }
        if !found.etcd && config.is_on("cluster-init") {
            let id = found.cluster;
            if let Some(machine) = state.hosts.get_mut(host) {
                machine.write(ETCD, 0o600, format!("cluster {id}\n"));
                machine.remove(SQLITE);
            }
            if let Some(cluster) = state.clusters.get_mut(&id) {
                cluster.etcd = true;
            }
            return up(vec!["level=info msg=\"Migrating content from sqlite to etcd\"".into()]);
        }
        return up(Vec::new());
    }
    match config.one("server") {
        Some(url) => join_cluster(world, state, host, config, url),
        None => {
            found_cluster(world, state, host, config, version);
            up(vec!["level=info msg=\"Active TLS secret kube-system/k3s-serving\"".into()])
        }
    }
}

/// A first server makes a new cluster.
fn found_cluster(world: &World, state: &mut State, host: &str, config: &Config, version: &str) {
    let id = format!("c{}", state.number());
    let made_up = |what: &str| hex(&Sha256::digest(format!("{what} of {id}")));
    let password = match config.one("token").map(parse_token) {
        Some(Ok((_, password))) => password.to_owned(),
        _ => made_up("password")[..32].to_owned(),
    };
    let etcd = config.is_on("cluster-init");
    let cluster = ClusterState {
        ca_hash: made_up("ca"),
        password,
        agent_password: config.one("agent-token").and_then(|t| parse_token(t).ok()).map(|(_, p)| p.to_owned()),
        admin_token: made_up("admin"),
        etcd,
        ..ClusterState::default()
    };
    state.clusters.insert(id.clone(), cluster);
    if let Some(machine) = state.hosts.get_mut(host) {
        machine.write(if etcd { ETCD } else { SQLITE }, 0o600, format!("cluster {id}\n"));
    }
    world.adopt_api(&id, |clock| Api::new(version, clock));
}

/// A further server joins a cluster with etcd, one at a time.
fn join_cluster(world: &World, state: &mut State, host: &str, config: &Config, url: &str) -> Outcome {
    let fatal = |reason: String| Outcome::fatal(format!("starting kubernetes: preparing server: {reason}"));
    let Some(token) = config.one("token") else {
        return Outcome::fatal("token is required to join a cluster");
    };
    let id = match reach(world, state, host, url) {
        Ok((id, _)) => id,
        Err(reason) => return fatal(reason),
    };
    let Some(cluster) = state.clusters.get_mut(&id) else { return fatal("no such cluster".into()) };
    if let Err(reason) = check_token(cluster, token, false) {
        return fatal(format!("failed to validate token: {reason}"));
    }
    if !cluster.etcd {
        return fatal(format!("{url}/v1-k3s/server-bootstrap: 400 Bad Request: etcd disabled"));
    }
    if cluster.joining.as_deref().is_some_and(|joining| joining != host) {
        return Outcome::waits(
            "level=info msg=\"Waiting for other members to finish joining etcd cluster: etcdserver: too many learner members in cluster\"".into(),
        );
    }
    cluster.joining = Some(host.to_owned());
    if let Some(machine) = state.hosts.get_mut(host) {
        machine.write(ETCD, 0o600, format!("cluster {id}\n"));
    }
    let lines = vec![format!("level=info msg=\"Adding member {host} to etcd cluster\"")];
    Outcome::Goes { lines, after_ms: SERVER_UP_MS, to: Some(Step::Up) }
}

/// A server serves: its token, its kubeconfig, its node.
fn serve(world: &World, state: &mut State, host: &str, config: &Config, version: &str) -> Outcome {
    let Some(found) = state.hosts.get(host).and_then(datastore) else {
        return Outcome::fatal("starting kubernetes: datastore vanished");
    };
    if let Some((up, all)) = quorum(world, state, host, &found.cluster)
        && up * 2 <= all
    {
        return Outcome::waits(format!(
            "level=info msg=\"Waiting for etcd server to become available: {up} of {all} members\""
        ));
    }
    let Some(cluster) = state.clusters.get_mut(&found.cluster) else { return Outcome::fatal("no such cluster") };
    cluster.joining.take_if(|joining| joining == host);
    cluster.members.entry(host.to_owned()).or_insert(None);
    let token = format!("K10{}::server:{}\n", cluster.ca_hash, cluster.password);
    let admin = cluster.admin_token.clone();
    let agent = cluster.agent_password.as_ref().map(|p| format!("K10{}::node:{p}\n", cluster.ca_hash));
    if let Some(api) = world.api(&found.cluster) {
        api.look(|store| store.version = version.to_owned());
    }
    let mode = config.one("write-kubeconfig-mode").and_then(|m| u32::from_str_radix(m, 8).ok()).unwrap_or(0o600);
    let kubeconfig = config.one("write-kubeconfig").unwrap_or("/etc/rancher/k3s/k3s.yaml").to_owned();
    if let Some(machine) = state.hosts.get_mut(host) {
        machine.write(TOKEN, 0o600, token);
        match agent {
            Some(token) => machine.write("/var/lib/rancher/k3s/server/agent-token", 0o600, token),
            None => machine.link("/var/lib/rancher/k3s/server/agent-token", TOKEN),
        }
        machine.link("/var/lib/rancher/k3s/server/node-token", TOKEN);
        machine.write(&kubeconfig, mode, kubeconfig_text(&admin));
    }
    let lines = vec![
        format!("level=info msg=\"Wrote kubeconfig {kubeconfig}\""),
        "level=info msg=\"k3s is up and running\"".to_owned(),
    ];
    Outcome::Goes { lines, after_ms: 100, to: Some(Step::Register) }
}

/// How many members of an etcd cluster would be up with this one, and how many there are; `None` for SQLite. A member
/// whose node was deleted is none any more, as K3s removes it from etcd with its node.
fn quorum(world: &World, state: &mut State, host: &str, id: &str) -> Option<(usize, usize)> {
    let api = world.api(id)?;
    let cluster = state.clusters.get_mut(id).filter(|c| c.etcd)?;
    cluster.members.retain(|member, node| {
        member == host || node.as_ref().is_none_or(|n| api.look(|s| s.get("/nodes", n).is_some()))
    });
    cluster.members.entry(host.to_owned()).or_insert(None);
    let members: Vec<String> = cluster.members.keys().cloned().collect();
    // Members that are starting count: they find each other.
    let alive = |member: &&String| {
        *member == host
            || state.hosts.get(*member).is_some_and(|h| {
                datastore(h).is_some_and(|d| d.cluster == id) && h.units.values().any(|u| u.main_pid != 0)
            })
    };
    Some((members.iter().filter(alive).count(), members.len()))
}

fn kubeconfig_text(token: &str) -> String {
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    server: http://127.0.0.1:6443\n  name: default\ncontexts:\n\
         - context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\n\
         kind: Config\npreferences: {{}}\nusers:\n- name: default\n  user:\n    token: {token}\n"
    )
}

fn join_agent(world: &World, state: &mut State, host: &str, config: &Config) -> Outcome {
    let (url, token) = (config.one("server").unwrap_or_default(), config.one("token").unwrap_or_default());
    let failed = |reason: String| {
        Outcome::waits(format!(
            "level=error msg={:?}",
            format!("Failed to validate connection to cluster at {url}: {reason}")
        ))
    };
    let (id, api) = match reach(world, state, host, url) {
        Ok(found) => found,
        Err(reason) => return failed(reason),
    };
    let Some(cluster) = state.clusters.get(&id) else { return failed("no such cluster".into()) };
    if let Err(reason) = check_token(cluster, token, true) {
        return failed(reason);
    }
    match node::admit(&api, state, host, config) {
        Ok(()) => Outcome::Goes {
            lines: vec!["level=info msg=\"Running load balancer k3s-agent-load-balancer 127.0.0.1:6444\"".into()],
            after_ms: AGENT_UP_MS,
            to: Some(Step::Up),
        },
        Err(reason) => Outcome::waits(reason),
    }
}

/// The API of the cluster that a host's K3s belongs to.
fn cluster_of(world: &World, state: &State, host: &str, config: &Config) -> Result<Api, String> {
    if config.server {
        let cluster = state.hosts.get(host).and_then(datastore).map(|d| d.cluster).unwrap_or_default();
        return world.api(&cluster).ok_or_else(|| "level=error msg=\"datastore is gone\"".to_owned());
    }
    reach(world, state, host, config.one("server").unwrap_or_default())
        .map(|(_, api)| api)
        .map_err(|reason| format!("level=error msg={reason:?}"))
}
