//! Servers, an operator and a mirror, ready for `xgenctl setup all`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::k3s::{self, K3s};
use super::mirror::Mirror;
use super::operator::{Operator, Run};
use super::server::{Network, Options, Server};

/// What containers on a machine with the first version of control groups cannot offer.
const SKIPPED_CHECKS: &[&str] = &["--skip-check", "cgroup-v2"];

/// Fresh servers in a network, and the operator who knows them.
pub struct Lab {
    /// In the order they were asked for.
    pub servers: Vec<Server>,
    /// Who runs xgenctl.
    pub operator: Operator,
    /// Where K3s comes from.
    pub mirror: Mirror,
    /// What it serves.
    pub k3s: &'static K3s,
    /// The last field, since it can be removed only when no server is in it any more.
    _network: Network,
}

/// Where the mirror listens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MirrorFor {
    /// On 127.0.0.1: only the operator downloads.
    Operator,
    /// On the network's gateway: xgenctl runs on a server.
    Servers,
}

impl Lab {
    /// Starts servers of these names and lets the operator's key in.
    pub fn new(xgenctl: &str, names: &[&str], mirror_for: MirrorFor) -> Self {
        Self::with(xgenctl, names, mirror_for, &[])
    }

    /// The same with more packages on the servers than a fresh server has.
    pub fn with(xgenctl: &str, names: &[&str], mirror_for: MirrorFor, packages: &'static [&'static str]) -> Self {
        let xgenctl = Path::new(xgenctl);
        let k3s = k3s::get(xgenctl);
        let operator = Operator::new(xgenctl);
        let network = Network::new();
        let address = if mirror_for == MirrorFor::Operator { "127.0.0.1" } else { &network.gateway };
        let mirror = Mirror::new(address, &k3s.version, k3s.binary.clone());
        let options = Options { packages: k3s.packages(packages), runs_containers: k3s.real };
        let servers = names.iter().map(|name| Server::start(&network, name, &options)).collect();
        let lab = Self { servers, operator, mirror, k3s, _network: network };
        for (index, server) in lab.servers.iter().enumerate() {
            server.wait_until_up(&lab.operator.public_key);
            k3s.prepare(server, index);
        }
        lab.operator.know(&lab.servers);
        lab
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> &Server {
        self.servers.iter().find(|server| server.name == name).unwrap_or_else(|| panic!("no server {name}"))
    }

    /// K3s configuration for servers that are containers: without what needs images or the kernel's help.
    pub fn k3s_config(&self) -> &'static str {
        if self.k3s.real {
            "{ flannel-backend: none, disable: [coredns, servicelb, traefik, local-storage, metrics-server] }"
        } else {
            "{}"
        }
    }

    /// project.yaml without nodes.
    pub fn project_head(&self) -> String {
        format!(
            "project: {{ name: lab }}\nk3s:\n  version: {}\n  config: {}\nmirrors:\n  k3s: {}\n",
            self.k3s.version,
            self.k3s_config(),
            self.mirror.url()
        )
    }

    /// project.yaml with all servers as nodes, reached as root: the first ones as K3s servers, the others as agents.
    pub fn project(&self, k3s_servers: usize) -> String {
        let mut text = self.project_head() + "nodes:\n";
        for (index, server) in self.servers.iter().enumerate() {
            let role = if index < k3s_servers { "server" } else { "agent" };
            let _ = writeln!(text, "  - {}", self.node(server, role, "{ user: root, key: ~/.ssh/id_ed25519 }"));
        }
        text
    }

    /// Arguments of xgenctl, with the checks left out that these servers cannot pass.
    pub fn args<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        [args, SKIPPED_CHECKS].concat()
    }

    /// Runs xgenctl on the operator's machine.
    pub fn xgenctl(&self, args: &[&str]) -> Run {
        self.operator.run(self.args(args))
    }

    /// Process ids of all K3s units, by server.
    pub fn main_pids(&self) -> BTreeMap<String, u32> {
        let pid = |server: &Server| ["k3s.service", "k3s-agent.service"].iter().map(|unit| server.main_pid(unit)).sum();
        self.servers.iter().map(|server| (server.name.clone(), pid(server))).collect()
    }

    /// One entry of `nodes:`.
    pub fn node(&self, server: &Server, role: &str, ssh: &str) -> String {
        format!("{{ name: {}, role: {role}, host: {}, ssh: {ssh} }}", server.name, server.ip)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // The servers are gone in a moment: what their journals say about the failure is shown now.
        for server in &self.servers {
            for unit in ["k3s.service", "k3s-agent.service"] {
                if server.test(&format!("test -e /etc/systemd/system/{unit}")) {
                    eprintln!("--- {} {unit}\n{}", server.name, server.journal(unit));
                }
            }
        }
    }
}
