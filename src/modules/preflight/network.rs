//! Checks of a host's name, network, ports and firewalls.

use super::scope::{Finding, Net, Scope};
use crate::host::seen::{Firewall, Listening};
use crate::project::Role;

/// Why a text is no host name as RFC 1123 has it; `None` where it is one.
fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".into());
    }
    if name.len() > 253 {
        return Some(format!("it has {} characters, 253 are allowed", name.len()));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Some("there is nothing between two dots, or at an end".into());
        }
        if label.len() > 63 {
            return Some(format!("`{label}` has {} characters, 63 are allowed", label.len()));
        }
        if let Some(odd) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
            return Some(format!("`{odd}` is not allowed in it"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some(format!("`{label}` begins or ends with a hyphen"));
        }
    }
    None
}

pub(super) fn hostname(scope: &Scope) -> Finding {
    let name = scope.facts.hostname.as_str();
    let fault = match name {
        "localhost" | "localhost.localdomain" => Some("every machine calls itself so".to_owned()),
        // K3s turns upper case into lower case by itself.
        _ => name_fault(name),
    };
    let Some(fault) = fault else { return Finding::pass(name) };
    let seen = format!("the host name `{name}` will not do: {fault}");
    match &scope.node.name {
        // The Kubernetes node has the name of project.yaml then.
        Some(node) => Finding::warning(seen, format!("`hostnamectl set-hostname {node}`")),
        None => Finding::block(
            seen,
            "`hostnamectl set-hostname NAME` with a NAME of lower-case letters, digits and hyphens: it becomes the node's name",
        ),
    }
}

pub(super) fn default_route(scope: &Scope) -> Finding {
    if !scope.facts.default_route {
        return Finding::block(
            "no default route",
            "K3s finds the node's address by it and does not start without one; where there is none to have, a dummy does: \
             `ip link add dummy0 type dummy && ip link set dummy0 up && ip addr add 203.0.113.254/31 dev dummy0 && ip route add \
             default via 203.0.113.255 dev dummy0 metric 1000` (make it permanent in the host's network configuration, and set \
             `address` of the node to its real address)",
        );
    }
    match scope.facts.default_address {
        Some(address) => Finding::pass(format!("the default route goes out from {address}")),
        None => Finding::pass("there is a default route"),
    }
}

pub(super) fn name_resolution(scope: &Scope) -> Finding {
    let (facts, servers) = (scope.facts, scope.facts.nameservers.join(", "));
    let (mut wrong, mut fixes) = (Vec::new(), Vec::new());
    let local = |server: &String| server.starts_with("127.") || server == "::1";
    if let Some(file) = scope.text("resolv-conf") {
        // Whoever names a file knows what is in it.
        if facts.resolves_itself {
            return Finding::pass(format!("containers use {file} (`resolv-conf`)"));
        }
    } else if facts.nameservers.is_empty() {
        wrong.push("/etc/resolv.conf names no name server".to_owned());
        fixes.push("add a line `nameserver ADDRESS` to it, or containers ask 8.8.8.8".to_owned());
    } else if facts.nameservers.iter().all(local) && !facts.nameservers.iter().any(|server| server == "127.0.0.53") {
        wrong.push(format!("the only name server is {servers}, which containers cannot reach"));
        fixes.push(
            "write a file with `nameserver ADDRESS` of the real one and name it in `k3s.config.resolv-conf`, or containers ask \
             8.8.8.8"
                .to_owned(),
        );
    }
    if !facts.resolves_itself {
        let address = facts.default_address.map_or_else(|| "127.0.1.1".to_owned(), |address| address.to_string());
        wrong.push(format!("the host's own name {} does not resolve there", facts.hostname));
        fixes.push(format!("`echo '{address} {}' >> /etc/hosts`", facts.hostname));
    }
    if !wrong.is_empty() {
        return Finding::warning(wrong.join("; "), fixes.join("; "));
    }
    if facts.nameservers.iter().all(local) {
        return Finding::pass("127.0.0.53 is systemd-resolved, whose own list K3s takes");
    }
    Finding::pass(format!("name server {servers}; the host's own name resolves"))
}

pub(super) fn cluster_networks(scope: &Scope) -> Finding {
    let networks = scope.networks();
    let text = networks.iter().map(Net::to_string).collect::<Vec<_>>().join(", ");
    if scope.has_k3s() {
        return Finding::pass(format!("{text}: in use by K3s itself"));
    }
    let within =
        scope.facts.addresses.iter().find_map(|a| networks.iter().find(|net| net.holds(*a)).map(|net| (a, net)));
    match within {
        Some((address, net)) => Finding::block(
            format!("the host's address {address} is in {net}, a network of the cluster"),
            "choose other networks before the first installation, `k3s.config.cluster-cidr` and `k3s.config.service-cidr` (such \
             as 10.142.0.0/16 and 10.143.0.0/16); if the address is left from an earlier Kubernetes (cni0, flannel.1), remove \
             that interface with `ip link delete NAME`",
        ),
        None => Finding::pass(format!("{text} are free")),
    }
}

/// What K3s listens on, for this node.
fn wanted_ports(scope: &Scope) -> Vec<(&'static str, u16)> {
    let mut ports = vec![("tcp", 6444), ("tcp", 10248), ("tcp", 10249), ("tcp", 10250), ("tcp", 10256)];
    if scope.is_server() {
        ports.extend([("tcp", scope.api_port()), ("tcp", 10257), ("tcp", 10258), ("tcp", 10259)]);
        if scope.etcd() {
            ports.extend([("tcp", 2379), ("tcp", 2380)]);
        }
    }
    ports.sort_by_key(|(_, port)| *port);
    ports.extend(scope.overlay_port().map(|port| ("udp", port)));
    ports
}

pub(super) fn ports(scope: &Scope) -> Finding {
    let wanted = wanted_ports(scope);
    let own = |socket: &Listening| match &socket.program {
        Some(name) => scope.starts_k3s() && (name.starts_with("k3s") || name == "containerd"),
        // The kernel's own socket of flannel's interface.
        None if socket.protocol == "udp" => scope.has_k3s(),
        None => scope.starts_k3s(),
    };
    let mut taken: Vec<(&Listening, String)> = Vec::new();
    for (protocol, port) in &wanted {
        let holder = scope.facts.listening.iter().find(|s| s.protocol == *protocol && s.port == *port && !own(s));
        if let Some(socket) = holder {
            let by = match &socket.program {
                Some(name) => name.as_str(),
                // The kernel's own sockets belong to no program.
                None if *protocol == "udp" => "the kernel (a network interface left by another network plugin)",
                None => "an unknown program",
            };
            taken.push((socket, format!("{port}/{protocol} by {by}")));
        }
    }
    let Some((first, _)) = taken.first() else {
        let list: Vec<_> = wanted.iter().map(|(protocol, port)| format!("{port}/{protocol}")).collect();
        let state = if scope.starts_k3s() { "free, or K3s' own" } else { "free" };
        return Finding::pass(format!("{state}: {}", list.join(", ")));
    };
    let flag = if first.protocol == "udp" { "u" } else { "t" };
    let mut fix = format!("stop what listens there (`ss -ln{flag}p 'sport = :{}'` shows it)", first.port);
    if taken.iter().any(|(socket, _)| socket.protocol == "udp" && socket.program.is_none()) {
        fix += "; `ip -d link show type vxlan` shows the interface, `ip link delete NAME` removes it";
    }
    if scope.is_server() && taken.iter().any(|(socket, _)| socket.port == scope.api_port()) {
        fix += "; or give the API another port with `k3s.config.https-listen-port`";
    }
    let list: Vec<_> = taken.iter().map(|(_, text)| text.as_str()).collect();
    Finding::block(format!("ports are taken: {}", list.join(", ")), fix)
}

/// What a firewall has to let in.
#[derive(PartialEq)]
enum Opening {
    Port(&'static str, u16),
    Network(Net),
}

impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(protocol, port) => write!(f, "{port}/{protocol}"),
            Self::Network(net) => net.fmt(f),
        }
    }
}

/// What other nodes and pods need of this node.
fn openings(scope: &Scope) -> Vec<Opening> {
    let mut all = Vec::new();
    let several = scope.project.nodes.len() > 1;
    let servers = scope.project.nodes.iter().filter(|node| node.role == Role::Server).count();
    if several {
        if scope.is_server() {
            all.push(Opening::Port("tcp", scope.api_port()));
            if servers > 1 && scope.etcd() {
                all.extend([Opening::Port("tcp", 2379), Opening::Port("tcp", 2380)]);
            }
        }
        all.push(Opening::Port("tcp", 10250));
        all.extend(scope.overlay_port().map(|port| Opening::Port("udp", port)));
    }
    all.extend(scope.networks().into_iter().map(Opening::Network));
    all
}

/// Whether a rule such as `6443/tcp`, `2379:2380/tcp`, `80,443/tcp`, `10.42.0.0/16` lets something in.
fn lets_in(rule: &str, wanted: &Opening) -> bool {
    // Rules for some senders only are taken at their word: whether the nodes are among them shows when ports are tried.
    let rule = rule.split(" from ").next().unwrap_or(rule);
    if rule == "default" {
        return true;
    }
    if let Some(zone) = rule.strip_prefix("zone ") {
        return match (zone.split(' ').collect::<Vec<_>>().as_slice(), wanted) {
            ([_, "interface", "cni0"], Opening::Network(_)) => true,
            ([_, "interface", "cni0"], _) => false,
            // Whatever comes in by the wire is let in, but pods come by cni0.
            ([_, "interface", _], Opening::Port(..)) => true,
            ([_, source], Opening::Network(net)) => Net::parse(source).is_some_and(|allowed| allowed.contains(net)),
            _ => false,
        };
    }
    match wanted {
        Opening::Network(net) => Net::parse(rule).is_some_and(|allowed| allowed.contains(net)),
        Opening::Port(protocol, port) => {
            let service = rule.strip_prefix("service ");
            if let Some(service) = service {
                return matches!(
                    (service, protocol, port),
                    ("kube-apiserver" | "kube-control-plane" | "kube-api", &"tcp", 6443)
                        | ("kubelet" | "kube-worker" | "kube-control-plane", &"tcp", 10250)
                        | ("etcd-client" | "kube-control-plane", &"tcp", 2379)
                        | ("etcd-server" | "kube-control-plane", &"tcp", 2380)
                );
            }
            let (numbers, of) = rule.split_once('/').map_or((rule, None), |(numbers, of)| (numbers, Some(of)));
            let within = |part: &str| {
                let (low, high) = part.split_once([':', '-']).unwrap_or((part, part));
                matches!((low.parse::<u16>(), high.parse::<u16>()), (Ok(low), Ok(high)) if (low..=high).contains(port))
            };
            of.is_none_or(|of| of == *protocol) && numbers.split(',').any(within)
        }
    }
}

/// The commands that open what is missing.
fn open_commands(firewall: &Firewall, missing: &[&Opening]) -> String {
    let mut commands: Vec<String> = missing
        .iter()
        .map(|opening| match (firewall.name.as_str(), opening) {
            ("ufw", Opening::Port(protocol, port)) => format!("ufw allow {port}/{protocol}"),
            ("ufw", Opening::Network(net)) => format!("ufw allow from {net} to any"),
            (_, Opening::Port(protocol, port)) => format!("firewall-cmd --permanent --add-port={port}/{protocol}"),
            (_, Opening::Network(net)) => format!("firewall-cmd --permanent --zone=trusted --add-source={net}"),
        })
        .collect();
    if firewall.name != "ufw" {
        commands.push("firewall-cmd --reload".into());
    }
    commands.join(" && ")
}

pub(super) fn firewall(scope: &Scope) -> Finding {
    if scope.facts.firewalls.is_empty() {
        return Finding::pass("neither ufw nor firewalld is active");
    }
    let wanted = openings(scope);
    let (mut seen, mut fixes, mut doubt) = (Vec::new(), Vec::new(), false);
    for firewall in &scope.facts.firewalls {
        let missing: Vec<_> =
            wanted.iter().filter(|opening| !firewall.allowed.iter().any(|rule| lets_in(rule, opening))).collect();
        if missing.is_empty() {
            continue;
        }
        let list: Vec<_> = missing.iter().map(|opening| opening.to_string()).collect();
        seen.push(format!("{} is active and does not let in {}", firewall.name, list.join(", ")));
        fixes.push(format!("`{}`", open_commands(firewall, &missing)));
        // A rich rule may say anything, this included.
        doubt |= firewall.allowed.iter().any(|rule| rule.starts_with("rule "));
    }
    if seen.is_empty() {
        let names: Vec<_> = scope.facts.firewalls.iter().map(|f| f.name.as_str()).collect();
        let list: Vec<_> = wanted.iter().map(Opening::to_string).collect();
        return Finding::pass(format!("{} lets in {}", names.join(", "), list.join(", ")));
    }
    let (seen, fix) = (seen.join("; "), fixes.join("; "));
    if doubt {
        return Finding::warning(format!("{seen} (unless one of its rich rules does)"), fix);
    }
    Finding::block(seen, fix)
}
