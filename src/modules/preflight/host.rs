//! Checks of the machine itself.

use super::scope::{Finding, Scope, size};

const MIB: u64 = 1024;
const GIB: u64 = 1024 * MIB;

pub(super) fn root(scope: &Scope) -> Finding {
    if scope.facts.root {
        return Finding::pass("commands run as root");
    }
    Finding::block(
        "commands do not run as root",
        "set `ssh.user: root`, or a user who may use sudo, with `ssh.sudoPassword: ${secret:NAME}` where sudo asks for a \
         password",
    )
    .always()
}

/// Distributions by how their packages and boot parameters are handled.
#[derive(PartialEq)]
enum Family {
    Debian,
    RedHat,
    Suse,
    Other,
}

fn family(os_id: &str) -> Family {
    match os_id {
        "debian" | "ubuntu" | "raspbian" | "linuxmint" | "pop" => Family::Debian,
        "rhel" | "centos" | "rocky" | "almalinux" | "ol" | "fedora" | "amzn" => Family::RedHat,
        "sles" | "sles_sap" | "sl-micro" | "sle-micro" | "suse-microos" | "opensuse-leap" | "opensuse-tumbleweed" => {
            Family::Suse
        }
        _ => Family::Other,
    }
}

pub(super) fn os(scope: &Scope) -> Finding {
    let facts = scope.facts;
    if facts.kernel_name != "Linux" {
        let seen = if facts.kernel_name.is_empty() { "an unknown system" } else { &facts.kernel_name };
        return Finding::block(
            format!("the kernel is {seen}, not Linux"),
            "K3s runs on Linux only: use a Linux server",
        )
        .always();
    }
    let name = match (facts.os_name.as_str(), facts.os_id.as_str()) {
        ("", "") => "a Linux without /etc/os-release",
        ("", id) => id,
        (name, _) => name,
    };
    if family(&facts.os_id) == Family::Other {
        return Finding::warning(
            format!("{name} is not a distribution that xgenctl knows"),
            "it may work; known are Debian, Ubuntu, RHEL and its relatives, SLES and openSUSE",
        );
    }
    Finding::pass(format!("{name}, kernel {}", facts.kernel))
}

pub(super) fn architecture(scope: &Scope) -> Finding {
    match scope.facts.arch.as_str() {
        known @ ("x86_64" | "aarch64" | "armv7l") => Finding::pass(known),
        other => Finding::block(
            format!("the processor is {}", if other.is_empty() { "unknown" } else { other }),
            "K3s is released for x86_64, aarch64 and armv7l: use a server of one of these",
        )
        .always(),
    }
}

pub(super) fn systemd(scope: &Scope) -> Finding {
    if scope.facts.systemd {
        return Finding::pass("systemd runs");
    }
    Finding::block(
        "systemd does not run on this host",
        "K3s is run as a systemd unit: use a system that boots with systemd; in a container, start systemd as process 1",
    )
    .always()
}

pub(super) fn cpu(scope: &Scope) -> Finding {
    let cpus = scope.facts.cpus;
    let seen = if cpus == 1 { "1 processor".to_owned() } else { format!("{cpus} processors") };
    match cpus {
        0 => Finding::skipped("the number of processors could not be seen"),
        1 if scope.is_server() => {
            Finding::warning(seen, "give a server at least 2: on one, K3s alone takes a large part of it")
        }
        _ => Finding::pass(seen),
    }
}

pub(super) fn memory(scope: &Scope) -> Finding {
    let kib = scope.facts.memory_kib;
    let seen = format!("{} of memory", size(kib));
    if kib == 0 {
        Finding::skipped("the memory could not be seen")
    } else if kib < 512 * MIB {
        Finding::block(seen, "K3s does not start with less than 512 MiB: give a server at least 2 GiB, an agent 1 GiB")
    } else if kib < 2 * GIB && scope.is_server() {
        Finding::warning(seen, "give a server at least 2 GiB; with less, pods are killed as soon as there are a few")
    } else {
        Finding::pass(seen)
    }
}

/// Where the space was not measured: K3s was told to keep its data elsewhere.
fn moved_data(scope: &Scope) -> Option<Finding> {
    let folder = scope.text("data-dir").filter(|dir| !dir.starts_with("/var/lib/rancher"))?;
    Some(Finding::skipped(format!("the data is kept in {folder} (`data-dir`); only /var/lib/rancher is looked at")))
}

pub(super) fn disk(scope: &Scope) -> Finding {
    let (free, all) = (scope.facts.data_free_kib, scope.facts.data_size_kib);
    if let Some(finding) = moved_data(scope) {
        return finding;
    }
    if all == 0 {
        return Finding::skipped("the file system of /var/lib/rancher could not be measured");
    }
    // By 128-bit figures, for no size may overflow.
    let used = u128::from(all.saturating_sub(free)) * 100 / u128::from(all);
    let seen = format!("{} free of {} for /var/lib/rancher, {used} % used", size(free), size(all));
    let fix = "free some space (`du -xh --max-depth=2 /var | sort -h | tail` shows what takes it) or mount a larger disk at \
               /var/lib/rancher";
    if free < 5 * GIB {
        Finding::block(seen, format!("K3s and the platform's images need at least 5 GiB: {fix}"))
    } else if free < 40 * GIB {
        Finding::warning(seen, format!("40 GiB is what the platform needs in the long run: {fix}"))
    } else if used > 80 {
        Finding::warning(seen, format!("Kubernetes begins to remove images at 85 %: {fix}"))
    } else {
        Finding::pass(seen)
    }
}

pub(super) fn binary_space(scope: &Scope) -> Finding {
    let (free, measured) = (scope.facts.bin_free_kib, scope.facts.data_size_kib > 0 || scope.facts.bin_free_kib > 0);
    let seen = format!("{} free for /usr/local/bin", size(free));
    if !measured {
        Finding::skipped("the file system of /usr/local/bin could not be measured")
    } else if free < 300 * MIB {
        Finding::block(seen, "the K3s binary needs 300 MiB while it is replaced: free some space on that file system")
    } else {
        Finding::pass(seen)
    }
}

pub(super) fn data_filesystem(scope: &Scope) -> Finding {
    if let Some(finding) = moved_data(scope) {
        return finding;
    }
    let fs = scope.facts.data_fs.as_str();
    let seen = format!("/var/lib/rancher is on {fs}");
    let snapshotter = scope.text("snapshotter");
    match fs {
        "" => Finding::skipped("the file system of /var/lib/rancher is not known"),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "vfat" | "exfat" | "ntfs" | "ntfs3" => Finding::block(
            seen,
            "container images and the cluster's database do not work there: mount a local ext4 or xfs disk at /var/lib/rancher",
        ),
        "overlay" if snapshotter.is_none_or(|name| name == "overlayfs") => Finding::warning(
            seen,
            "an overlay cannot hold another one: mount a volume at /var/lib/rancher, or set `k3s.config.snapshotter: native`",
        ),
        "tmpfs" | "ramfs" => Finding::warning(
            seen,
            "everything in it is gone after a reboot: mount a local ext4 or xfs disk at /var/lib/rancher",
        ),
        _ => Finding::pass(seen),
    }
}

/// How a boot parameter is set, with the commands of the distribution.
fn boot_with(scope: &Scope, parameters: &str) -> String {
    match family(&scope.facts.os_id) {
        Family::RedHat => format!("`grubby --update-kernel=ALL --args=\"{parameters}\" && reboot`"),
        Family::Suse => format!(
            "add `{parameters}` to GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, then `grub2-mkconfig -o \
             /boot/grub2/grub.cfg && reboot`"
        ),
        _ if scope.facts.arch != "x86_64" => format!(
            "add `{parameters}` to the line in /boot/firmware/cmdline.txt (Raspberry Pi) or to GRUB_CMDLINE_LINUX in \
             /etc/default/grub, followed by `update-grub`; then `reboot`"
        ),
        _ => format!("add `{parameters}` to GRUB_CMDLINE_LINUX in /etc/default/grub, then `update-grub && reboot`"),
    }
}

pub(super) fn cgroup_controllers(scope: &Scope) -> Finding {
    let facts = scope.facts;
    if facts.cgroup_version == 0 {
        return Finding::block(
            "no cgroup file system is mounted",
            "boot a kernel with cgroups under systemd, which mounts them; in a container, pass /sys/fs/cgroup through",
        );
    }
    let missing: Vec<_> = ["cpu", "cpuset", "memory", "pids"]
        .into_iter()
        .filter(|name| !facts.cgroup_controllers.iter().any(|there| there == name))
        .collect();
    if missing.is_empty() {
        return Finding::pass("cpu, cpuset, memory and pids can be used");
    }
    let seen = format!("cgroup controllers missing: {}", missing.join(", "));
    let parameters: Vec<_> = missing
        .iter()
        .flat_map(|name| match *name {
            "memory" => vec!["cgroup_memory=1".to_owned(), "cgroup_enable=memory".to_owned()],
            name => vec![format!("cgroup_enable={name}")],
        })
        .collect();
    Finding::block(seen, boot_with(scope, &parameters.join(" ")))
}

/// Kubernetes' minor version of a K3s binary that is there, from `k3s version v1.34.2+k3s1 (…)`.
fn installed_minor(scope: &Scope) -> Option<u32> {
    let said = scope.seen.versions.get("/usr/local/bin/k3s")?;
    said.split_whitespace().find_map(|word| word.strip_prefix("v1.")?.split('.').next()?.parse().ok())
}

pub(super) fn cgroup_v2(scope: &Scope) -> Finding {
    let (version, wanted) = (scope.facts.cgroup_version, &scope.project.k3s.version);
    if version == 0 {
        return Finding::skipped("no cgroup file system is mounted");
    }
    if version >= 2 {
        return Finding::pass("cgroup version 2");
    }
    if (wanted.major, wanted.minor) < (1, 35) {
        return Finding::pass(format!("cgroup version 1, which K3s {wanted} still takes"));
    }
    let seen = format!("cgroup version 1, but K3s {wanted} wants version 2");
    let boot = boot_with(scope, "systemd.unified_cgroup_hierarchy=1");
    let fix = format!("{boot}; or choose a `k3s.version` of 1.34, the last one that takes version 1");
    if scope.list("kubelet-arg").iter().any(|arg| arg.trim_start_matches('-') == "fail-cgroupv1=false") {
        return Finding::warning(format!("{seen} (allowed by `fail-cgroupv1=false`)"), fix);
    }
    let block = Finding::block(seen, fix);
    // An older K3s that runs proves nothing for the one that is wanted.
    if installed_minor(scope).is_some_and(|minor| minor < 35) { block.always() } else { block }
}

pub(super) fn kernel_modules(scope: &Scope) -> Finding {
    let Some(modules) = &scope.facts.kernel_modules else {
        return Finding::skipped(
            "the kernel's modules cannot be seen from here (no /lib/modules of the running kernel)",
        );
    };
    let has = |name: &str| modules.iter().any(|there| there == name);
    let mut needed = vec!["overlay", "br_netfilter", "nf_conntrack"];
    if scope.overlay_port() == Some(8472) {
        needed.push("vxlan");
    }
    let missing: Vec<_> = needed.iter().copied().filter(|name| !has(name)).collect();
    let kernel = &scope.facts.kernel;
    let install = match family(&scope.facts.os_id) {
        Family::Debian if scope.facts.os_id == "ubuntu" => format!("`apt-get install -y linux-modules-extra-{kernel}`"),
        Family::Debian => format!("`apt-get install -y linux-image-{kernel}`"),
        Family::RedHat => format!("`dnf install -y kernel-modules-extra-{kernel}`"),
        Family::Suse => "`zypper install -y kernel-default` in place of kernel-default-base, then `reboot`".to_owned(),
        Family::Other => "install the distribution's full set of kernel modules".to_owned(),
    };
    if !missing.is_empty() {
        let fix = format!("{install}, then `modprobe -a {}`", missing.join(" "));
        return Finding::block(format!("kernel {kernel} has no module {}", missing.join(", ")), fix);
    }
    if !has("iptable_nat") && !has("nf_tables") {
        let fix = format!("{install}, then `modprobe nf_tables`; without either, services have no addresses");
        return Finding::warning(format!("kernel {kernel} has neither iptable_nat nor nf_tables"), fix);
    }
    Finding::pass(format!("kernel {kernel} has {}", needed.join(", ")))
}

pub(super) fn swap(scope: &Scope) -> Finding {
    match scope.facts.swap_kib {
        0 => Finding::pass("no swap"),
        kib => Finding::warning(
            format!("{} of swap", size(kib)),
            "K3s starts with it, but limits of memory do not hold then: `swapoff -a`, and remove the swap lines from /etc/fstab",
        ),
    }
}

pub(super) fn selinux(scope: &Scope) -> Finding {
    let facts = scope.facts;
    match facts.selinux.as_str() {
        "enforcing" if !facts.k3s_selinux => {}
        "enforcing" => return Finding::pass("SELinux enforces, k3s-selinux is installed"),
        "" => return Finding::pass("no SELinux"),
        mode => return Finding::pass(format!("SELinux is {mode}")),
    }
    let seen = "SELinux enforces, but the policy k3s-selinux is not installed";
    let install = match family(&facts.os_id) {
        Family::Suse => {
            "zypper addrepo https://rpm.rancher.io/k3s/stable/common/microos/noarch k3s && zypper install -y k3s-selinux".into()
        }
        _ => {
            let major = facts.os_version.split('.').next().unwrap_or_default();
            let major = if matches!(major, "8" | "9" | "10") { major } else { "9" };
            format!(
                "dnf install -y container-selinux && dnf install -y k3s-selinux \
                 --repofrompath=k3s,https://rpm.rancher.io/k3s/stable/common/centos/{major}/noarch \
                 --setopt=k3s.gpgkey=https://rpm.rancher.io/public.key"
            )
        }
    };
    if scope.switch("selinux") {
        Finding::block(seen, format!("`{install}`: with `selinux: true` no container starts without it"))
    } else {
        Finding::warning(
            seen,
            format!("`{install}`, and set `k3s.config.selinux: true`: without, containers may be refused access"),
        )
    }
}

pub(super) fn other_kubernetes(scope: &Scope) -> Finding {
    let found = &scope.facts.other_kubernetes;
    if found.is_empty() {
        return Finding::pass("no other Kubernetes");
    }
    let mut fixes: Vec<&str> = Vec::new();
    for one in found {
        let fix = match one.split(' ').next().unwrap_or_default() {
            "kubeadm" => "`kubeadm reset --force && rm -rf /etc/kubernetes`",
            "rke2" => "`rke2-uninstall.sh`",
            "microk8s" => "`snap remove --purge microk8s`",
            "k0s" => "`k0s stop; k0s reset`",
            "minikube" => "`minikube delete --all --purge`",
            _ => "remove it",
        };
        if !fixes.contains(&fix) {
            fixes.push(fix);
        }
    }
    Finding::block(
        format!("another Kubernetes is here: {}", found.join(", ")),
        format!("two on one host take each other's ports and rules; if this one is not needed: {}", fixes.join(", ")),
    )
}
