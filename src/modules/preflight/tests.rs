//! Every check: passing, warning, blocking. The level of each case stands in the table, its whole text in the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use CheckLevel::{Block, Pass, Skipped, Warning};
use serde_json::json;

use super::fixture::{firewall, node, project, run_k3s, seen, socket};
use super::*;
use crate::artifact::FetchError;
use crate::project::{Access, Role};

/// What a case spoils: the project, the node that is judged, what was seen there.
struct World {
    project: Project,
    node: Node,
    seen: HostSeen,
}

impl World {
    fn facts(&mut self) -> &mut crate::host::Facts {
        &mut self.seen.facts
    }

    fn set(&mut self, key: &str, value: serde_json::Value) {
        self.project.k3s.config.insert(key.into(), value);
    }
}

type Case = (&'static str, &'static str, CheckLevel, fn(&mut World));

/// A server and an agent; the server is judged.
fn judge(spoil: fn(&mut World)) -> Vec<CheckResult> {
    let (server, agent) = (node("master", Role::Server), node("gpu-1", Role::Agent));
    let mut world = World { project: project(vec![server.clone(), agent]), node: server, seen: seen("master", 10) };
    spoil(&mut world);
    check_host(&world.project, &world.node, &world.seen)
}

fn lines(text: &mut String, result: &CheckResult) {
    writeln!(text, "  {}: {}", serde_json::to_value(result.level).unwrap().as_str().unwrap(), result.seen).unwrap();
    if !result.fix.is_empty() {
        writeln!(text, "  fix: {}", result.fix).unwrap();
    }
}

/// Judges every case and pins what is said.
fn pin(snapshot: &str, cases: &[Case]) {
    let mut text = String::new();
    let mut wrong = Vec::new();
    for (check, case, level, spoil) in cases {
        let results = judge(*spoil);
        let result = results.iter().find(|result| result.check == *check).expect(check);
        if result.level != *level {
            wrong.push(format!("{check}, {case}: {:?} instead of {level:?}: {}", result.level, result.seen));
        }
        assert_eq!(result.fix.is_empty(), matches!(level, Pass | Skipped), "{check}, {case}: a fix belongs to a fault");
        writeln!(text, "{check}, {case}").unwrap();
        lines(&mut text, result);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(snapshot, text);
    });
}

const MACHINE: &[Case] = &[
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

const KERNEL: &[Case] = &[
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

const NETWORK: &[Case] = &[
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

const FIREWALL: &[Case] = &[
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

#[test]
fn machine() {
    pin("machine", MACHINE);
}

#[test]
fn kernel() {
    pin("kernel", KERNEL);
}

#[test]
fn network() {
    pin("network", NETWORK);
}

#[test]
fn firewalls() {
    pin("firewalls", FIREWALL);
}

#[test]
fn every_check_of_a_host_is_seen_passing_and_failing() {
    for check in CHECKS.iter().filter(|check| check.judge.is_some()) {
        let cases = [MACHINE, KERNEL, NETWORK, FIREWALL].concat();
        let levels: BTreeSet<_> = cases.iter().filter(|case| case.0 == check.name).map(|case| case.2).collect();
        assert!(levels.contains(&Pass), "{}", check.name);
        assert!(levels.contains(&Warning) || levels.contains(&Block), "{}", check.name);
    }
}

#[test]
fn a_good_host_passes_everything_in_the_order_of_the_list() {
    let results = judge(|_| {});
    let expected: Vec<_> = CHECKS.iter().filter(|check| check.judge.is_some()).map(|check| check.name).collect();
    assert_eq!(results.iter().map(|r| r.check.as_str()).collect::<Vec<_>>(), expected);
    assert!(results.iter().all(|r| r.level == Pass && r.host.as_deref() == Some("master")), "{results:#?}");
}

#[test]
fn where_k3s_runs_nothing_of_it_is_in_its_own_way() {
    for (unit, role) in [("k3s.service", Role::Server), ("k3s-agent.service", Role::Agent)] {
        let node = node("master", role);
        let mut seen = seen("master", 10);
        run_k3s(&mut seen, unit, "active");
        let results = check_host(&project(vec![node.clone()]), &node, &seen);
        assert!(results.iter().all(|r| r.level == Pass), "{results:#?}");
    }
}

/// Three servers and an agent, numbered from 10.
fn several() -> (Project, Vec<(Node, HostSeen)>) {
    let roles = [Role::Server, Role::Server, Role::Server, Role::Agent];
    let hosts: Vec<_> =
        (10..).zip(roles).map(|(n, role)| (node(&format!("n{n}"), role), seen(&format!("n{n}"), n))).collect();
    (project(hosts.iter().map(|(node, _)| node.clone()).collect()), hosts)
}

#[test]
fn hosts_are_compared_with_each_other() {
    type Spoil = fn(&mut Vec<(Node, HostSeen)>);
    let cases: &[(&str, &str, CheckLevel, Spoil)] = &[
        ("clock", "equal", Pass, |_| {}),
        ("clock", "one host", Pass, |h| h.truncate(1)),
        ("clock", "probed at different times", Pass, |h| {
            (h[1].1.facts.clock_ms, h[1].1.facts.operator_clock_ms) = (1_800_000_090_300, 1_800_000_090_000);
        }),
        ("clock", "5 s", Pass, |h| h[1].1.facts.clock_ms += 5_000),
        ("clock", "5.4 s", Warning, |h| h[1].1.facts.clock_ms += 5_400),
        ("clock", "60 s together", Warning, |h| {
            h[1].1.facts.clock_ms += 30_000;
            h[2].1.facts.clock_ms -= 30_000;
        }),
        ("clock", "an hour behind", Block, |h| h[3].1.facts.clock_ms -= 3_600_000),
        ("clock", "nonsense", Block, |h| (h[0].1.facts.clock_ms, h[1].1.facts.clock_ms) = (i64::MAX, i64::MIN)),
        ("clock", "unknown", Skipped, |h| h.iter_mut().for_each(|(_, seen)| seen.facts.clock_ms = 0)),
        ("unique-hostname", "unique", Pass, |_| {}),
        ("unique-hostname", "the same", Warning, |h| {
            (h[0].1.facts.hostname, h[1].1.facts.hostname) = ("debian".into(), "Debian".into());
        }),
        ("machine-id", "unique", Pass, |_| {}),
        ("machine-id", "unknown", Pass, |h| h.iter_mut().for_each(|(_, seen)| seen.facts.machine_id.clear())),
        ("machine-id", "the same", Warning, |h| {
            for (_, seen) in &mut h[1..] {
                seen.facts.machine_id = "c0ffee".into();
            }
        }),
    ];
    let mut text = String::new();
    for (check, case, level, spoil) in cases {
        let (project, mut hosts) = several();
        spoil(&mut hosts);
        let results = check_across(&project, &hosts);
        assert_eq!(results.len(), 3);
        let result = results.iter().find(|result| result.check == *check).expect(check);
        assert_eq!((result.level, &result.host), (*level, &None), "{check}, {case}: {}", result.seen);
        writeln!(text, "{check}, {case}").unwrap();
        lines(&mut text, result);
    }
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("across", text);
    });
}

#[test]
fn nodes_try_the_ports_they_need() {
    let (project, mut hosts) = several();
    hosts[1].0.address = Some("fd00::11".into());
    hosts[2].1.facts.default_address = None;
    let tries: BTreeMap<_, _> =
        reach_targets(&project, &hosts).into_iter().map(|r| (r.from.clone(), r.endpoints())).collect();
    let all = |address: &str| [6443, 2379, 2380, 10250].map(|port| format!("{address}:{port}"));
    let expected = [
        ("n10", [all("[fd00::11]").as_slice(), &all("n12.example"), &["10.0.0.13:10250".into()]].concat()),
        ("n11", [all("10.0.0.10").as_slice(), &all("n12.example"), &["10.0.0.13:10250".into()]].concat()),
        ("n12", [all("10.0.0.10").as_slice(), &all("[fd00::11]"), &["10.0.0.13:10250".into()]].concat()),
        ("n13", ["10.0.0.10:6443", "[fd00::11]:6443", "n12.example:6443"].map(String::from).to_vec()),
    ];
    assert_eq!(tries, expected.map(|(from, list)| (from.to_owned(), list)).into());

    let levels: BTreeSet<_> = reach_targets(&project, &hosts)
        .into_iter()
        .flat_map(|r| r.targets)
        .map(|t| (t.endpoint.rsplit_once(':').unwrap().1.to_owned(), t.level))
        .collect();
    let expected = [("10250", Warning), ("2379", Block), ("2380", Block), ("6443", Block)];
    assert_eq!(levels, expected.map(|(port, level)| (port.to_owned(), level)).into());

    assert_eq!(reach_targets(&project, &hosts[..1]), []);
    let mut running = hosts.clone();
    running.iter_mut().for_each(|(_, seen)| run_k3s(seen, "k3s.service", "active"));
    assert_eq!(reach_targets(&project, &running), [], "they proved it");
    running[3].1.units.clear();
    let tries = reach_targets(&project, &running);
    let newcomers: Vec<_> = tries.iter().map(|r| (r.from.as_str(), r.targets.len())).collect();
    assert_eq!(newcomers, [("n10", 1), ("n11", 1), ("n12", 1), ("n13", 3)], "the new one, both ways");
    hosts[0].0.access = Access::Local { sudo_password: None };
    hosts[0].1.facts.default_address = None;
    assert!(
        !reach_targets(&project, &hosts).iter().any(|r| r.targets.iter().any(|t| t.node == "n10")),
        "no address known"
    );
}

#[test]
fn what_nodes_reach_is_judged() {
    let target = |endpoint: &str, node: &str, level| Target { endpoint: endpoint.into(), node: node.into(), level };
    let reach = Reach {
        from: "gpu-1".into(),
        targets: vec![
            target("10.0.0.1:6443", "master", Block),
            target("10.0.0.1:64", "master", Block),
            target("10.0.0.2:10250", "gpu-2", Warning),
            target("gpu-3:10250", "gpu-3", Warning),
        ],
    };
    let cases = [
        ("all", Pass, "10.0.0.1:6443 refused\n10.0.0.1:64 open\n10.0.0.2:10250 open\ngpu-3:10250 refused\n"),
        (
            "any order, one filtered",
            Warning,
            "gpu-3:10250 refused\n10.0.0.2:10250 filtered\n10.0.0.1:64 open\n10.0.0.1:6443 open\n",
        ),
        (
            "the API filtered",
            Block,
            "10.0.0.1:6443 filtered\n10.0.0.1:64 filtered\n10.0.0.2:10250 filtered\ngpu-3:10250 unresolved\n",
        ),
        ("a name", Warning, "10.0.0.1:6443 open\n10.0.0.1:64 open\n10.0.0.2:10250 open\ngpu-3:10250 unresolved\n"),
        (
            "no bash",
            Skipped,
            "10.0.0.1:6443 unknown\n10.0.0.1:64 unknown\n10.0.0.2:10250 unknown\ngpu-3:10250 unknown\n",
        ),
        ("an answer cut short", Skipped, "10.0.0.1:6443 refused\n10.0.0.1:64"),
    ];
    let mut text = String::new();
    for (case, level, output) in cases {
        let result = judge_reach(&reach, output);
        assert_eq!((result.level, result.host.as_deref()), (level, Some("gpu-1")), "{case}: {}", result.seen);
        writeln!(text, "reachable, {case}").unwrap();
        lines(&mut text, &result);
    }
    let url = || "https://mirror.example/v1.36.5%2Bk3s1/k3s".to_owned();
    let (status, list) = (|status| FetchError::Status { url: url(), status }, "sha256sum-amd64.txt".to_owned());
    let downloads = [
        ("answers", Ok(())),
        ("refused", Err(FetchError::Connection { url: url(), reason: "connection refused".into() })),
        ("404", Err(status(404))),
        ("403", Err(status(403))),
        ("503", Err(status(503))),
        ("other content", Err(FetchError::Digest { url: url(), list, expected: "aa".into(), got: "bb".into() })),
        (
            "no space",
            Err(FetchError::Cache { path: "/home/ops/.cache/xgenctl".into(), reason: "no space left".into() }),
        ),
    ];
    for (case, outcome) in downloads {
        let result = judge_download(&url(), &outcome);
        assert_eq!(result.level, if outcome.is_ok() { Pass } else { Block }, "{case}");
        writeln!(text, "download, {case}").unwrap();
        lines(&mut text, &result);
    }
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("reach", text);
    });
}

#[test]
fn checks_can_be_left_out_by_name() {
    let results = judge(|w| {
        w.facts().swap_kib = 1 << 20;
        w.facts().systemd = false;
    });
    let left = skip(results.clone(), &["systemd".into(), "cpu".into()]).unwrap();
    for (before, after) in results.iter().zip(&left) {
        if before.check == "systemd" {
            assert_eq!((after.level, after.fix.as_str()), (Skipped, ""));
            assert_eq!(after.seen, "left out by --skip-check: systemd does not run on this host");
        } else {
            assert_eq!(before, after);
        }
    }
    assert_eq!(skip(results.clone(), &[]).unwrap(), results);
    let all = CHECKS.iter().map(|check| check.name).collect::<Vec<_>>().join(", ");
    let unknown = |name: &str| skip(Vec::new(), &[name.to_owned()]).unwrap_err();
    assert_eq!(unknown("prots"), format!("there is no check `prots`; did you mean `ports`? (there are {all})"));
    assert_eq!(unknown("weather"), format!("there is no check `weather` (there are {all})"));
}

#[test]
fn every_check_has_its_row_in_the_documentation() {
    let docs = include_str!("../../../docs/checks.md");
    let rows: Vec<_> = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    assert_eq!(rows, names, "docs/checks.md has one row for each check, in the same order");
}
