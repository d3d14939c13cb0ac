//! Fresh simulated servers: a healthy Debian 12 for every node of a project.

use std::net::{IpAddr, Ipv4Addr};

use sha2::{Digest, Sha256};

use super::state::{EPOCH_MS, HostState, State};
use crate::engine::action::hex;
use crate::host::Facts;
use crate::host::seen::Listening;
use crate::project::{Access, Node, Project};

/// Fresh servers for all nodes, none of them with anything of ours.
pub(super) fn fresh(project: &Project) -> State {
    let mut state = State { now_ms: EPOCH_MS, ..State::default() };
    for (number, node) in project.nodes.iter().enumerate() {
        state.hosts.insert(node.display_name().to_owned(), host(node, number));
    }
    state
}

/// The address of a node: the one given where it is an IP address, else one of 10.99.0.0/24.
fn address(node: &Node, number: usize) -> IpAddr {
    let host = match &node.access {
        Access::Ssh(ssh) => Some(ssh.host.as_str()),
        Access::Local { .. } | Access::Manual => None,
    };
    [node.address.as_deref(), host]
        .into_iter()
        .flatten()
        .find_map(|text| text.parse().ok())
        .unwrap_or_else(|| IpAddr::V4(Ipv4Addr::new(10, 99, (number / 200) as u8, (10 + number % 200) as u8)))
}

/// One healthy server.
pub(super) fn host(node: &Node, number: usize) -> HostState {
    let name = node.display_name();
    let address = address(node, number);
    let facts = Facts {
        root: true,
        hostname: node.name.clone().unwrap_or_else(|| "rehearsal".to_owned()),
        os_id: "debian".into(),
        os_version: "12".into(),
        os_name: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel_name: "Linux".into(),
        kernel: "6.1.0-41-amd64".into(),
        arch: "x86_64".into(),
        machine_id: hex(&Sha256::digest(format!("machine {name}")))[..32].to_owned(),
        systemd: true,
        cpus: 4,
        memory_kib: 16 << 20,
        swap_kib: 0,
        data_free_kib: 200 << 20,
        data_size_kib: 240 << 20,
        data_fs: "ext4".into(),
        bin_free_kib: 200 << 20,
        cgroup_version: 2,
        cgroup_controllers: ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"].map(str::to_owned).into(),
        kernel_modules: Some(
            ["overlay", "br_netfilter", "nf_conntrack", "iptable_nat", "vxlan"].map(str::to_owned).into(),
        ),
        clock_ms: EPOCH_MS,
        operator_clock_ms: EPOCH_MS,
        addresses: vec![address],
        default_address: Some(address),
        default_route: true,
        nameservers: vec!["10.99.0.1".into()],
        resolves_itself: true,
        listening: vec![Listening {
            protocol: "tcp".into(),
            address: "0.0.0.0".into(),
            port: 22,
            program: Some("sshd".into()),
        }],
        firewalls: Vec::new(),
        other_kubernetes: Vec::new(),
        selinux: String::new(),
        k3s_selinux: false,
    };
    let mut host = HostState {
        address: address.to_string(),
        reachable: !matches!(node.access, Access::Manual),
        aliases: [node.address.clone(), node.name.clone(), Some(facts.hostname.clone())]
            .into_iter()
            .flatten()
            .collect(),
        facts,
        ..HostState::default()
    };
    if let Access::Ssh(ssh) = &node.access {
        host.aliases.insert(ssh.host.clone());
    }
    for folder in ["/etc/systemd/system", "/run", "/tmp", "/root", "/usr/local/bin", "/var/lib", "/var/log"] {
        // Nothing is in the way on a fresh server.
        let _ = host.mkdir(folder, 0o755);
    }
    host
}
