//! What a check looks at, and what it says.

use std::net::IpAddr;

use serde_json::Value;

use crate::engine::event::{CheckLevel, CheckResult};
use crate::host::{Facts, HostSeen};
use crate::project::{Node, Project, Role};

/// One host with what is wanted of it.
pub(super) struct Scope<'a> {
    pub project: &'a Project,
    pub node: &'a Node,
    pub seen: &'a HostSeen,
    pub facts: &'a Facts,
}

impl<'a> Scope<'a> {
    pub fn new(project: &'a Project, node: &'a Node, seen: &'a HostSeen) -> Self {
        Self { project, node, seen, facts: &seen.facts }
    }

    pub fn is_server(&self) -> bool {
        self.node.role == Role::Server
    }

    /// Whether a K3s works on this host now.
    pub fn runs_k3s(&self) -> bool {
        K3S_UNITS.iter().any(|unit| self.seen.units.get(*unit).is_some_and(|u| u.is_active()))
    }

    /// Whether systemd is about to have K3s running here: it runs, starts or waits for its next start.
    pub fn starts_k3s(&self) -> bool {
        let busy = ["active", "activating", "deactivating", "reloading"];
        K3S_UNITS.iter().any(|unit| self.seen.units.get(*unit).is_some_and(|u| busy.contains(&u.active.as_str())))
    }

    /// Whether K3s was put here, running or not. Its interfaces stay when it stops, and its pods go on.
    pub fn has_k3s(&self) -> bool {
        K3S_UNITS.iter().any(|unit| self.seen.units.contains_key(*unit))
    }

    /// The K3s configuration of this node: its own, else everybody's.
    pub fn config(&self, key: &str) -> Option<&'a Value> {
        self.node.config.get(key).or_else(|| self.project.k3s.config.get(key))
    }

    /// The same as text, if it is text or a number.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.config(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The same as a switch: K3s takes `true` and `"true"`.
    pub fn switch(&self, key: &str) -> bool {
        match self.config(key) {
            Some(Value::Bool(on)) => *on,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
    }

    /// The same as a list: K3s takes lists, and texts with commas.
    pub fn list(&self, key: &str) -> Vec<String> {
        let split = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
        match self.config(key) {
            Some(Value::String(text)) => split(text),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).flat_map(split).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the servers keep their data in the etcd that K3s brings along.
    pub fn etcd(&self) -> bool {
        let servers = self.project.nodes.iter().filter(|node| node.role == Role::Server).count();
        self.config("datastore-endpoint").is_none() && (servers > 1 || self.switch("cluster-init"))
    }

    /// The port of the API.
    pub fn api_port(&self) -> u16 {
        self.text("https-listen-port").and_then(|port| port.parse().ok()).unwrap_or(6443)
    }

    /// The UDP port of the network between pods; `None` where it needs none.
    pub fn overlay_port(&self) -> Option<u16> {
        match self.text("flannel-backend").as_deref() {
            None | Some("vxlan") => Some(8472),
            Some("wireguard-native") => Some(51820),
            _ => None,
        }
    }

    /// The networks of pods and of services.
    pub fn networks(&self) -> Vec<Net> {
        [("cluster-cidr", "10.42.0.0/16"), ("service-cidr", "10.43.0.0/16")]
            .into_iter()
            .flat_map(|(key, usual)| {
                let set: Vec<Net> = self.list(key).iter().filter_map(|text| Net::parse(text)).collect();
                if set.is_empty() { Net::parse(usual).into_iter().collect() } else { set }
            })
            .collect()
    }
}

/// The units that K3s runs in.
pub(super) const K3S_UNITS: [&str; 2] = ["k3s.service", "k3s-agent.service"];

/// What a check found.
pub(super) struct Finding {
    pub level: CheckLevel,
    pub seen: String,
    pub fix: String,
    /// Blocks even where K3s runs already.
    pub always: bool,
}

impl Finding {
    pub fn pass(seen: impl Into<String>) -> Self {
        Self { level: CheckLevel::Pass, seen: seen.into(), fix: String::new(), always: false }
    }

    pub fn skipped(seen: impl Into<String>) -> Self {
        Self { level: CheckLevel::Skipped, ..Self::pass(seen) }
    }

    pub fn warning(seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: CheckLevel::Warning, fix: fix.into(), ..Self::pass(seen) }
    }

    pub fn block(seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: CheckLevel::Block, fix: fix.into(), ..Self::pass(seen) }
    }

    /// Blocks even where K3s runs already.
    pub fn always(self) -> Self {
        Self { always: true, ..self }
    }

    pub fn result(self, check: &str, host: Option<&str>) -> CheckResult {
        let Self { level, seen, fix, .. } = self;
        CheckResult { check: check.to_owned(), host: host.map(str::to_owned), level, seen, fix }
    }
}

/// KiB as a person reads them, rounded down so that "less than" is never contradicted by its own figure.
pub(super) fn size(kib: u64) -> String {
    const GIB: u64 = 1024 * 1024;
    if kib >= GIB { format!("{}.{} GiB", kib / GIB, kib % GIB * 10 / GIB) } else { format!("{} MiB", kib / 1024) }
}

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    /// `10.42.0.0/16`; an address alone is a network of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    /// The address as one number of 128 bits, its first bit first.
    fn number(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => v6.into(),
        }
    }

    /// Whether the address belongs to it.
    pub fn holds(&self, address: IpAddr) -> bool {
        let differs = Self::number(self.address) ^ Self::number(address);
        address.is_ipv4() == self.address.is_ipv4() && differs.leading_zeros() >= u32::from(self.bits)
    }

    /// Whether all of `other` belongs to it.
    pub fn contains(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.holds(other.address)
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}
