//! What one probe of a server brought back. Plain data: plans are made from it without asking again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Something a module wants to have seen on a host; all interests of all modules go into one probe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Interest {
    /// Kind, mode, owner and content (up to 1 MiB) of a file; the target of a link.
    File(String),
    /// Kind, mode, owner and size, not the content: for binaries and folders.
    Stat(String),
    /// State of a systemd unit, by full name (`k3s.service`).
    Unit(String),
    /// First line that `<path> --version` prints, if the file is there.
    Version(String),
}

/// Everything one probe saw on a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostSeen {
    /// The machine itself.
    pub facts: Facts,
    /// What is at each path asked for; a path that is missing there has no entry.
    pub files: BTreeMap<String, FileSeen>,
    /// The units asked for; a unit systemd does not know has no entry.
    pub units: BTreeMap<String, UnitSeen>,
    /// First line of `--version` for each binary asked for that is there; empty where it does not start or says nothing.
    pub versions: BTreeMap<String, String>,
}

/// The machine: what preflight checks and plans need to know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// `hostname`, as the kernel has it.
    pub hostname: String,
    /// `ID` of /etc/os-release: debian, ubuntu, rocky, sles …
    pub os_id: String,
    /// `VERSION_ID` of /etc/os-release.
    pub os_version: String,
    /// `PRETTY_NAME` of /etc/os-release.
    pub os_name: String,
    /// `uname -s`: Linux.
    pub kernel_name: String,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`: x86_64, aarch64, armv7l …
    pub arch: String,
    /// /etc/machine-id: two hosts with one id are clones.
    pub machine_id: String,
    /// Whether systemd is process 1.
    pub systemd: bool,
    /// Whether the probe ran as root.
    pub root: bool,
    /// Online processors.
    pub cpus: u32,
    /// Total memory in KiB.
    pub memory_kib: u64,
    /// Swap in use or usable, in KiB.
    pub swap_kib: u64,
    /// Free space of the file system that holds (or will hold) /var/lib/rancher, in KiB.
    pub data_free_kib: u64,
    /// Size of that file system, in KiB; 0 where it could not be measured.
    pub data_size_kib: u64,
    /// Its type: ext4, xfs, overlay … Empty where `df` cannot tell.
    pub data_fs: String,
    /// Free space of the file system of /usr/local/bin, in KiB.
    pub bin_free_kib: u64,
    /// 1 or 2 (unified); 0 where no cgroup file system is mounted.
    pub cgroup_version: u8,
    /// Controllers that can be used: cpu, cpuset, memory, pids …
    pub cgroup_controllers: Vec<String>,
    /// Kernel modules that are loaded, built in, or can be loaded, of those that were asked for (overlay, br_netfilter,
    /// nf_conntrack, iptable_nat, nf_tables, vxlan). `None`: cannot be known from here (a container without /lib/modules).
    pub kernel_modules: Option<Vec<String>>,
    /// Clock of the host, milliseconds since 1970 in UTC, when the probe ran there.
    pub clock_ms: i64,
    /// Clock of the operator's machine halfway through the probe, same unit.
    pub operator_clock_ms: i64,
    /// Addresses of all interfaces except loopback.
    pub addresses: Vec<IpAddr>,
    /// Address of the interface that the default route uses.
    pub default_address: Option<IpAddr>,
    /// Whether there is a default route.
    pub default_route: bool,
    /// `nameserver` entries of /etc/resolv.conf.
    pub nameservers: Vec<String>,
    /// Whether the host's own name resolves there.
    pub resolves_itself: bool,
    /// Sockets that listen, with the program where it is known.
    pub listening: Vec<Listening>,
    /// Host firewalls that are active: ufw, firewalld.
    pub firewalls: Vec<Firewall>,
    /// Other Kubernetes found: kubelet (kubeadm), rke2, microk8s, k0s …, with the path that gave it away: `rke2
    /// (/usr/local/bin/rke2)`.
    pub other_kubernetes: Vec<String>,
    /// SELinux: enforcing, permissive, or empty where there is none.
    pub selinux: String,
    /// Whether the k3s-selinux policy is installed (only asked where SELinux enforces).
    pub k3s_selinux: bool,
}

/// A socket that listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// tcp or udp.
    pub protocol: String,
    /// Its local address (`0.0.0.0`, `::`, `127.0.0.1`, `*`).
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The program's name, where it could be seen.
    pub program: Option<String>,
}

/// An active host firewall and what it lets in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// ufw or firewalld.
    pub name: String,
    /// What it allows: `6443/tcp`, `6443/tcp from 10.0.0.0/8`, `10.42.0.0/16` (everything from there), `zone trusted
    /// 10.42.0.0/16`, `zone trusted interface eth0`, `service ssh`, `rule …` (a rich rule),
    /// `default` (everything that nothing denies).
    pub allowed: Vec<String>,
}

/// What kind of thing is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link (not followed).
    Link,
    /// Anything else.
    Other,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSeen {
    /// What kind of thing it is.
    pub kind: FileKind,
    /// Permission bits, such as 0o600.
    pub mode: u32,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Size in bytes.
    pub size: u64,
    /// Content, where it was asked for and is at most 1 MiB.
    pub content: Option<Vec<u8>>,
    /// Where a link points to.
    pub target: Option<String>,
}

/// State of a systemd unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitSeen {
    /// `ActiveState`: active, activating, inactive, failed …
    pub active: String,
    /// `SubState`: running, dead, auto-restart …
    pub sub: String,
    /// `UnitFileState`: enabled, disabled …
    pub enabled: String,
    /// `MainPID`; 0 where nothing runs.
    pub main_pid: u32,
    /// `NRestarts` since it was last started by hand.
    pub restarts: u32,
    /// `FragmentPath`: the unit's file.
    pub path: String,
    /// `NeedDaemonReload`: the file is newer than what systemd has loaded.
    pub needs_reload: bool,
    /// A file that the unit reads was changed and the restart that should follow did not happen (yet).
    pub restart_pending: bool,
}

impl UnitSeen {
    /// Whether the unit's program runs.
    pub fn is_active(&self) -> bool {
        self.active == "active"
    }
}
