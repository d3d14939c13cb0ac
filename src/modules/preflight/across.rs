//! Checks that compare hosts with each other.

use std::collections::BTreeMap;

use super::scope::Finding;
use crate::engine::event::CheckResult;
use crate::host::HostSeen;
use crate::project::{Node, Project};

pub(super) const CLOCK: &str = "clock";
pub(super) const UNIQUE_HOSTNAME: &str = "unique-hostname";
pub(super) const MACHINE_ID: &str = "machine-id";

/// Compares the hosts that were seen with each other.
pub fn check_across(_project: &Project, hosts: &[(Node, HostSeen)]) -> Vec<CheckResult> {
    vec![
        clock(hosts).result(CLOCK, None),
        unique_hostname(hosts).result(UNIQUE_HOSTNAME, None),
        machine_id(hosts).result(MACHINE_ID, None),
    ]
}

fn clock(hosts: &[(Node, HostSeen)]) -> Finding {
    // How far a host is ahead of the one clock that all of them were compared with, in milliseconds.
    let ahead = |seen: &HostSeen| seen.facts.clock_ms.saturating_sub(seen.facts.operator_clock_ms);
    let known = || hosts.iter().filter(|(_, seen)| seen.facts.clock_ms != 0);
    let (Some(first), Some(last)) =
        (known().max_by_key(|(_, seen)| ahead(seen)), known().min_by_key(|(_, seen)| ahead(seen)))
    else {
        return Finding::skipped("no clock could be seen");
    };
    if known().count() < 2 {
        return Finding::pass("one host, nothing to compare");
    }
    let (first_name, last_name) = (first.0.display_name(), last.0.display_name());
    let difference = ahead(&first.1).saturating_sub(ahead(&last.1));
    let seconds = format!("{}.{} s", difference / 1000, difference % 1000 / 100);
    let seen = format!("the clock of {first_name} is {seconds} ahead of that of {last_name}");
    let fix = "`timedatectl set-ntp true` on both, then `timedatectl timesync-status` or `chronyc tracking` shows whether it \
               works; in a closed network, name a time server in /etc/systemd/timesyncd.conf or /etc/chrony.conf";
    match difference {
        0..=5_000 => Finding::pass(format!("at most {seconds} apart")),
        5_001..=60_000 => Finding::warning(seen, fix),
        _ => Finding::block(seen, format!("certificates and etcd do not work across such a gap: {fix}")),
    }
}

/// The nodes that share a value, by that value.
fn shared<'a>(hosts: &'a [(Node, HostSeen)], value: impl Fn(&'a HostSeen) -> String) -> Vec<(String, Vec<&'a str>)> {
    let mut by_value: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (node, seen) in hosts {
        by_value.entry(value(seen)).or_default().push(node.display_name());
    }
    by_value.into_iter().filter(|(value, nodes)| !value.is_empty() && nodes.len() > 1).collect()
}

fn unique_hostname(hosts: &[(Node, HostSeen)]) -> Finding {
    let same = shared(hosts, |seen| seen.facts.hostname.to_ascii_lowercase());
    if same.is_empty() {
        return Finding::pass("every host has its own host name");
    }
    let list: Vec<_> = same.iter().map(|(name, nodes)| format!("{} are all called {name}", nodes.join(", "))).collect();
    let commands: Vec<_> = same
        .iter()
        .flat_map(|(_, nodes)| nodes)
        .map(|node| format!("`hostnamectl set-hostname {node}` on {node}"))
        .collect();
    // The Kubernetes nodes have the names of project.yaml, so that the cluster itself works.
    Finding::warning(list.join("; "), commands.join(", "))
}

fn machine_id(hosts: &[(Node, HostSeen)]) -> Finding {
    let same = shared(hosts, |seen| seen.facts.machine_id.clone());
    if same.is_empty() {
        return Finding::pass("every host has its own machine id");
    }
    let list: Vec<_> =
        same.iter().map(|(id, nodes)| format!("{} have the machine id {id}", nodes.join(", "))).collect();
    Finding::warning(
        format!("{}: copies of one machine", list.join("; ")),
        "on all but one: `rm /etc/machine-id /var/lib/dbus/machine-id; systemd-machine-id-setup && reboot`; clones also share \
         SSH host keys and addresses from DHCP",
    )
}
