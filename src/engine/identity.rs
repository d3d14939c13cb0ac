//! What a node is called and where others reach it, from project.yaml and what was seen of its host.

use std::net::IpAddr;

use crate::host::HostSeen;
use crate::project::{Access, Node};

/// The name under which a node is (or will be) registered: its own, or for this machine its hostname.
pub fn node_name(node: &Node, seen: &HostSeen) -> String {
    node.name.clone().unwrap_or_else(|| seen.facts.hostname.to_lowercase())
}

/// Where other nodes reach a node: `address`, else `host` if that is an IP address, else what its default route uses,
/// else `host`.
///
/// A name in `host` comes last: it may be an alias that only the operator's SSH configuration knows.
pub fn node_address(node: &Node, seen: &HostSeen) -> Option<String> {
    let host = match &node.access {
        Access::Ssh(ssh) => Some(ssh.host.clone()),
        Access::Local { .. } | Access::Manual => None,
    };
    let literal = host.clone().filter(|host| host.parse::<IpAddr>().is_ok());
    node.address.clone().or(literal).or_else(|| seen.facts.default_address.map(|a| a.to_string())).or(host)
}

/// An address as it stands before a port: IPv6 in brackets.
pub fn url_host(address: &str) -> String {
    if address.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{address}]") } else { address.to_owned() }
}
