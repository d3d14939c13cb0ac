//! A project and hosts that pass every check, to be spoiled by tests.

use std::collections::BTreeMap;

use crate::host::seen::{Facts, Firewall, Listening};
use crate::host::{HostSeen, UnitSeen};
use crate::project::{
    Access, ImageMode, Images, Ingress, IngressKind, K3s, K3sVersion, Node, Project, Registry, Role, SshAccess,
};

pub(super) fn node(name: &str, role: Role) -> Node {
    Node {
        name: Some(name.into()),
        role,
        access: Access::Ssh(SshAccess { host: format!("{name}.example"), ..SshAccess::default() }),
        address: None,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        config: serde_json::Map::new(),
    }
}

pub(super) fn project(nodes: Vec<Node>) -> Project {
    Project {
        file: None,
        name: "xgen".into(),
        description: String::new(),
        namespace: "xgen".into(),
        source: None,
        env: "dev".into(),
        domain: None,
        site: "main".into(),
        nodes,
        k3s: K3s {
            version: K3sVersion { major: 1, minor: 36, patch: 5, suffix: "+k3s1".into() },
            config: serde_json::Map::new(),
            token: None,
        },
        proxy: None,
        k3s_mirror: "https://mirror.example".into(),
        ingress: Ingress { kind: IngressKind::Istio, status_port: 30021, http_port: 30080, https_port: 30443 },
        registry: Registry { node_port: 30500, storage: "20Gi".into() },
        images: Images { mode: ImageMode::Manual, registries: Vec::new() },
        services: Vec::new(),
        extra_apps: Vec::new(),
        destinations: BTreeMap::new(),
        vars: BTreeMap::new(),
        environments: BTreeMap::new(),
    }
}

/// A healthy Debian; `number` makes it differ from others.
pub(super) fn seen(name: &str, number: u8) -> HostSeen {
    let address = std::net::Ipv4Addr::new(10, 0, 0, number).into();
    let facts = Facts {
        hostname: name.into(),
        os_id: "debian".into(),
        os_version: "12".into(),
        os_name: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel_name: "Linux".into(),
        kernel: "6.1.0-37-amd64".into(),
        arch: "x86_64".into(),
        machine_id: format!("{number:032x}"),
        systemd: true,
        root: true,
        cpus: 16,
        memory_kib: 16 << 20,
        swap_kib: 0,
        data_free_kib: 80 << 20,
        data_size_kib: 100 << 20,
        data_fs: "ext4".into(),
        bin_free_kib: 8 << 20,
        cgroup_version: 2,
        cgroup_controllers: ["cpuset", "cpu", "io", "memory", "pids"].map(Into::into).into(),
        kernel_modules: Some(["overlay", "br_netfilter", "nf_conntrack", "nf_tables", "vxlan"].map(Into::into).into()),
        clock_ms: 1_800_000_000_000,
        operator_clock_ms: 1_800_000_000_000,
        addresses: vec![address],
        default_address: Some(address),
        default_route: true,
        nameservers: vec!["10.0.0.2".into()],
        resolves_itself: true,
        listening: vec![socket("tcp", 22, Some("sshd"))],
        firewalls: Vec::new(),
        other_kubernetes: Vec::new(),
        selinux: String::new(),
        k3s_selinux: false,
    };
    HostSeen { facts, ..HostSeen::default() }
}

pub(super) fn socket(protocol: &str, port: u16, program: Option<&str>) -> Listening {
    Listening { protocol: protocol.into(), address: "0.0.0.0".into(), port, program: program.map(Into::into) }
}

pub(super) fn firewall(name: &str, allowed: &[&str]) -> Firewall {
    Firewall { name: name.into(), allowed: allowed.iter().map(|rule| rule.to_string()).collect() }
}

/// Has K3s run on the host, with the sockets it then has.
pub(super) fn run_k3s(seen: &mut HostSeen, unit: &str, active: &str) {
    let state = UnitSeen { active: active.into(), main_pid: 812, ..UnitSeen::default() };
    seen.units.insert(unit.into(), state);
    for (port, program) in [(6443, "k3s-server"), (6444, "k3s-server"), (10250, "k3s-server"), (10256, "k3s")] {
        seen.facts.listening.push(socket("tcp", port, Some(program)));
    }
    seen.facts.listening.push(socket("udp", 8472, None));
    seen.facts.addresses.push([10, 42, 0, 1].into());
}
