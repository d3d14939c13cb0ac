//! What a host can be like, and how bad each check finds it.

use CheckLevel::{Block, Pass, Skipped, Warning};
use serde_json::json;

use super::fixture::{firewall, node, run_k3s, socket};
use crate::engine::event::CheckLevel;
use crate::host::HostSeen;
use crate::project::{Node, Project, Role};

/// What a case spoils: the project, the node that is judged, what was seen there.
pub(super) struct World {
    pub project: Project,
    pub node: Node,
    pub seen: HostSeen,
}

impl World {
    pub fn facts(&mut self) -> &mut crate::host::Facts {
        &mut self.seen.facts
    }

    pub fn set(&mut self, key: &str, value: serde_json::Value) {
        self.project.k3s.config.insert(key.into(), value);
    }
}

/// Check, case, level, what is spoilt.
pub(super) type Case = (&'static str, &'static str, CheckLevel, fn(&mut World));

pub(super) const MACHINE: &[Case] = &[
    ("root", "root", Pass, |_| {}),
    ("root", "a user", Block, |w| w.facts().root = false),
    ("root", "a user, K3s runs", Block, |w| {
        run_k3s(&mut w.seen, "k3s.service", "active");
        w.facts().root = false;
    }),
    ("os", "Debian", Pass, |_| {}),
    ("os", "Rocky", Pass, |w| (w.facts().os_id, w.facts().os_name) = ("rocky".into(), "Rocky Linux 9.6".into())),
    ("os", "SLES", Pass, |w| (w.facts().os_id, w.facts().os_name) = ("sles".into(), "SLES 15 SP6".into())),
    ("os", "Arch", Warning, |w| (w.facts().os_id, w.facts().os_name) = ("arch".into(), "Arch Linux".into())),
    ("os", "no os-release", Warning, |w| (w.facts().os_id, w.facts().os_name) = Default::default()),
    ("os", "FreeBSD", Block, |w| w.facts().kernel_name = "FreeBSD".into()),
    ("architecture", "amd64", Pass, |_| {}),
    ("architecture", "arm64", Pass, |w| w.facts().arch = "aarch64".into()),
    ("architecture", "armv7", Pass, |w| w.facts().arch = "armv7l".into()),
    ("architecture", "armv6", Block, |w| w.facts().arch = "armv6l".into()),
    ("architecture", "s390x", Block, |w| w.facts().arch = "s390x".into()),
    ("systemd", "there", Pass, |_| {}),
    ("systemd", "not there", Block, |w| w.facts().systemd = false),
    ("cpu", "16", Pass, |_| {}),
    ("cpu", "1 for a server", Warning, |w| w.facts().cpus = 1),
    ("cpu", "1 for an agent", Pass, |w| {
        w.facts().cpus = 1;
        w.node.role = Role::Agent;
    }),
    ("cpu", "unknown", Skipped, |w| w.facts().cpus = 0),
    ("memory", "16 GiB", Pass, |_| {}),
    ("memory", "exactly 2 GiB", Pass, |w| w.facts().memory_kib = 2 << 20),
    ("memory", "just under 2 GiB", Warning, |w| w.facts().memory_kib = (2 << 20) - 1),
    ("memory", "1 GiB for an agent", Pass, |w| {
        w.facts().memory_kib = 1 << 20;
        w.node.role = Role::Agent;
    }),
    ("memory", "500 MiB", Block, |w| w.facts().memory_kib = 500 << 10),
    ("memory", "500 MiB, K3s runs", Warning, |w| {
        w.facts().memory_kib = 500 << 10;
        run_k3s(&mut w.seen, "k3s.service", "active");
    }),
    ("memory", "unknown", Skipped, |w| w.facts().memory_kib = 0),
    ("disk", "80 of 100 GiB", Pass, |_| {}),
    ("disk", "39.9 GiB", Warning, |w| w.facts().data_free_kib = (40 << 20) - 1),
    ("disk", "81 % used of a large one", Warning, |w| {
        (w.facts().data_free_kib, w.facts().data_size_kib) = (190 << 20, 1000 << 20);
    }),
    ("disk", "80 % used of a large one", Pass, |w| {
        (w.facts().data_free_kib, w.facts().data_size_kib) = (200 << 20, 1000 << 20);
    }),
    ("disk", "4.9 GiB", Block, |w| w.facts().data_free_kib = (5 << 20) - 1),
    ("disk", "full", Block, |w| w.facts().data_free_kib = 0),
    ("disk", "not measured", Skipped, |w| (w.facts().data_free_kib, w.facts().data_size_kib) = (0, 0)),
    ("disk", "sizes at their limit", Pass, |w| {
        (w.facts().data_free_kib, w.facts().data_size_kib) = (u64::MAX, u64::MAX);
    }),
    ("disk", "data elsewhere", Skipped, |w| w.set("data-dir", json!("/data/k3s"))),
    ("binary-space", "8 GiB", Pass, |_| {}),
    ("binary-space", "299 MiB", Block, |w| w.facts().bin_free_kib = 299 << 10),
    ("binary-space", "not measured", Skipped, |w| (w.facts().bin_free_kib, w.facts().data_size_kib) = (0, 0)),
    ("data-filesystem", "ext4", Pass, |_| {}),
    ("data-filesystem", "xfs", Pass, |w| w.facts().data_fs = "xfs".into()),
    ("data-filesystem", "NFS", Block, |w| w.facts().data_fs = "nfs4".into()),
    ("data-filesystem", "tmpfs", Warning, |w| w.facts().data_fs = "tmpfs".into()),
    ("data-filesystem", "overlay", Warning, |w| w.facts().data_fs = "overlay".into()),
    ("data-filesystem", "overlay, native snapshotter", Pass, |w| {
        w.facts().data_fs = "overlay".into();
        w.set("snapshotter", json!("native"));
    }),
    ("data-filesystem", "unknown", Skipped, |w| w.facts().data_fs = String::new()),
    ("data-filesystem", "data elsewhere", Skipped, |w| w.set("data-dir", json!("/data/k3s"))),
    ("swap", "none", Pass, |_| {}),
    ("swap", "4 GiB", Warning, |w| w.facts().swap_kib = 4 << 20),
    ("selinux", "none", Pass, |_| {}),
    ("selinux", "permissive", Pass, |w| w.facts().selinux = "permissive".into()),
    ("selinux", "enforcing with the policy", Pass, |w| {
        (w.facts().selinux, w.facts().k3s_selinux) = ("enforcing".into(), true);
    }),
    ("selinux", "enforcing without", Warning, |w| {
        (w.facts().selinux, w.facts().os_id, w.facts().os_version) =
            ("enforcing".into(), "rocky".into(), "8.10".into());
    }),
    ("selinux", "enforcing without, SUSE", Warning, |w| {
        (w.facts().selinux, w.facts().os_id) = ("enforcing".into(), "sl-micro".into());
    }),
    ("selinux", "enforcing without, wanted", Block, |w| {
        (w.facts().selinux, w.facts().os_id, w.facts().os_version) = ("enforcing".into(), "rhel".into(), "9.6".into());
        w.set("selinux", json!(true));
    }),
    ("other-kubernetes", "none", Pass, |_| {}),
    ("other-kubernetes", "kubeadm and rke2", Block, |w| {
        w.facts().other_kubernetes = [
            "kubeadm (/etc/kubernetes/admin.conf)",
            "kubeadm (/etc/kubernetes/kubelet.conf)",
            "rke2 (/usr/local/bin/rke2)",
        ]
        .map(Into::into)
        .into();
    }),
    ("other-kubernetes", "the rest", Block, |w| {
        w.facts().other_kubernetes =
            ["microk8s (/snap/bin/microk8s)", "k0s (/var/lib/k0s)", "minikube (/var/lib/minikube)"]
                .map(Into::into)
                .into();
    }),
];

pub(super) const KERNEL: &[Case] = &[
    ("cgroup-controllers", "all", Pass, |_| {}),
    ("cgroup-controllers", "no memory, Raspberry Pi", Block, |w| {
        w.facts().cgroup_controllers = ["cpuset", "cpu", "pids"].map(Into::into).into();
        (w.facts().os_id, w.facts().arch) = ("raspbian".into(), "aarch64".into());
    }),
    ("cgroup-controllers", "no memory, no cpuset, Debian", Block, |w| {
        w.facts().cgroup_controllers = ["cpu", "pids"].map(Into::into).into();
    }),
    ("cgroup-controllers", "none mounted", Block, |w| w.facts().cgroup_version = 0),
    ("cgroup-v2", "version 2", Pass, |_| {}),
    ("cgroup-v2", "version 1, Debian", Block, |w| w.facts().cgroup_version = 1),
    ("cgroup-v2", "version 1, Rocky", Block, |w| {
        (w.facts().cgroup_version, w.facts().os_id) = (1, "rocky".into());
    }),
    ("cgroup-v2", "version 1, SLES", Block, |w| {
        (w.facts().cgroup_version, w.facts().os_id) = (1, "sles".into());
    }),
    ("cgroup-v2", "version 1 for Kubernetes 1.34", Pass, |w| {
        (w.facts().cgroup_version, w.project.k3s.version.minor) = (1, 34);
    }),
    ("cgroup-v2", "version 1, allowed by hand", Warning, |w| {
        w.facts().cgroup_version = 1;
        w.set("kubelet-arg", json!(["max-pods=200", "fail-cgroupv1=false"]));
    }),
    ("cgroup-v2", "version 1, an old K3s runs", Block, |w| {
        w.facts().cgroup_version = 1;
        run_k3s(&mut w.seen, "k3s.service", "active");
        w.seen.versions.insert("/usr/local/bin/k3s".into(), "k3s version v1.33.1+k3s1 (abc)".into());
    }),
    ("cgroup-v2", "version 1, a new K3s runs", Warning, |w| {
        w.facts().cgroup_version = 1;
        run_k3s(&mut w.seen, "k3s.service", "active");
        w.seen.versions.insert("/usr/local/bin/k3s".into(), "k3s version v1.36.5+k3s1 (abc)".into());
    }),
    ("cgroup-v2", "none mounted", Skipped, |w| w.facts().cgroup_version = 0),
    ("kernel-modules", "all", Pass, |_| {}),
    ("kernel-modules", "two missing, Ubuntu", Block, |w| {
        w.facts().os_id = "ubuntu".into();
        w.facts().kernel_modules = Some(["overlay", "nf_conntrack", "nf_tables"].map(Into::into).into());
    }),
    ("kernel-modules", "overlay missing, Rocky", Block, |w| {
        w.facts().os_id = "rocky".into();
        w.facts().kernel_modules = Some(["vxlan", "br_netfilter", "nf_conntrack", "nf_tables"].map(Into::into).into());
    }),
    ("kernel-modules", "no vxlan needed", Pass, |w| {
        w.set("flannel-backend", json!("host-gw"));
        w.facts().kernel_modules =
            Some(["overlay", "br_netfilter", "nf_conntrack", "iptable_nat"].map(Into::into).into());
    }),
    ("kernel-modules", "no NAT, SLES", Warning, |w| {
        w.facts().os_id = "sles".into();
        w.facts().kernel_modules = Some(["overlay", "br_netfilter", "nf_conntrack", "vxlan"].map(Into::into).into());
    }),
    ("kernel-modules", "in a container", Skipped, |w| w.facts().kernel_modules = None),
];

pub(super) const NETWORK: &[Case] = &[
    ("hostname", "plain", Pass, |_| {}),
    ("hostname", "with a domain and upper case", Pass, |w| w.facts().hostname = "Node-1.Example.com".into()),
    ("hostname", "localhost, unnamed node", Block, |w| {
        (w.facts().hostname, w.node.name) = ("localhost".into(), None);
    }),
    ("hostname", "localhost, named node", Warning, |w| w.facts().hostname = "localhost".into()),
    ("hostname", "underscore", Block, |w| (w.facts().hostname, w.node.name) = ("node_1".into(), None)),
    ("hostname", "hyphen at the end", Block, |w| (w.facts().hostname, w.node.name) = ("node-".into(), None)),
    ("hostname", "two dots", Block, |w| (w.facts().hostname, w.node.name) = ("a..b".into(), None)),
    ("hostname", "64 characters", Block, |w| (w.facts().hostname, w.node.name) = ("x".repeat(64), None)),
    ("hostname", "254 characters", Block, |w| (w.facts().hostname, w.node.name) = ("ab.".repeat(84) + "ab", None)),
    ("hostname", "empty", Block, |w| (w.facts().hostname, w.node.name) = (String::new(), None)),
    ("default-route", "there", Pass, |_| {}),
    ("default-route", "of unknown address", Pass, |w| w.facts().default_address = None),
    ("default-route", "none", Block, |w| (w.facts().default_route, w.facts().default_address) = (false, None)),
    ("name-resolution", "one server", Pass, |_| {}),
    ("name-resolution", "systemd-resolved", Pass, |w| w.facts().nameservers = vec!["127.0.0.53".into()]),
    ("name-resolution", "dnsmasq", Warning, |w| w.facts().nameservers = vec!["127.0.0.1".into()]),
    ("name-resolution", "dnsmasq and another", Pass, |w| {
        w.facts().nameservers = vec!["127.0.0.1".into(), "10.0.0.2".into()];
    }),
    ("name-resolution", "no server", Warning, |w| w.facts().nameservers.clear()),
    ("name-resolution", "no server, but resolv-conf", Pass, |w| {
        w.facts().nameservers.clear();
        w.set("resolv-conf", json!("/etc/rancher/resolv.conf"));
    }),
    ("name-resolution", "own name", Warning, |w| w.facts().resolves_itself = false),
    ("cluster-networks", "free", Pass, |_| {}),
    ("cluster-networks", "taken", Block, |w| w.facts().addresses.push([10, 43, 7, 8].into())),
    ("cluster-networks", "others chosen", Pass, |w| {
        w.facts().addresses.push([10, 43, 7, 8].into());
        w.set("service-cidr", json!("10.143.0.0/16,fd43::/112"));
    }),
    ("cluster-networks", "others chosen and taken", Block, |w| {
        w.facts().addresses.push("fd43::9".parse().unwrap());
        w.set("service-cidr", json!("10.143.0.0/16,fd43::/112"));
    }),
    ("cluster-networks", "K3s runs", Pass, |w| run_k3s(&mut w.seen, "k3s.service", "active")),
    ("cluster-networks", "K3s failed", Pass, |w| run_k3s(&mut w.seen, "k3s-agent.service", "failed")),
    ("ports", "free", Pass, |_| {}),
    ("ports", "nginx on 6443", Block, |w| w.facts().listening.push(socket("tcp", 6443, Some("nginx")))),
    ("ports", "nginx on 6443 of an agent", Pass, |w| {
        w.node.role = Role::Agent;
        w.facts().listening.push(socket("tcp", 6443, Some("nginx")));
    }),
    ("ports", "nginx on 6443, another port chosen", Pass, |w| {
        w.set("https-listen-port", json!(7443));
        w.facts().listening.push(socket("tcp", 6443, Some("nginx")));
    }),
    ("ports", "kubelet on an agent's 10250", Block, |w| {
        w.node.role = Role::Agent;
        w.facts().listening.push(socket("tcp", 10250, Some("kubelet")));
    }),
    ("ports", "etcd, one server", Pass, |w| w.facts().listening.push(socket("tcp", 2379, Some("etcd")))),
    ("ports", "etcd, three servers", Block, |w| {
        w.project.nodes.extend([node("master-2", Role::Server), node("master-3", Role::Server)]);
        w.facts().listening.extend([socket("tcp", 2380, None), socket("tcp", 2379, Some("etcd"))]);
    }),
    ("ports", "etcd, three servers on a database", Pass, |w| {
        w.project.nodes.extend([node("master-2", Role::Server), node("master-3", Role::Server)]);
        w.set("datastore-endpoint", json!("postgres://db.example"));
        w.facts().listening.push(socket("tcp", 2379, Some("etcd")));
    }),
    ("ports", "a VXLAN interface", Block, |w| w.facts().listening.push(socket("udp", 8472, None))),
    ("ports", "TCP 8472 is no matter", Pass, |w| w.facts().listening.push(socket("tcp", 8472, Some("x")))),
    ("ports", "K3s runs", Pass, |w| run_k3s(&mut w.seen, "k3s.service", "active")),
    ("ports", "K3s starts", Pass, |w| run_k3s(&mut w.seen, "k3s.service", "activating")),
    ("ports", "K3s outside its unit", Block, |w| run_k3s(&mut w.seen, "k3s.service", "inactive")),
    ("ports", "K3s without a unit", Block, |w| {
        run_k3s(&mut w.seen, "k3s.service", "inactive");
        w.seen.units.clear();
    }),
    ("ports", "K3s is stopped, its interface is left", Pass, |w| {
        run_k3s(&mut w.seen, "k3s.service", "inactive");
        w.facts().listening.retain(|socket| socket.program.is_none());
    }),
    ("ports", "K3s starts, nginx on 10257", Block, |w| {
        run_k3s(&mut w.seen, "k3s.service", "activating");
        w.facts().listening.push(socket("tcp", 10257, Some("nginx")));
    }),
];

pub(super) const FIREWALL: &[Case] = &[
    ("firewall", "none", Pass, |_| {}),
    ("firewall", "ufw closed", Block, |w| w.facts().firewalls = vec![firewall("ufw", &["22/tcp"])]),
    ("firewall", "ufw closed, K3s runs", Warning, |w| {
        w.facts().firewalls = vec![firewall("ufw", &["22/tcp"])];
        run_k3s(&mut w.seen, "k3s.service", "active");
    }),
    ("firewall", "ufw open", Pass, |w| {
        let rules = ["6443/tcp", "10250/tcp from 10.0.0.0/8", "8472/udp", "10.42.0.0/16", "10.43.0.0/16"];
        w.facts().firewalls = vec![firewall("ufw", &rules)];
    }),
    ("firewall", "ufw open by ranges", Pass, |w| {
        w.facts().firewalls = vec![firewall("ufw", &["6000:7000/tcp", "22,10250/tcp", "8472", "10.42.0.0/15"])];
    }),
    ("firewall", "ufw open by the wrong protocol", Block, |w| {
        let rules = ["6443/udp", "10250/tcp", "8472/tcp", "10.42.0.0/16", "10.43.0.0/17"];
        w.facts().firewalls = vec![firewall("ufw", &rules)];
    }),
    ("firewall", "ufw allows by default", Pass, |w| w.facts().firewalls = vec![firewall("ufw", &["default"])]),
    ("firewall", "one machine needs no ports", Pass, |w| {
        w.project.nodes.truncate(1);
        w.facts().firewalls = vec![firewall("ufw", &["22/tcp", "10.42.0.0/16", "10.43.0.0/16"])];
    }),
    ("firewall", "three servers, another network", Block, |w| {
        w.project.nodes.extend([node("master-2", Role::Server), node("master-3", Role::Server)]);
        w.set("flannel-backend", json!("wireguard-native"));
        w.set("cluster-cidr", json!(["10.142.0.0/16", "fd42::/56"]));
        w.facts().firewalls = vec![firewall("ufw", &["6443/tcp", "10.43.0.0/16"])];
    }),
    ("firewall", "firewalld closed on an agent", Block, |w| {
        w.node.role = Role::Agent;
        w.facts().firewalls = vec![firewall("firewalld", &["service ssh", "service cockpit"])];
    }),
    ("firewall", "firewalld open", Pass, |w| {
        let rules = [
            "service kube-apiserver",
            "service kubelet",
            "8472/udp",
            "zone trusted 10.42.0.0/16",
            "zone trusted 10.43.0.0/16",
        ];
        w.facts().firewalls = vec![firewall("firewalld", &rules)];
    }),
    ("firewall", "firewalld trusts the wire, not the pods", Block, |w| {
        w.facts().firewalls = vec![firewall("firewalld", &["zone trusted interface eth0"])];
    }),
    ("firewall", "firewalld trusts wire and pods", Pass, |w| {
        w.facts().firewalls =
            vec![firewall("firewalld", &["zone trusted interface eth0", "zone trusted interface cni0"])];
    }),
    ("firewall", "firewalld with a rich rule", Warning, |w| {
        w.facts().firewalls =
            vec![firewall("firewalld", &["rule family=\"ipv4\" source address=\"10.0.0.0/8\" accept"])];
    }),
];
