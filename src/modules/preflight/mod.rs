//! Checks before anything is touched: pure functions from what is wanted and what was seen to results.
//!
//! A check that blocks names what would fail later, with figures and the commands that help. On a host where K3s runs
//! already the proof is there that it can: what would block an installation is only a warning then.

mod across;
mod gate;
mod host;
mod network;
mod reach;
mod scope;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::engine::event::{CheckLevel, CheckResult};
use crate::host::{HostSeen, Interest};
use crate::project::{Node, Project};
use scope::{Finding, Scope};

pub use across::check_across;
pub use gate::Gate;
pub use reach::{Reach, Target, judge_download, judge_reach, reach_targets};

/// A check: its name for `--skip-check`, and what it is about.
pub struct CheckInfo {
    /// Its name.
    pub name: &'static str,
    /// One line for help and documentation.
    pub about: &'static str,
    /// How one host is judged; `None` for a check that needs more than one probe of one host.
    judge: Option<fn(&Scope) -> Finding>,
}

const fn on_host(name: &'static str, about: &'static str, judge: fn(&Scope) -> Finding) -> CheckInfo {
    CheckInfo { name, about, judge: Some(judge) }
}

const fn beyond(name: &'static str, about: &'static str) -> CheckInfo {
    CheckInfo { name, about, judge: None }
}

/// Every check there is, in the order of the results.
pub const CHECKS: &[CheckInfo] = &[
    on_host("root", "commands run as root, directly or through sudo", host::root),
    on_host("os", "Linux, of a distribution that is known", host::os),
    on_host("architecture", "x86_64, aarch64 or armv7l: what K3s is released for", host::architecture),
    on_host("systemd", "systemd runs the services", host::systemd),
    on_host("cpu", "enough processors", host::cpu),
    on_host("memory", "enough memory", host::memory),
    on_host("disk", "enough free space for images and data", host::disk),
    on_host("binary-space", "room for the K3s binary in /usr/local/bin", host::binary_space),
    on_host("data-filesystem", "a file system that can hold images and the database", host::data_filesystem),
    on_host("cgroup-controllers", "the kernel's controllers cpu, cpuset, memory and pids", host::cgroup_controllers),
    on_host("cgroup-v2", "cgroup version 2, which Kubernetes 1.35 and later ask for", host::cgroup_v2),
    on_host("kernel-modules", "the kernel modules of containers and their network", host::kernel_modules),
    on_host("swap", "no swap", host::swap),
    on_host("selinux", "the SELinux policy of K3s where SELinux enforces", host::selinux),
    on_host("other-kubernetes", "no other Kubernetes on the host", host::other_kubernetes),
    on_host("hostname", "a valid host name", network::hostname),
    on_host("default-route", "a default route", network::default_route),
    on_host(
        "name-resolution",
        "name servers that containers can use, and a name that resolves",
        network::name_resolution,
    ),
    on_host(
        "cluster-networks",
        "the networks of pods and services do not hold the host's addresses",
        network::cluster_networks,
    ),
    on_host("ports", "the ports of K3s are free", network::ports),
    on_host("firewall", "an active ufw or firewalld lets K3s through", network::firewall),
    beyond(across::CLOCK, "the clocks of the hosts agree"),
    beyond(across::UNIQUE_HOSTNAME, "no two hosts have the same host name"),
    beyond(across::MACHINE_ID, "no two hosts have the same machine id"),
    beyond(reach::REACHABLE, "the nodes reach each other's ports"),
    beyond(reach::DOWNLOAD, "the place that K3s is downloaded from answers"),
];

/// What the checks have to see of a host beside its facts.
pub fn interests() -> BTreeSet<Interest> {
    [
        Interest::Unit("k3s.service".into()),
        Interest::Unit("k3s-agent.service".into()),
        Interest::Version("/usr/local/bin/k3s".into()),
    ]
    .into()
}

/// Judges one host. `seen` holds what [`interests`] names.
pub fn check_host(project: &Project, node: &Node, seen: &HostSeen) -> Vec<CheckResult> {
    let scope = Scope::new(project, node, seen);
    CHECKS
        .iter()
        .filter_map(|check| {
            let mut finding = check.judge?(&scope);
            if finding.level == CheckLevel::Block && scope.runs_k3s() && !finding.always {
                finding.level = CheckLevel::Warning;
            }
            Some(finding.result(check.name, Some(node.display_name())))
        })
        .collect()
}

/// Whether every name is one of a check.
///
/// # Errors
/// A sentence that names a check that does not exist and the one that was probably meant.
pub fn known(names: &[String]) -> Result<(), String> {
    for name in names {
        if CHECKS.iter().any(|check| check.name == name) {
            continue;
        }
        let nearest = CHECKS
            .iter()
            .map(|check| (strsim::normalized_damerau_levenshtein(check.name, name), check.name))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness >= 0.5);
        let all: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        let meant = nearest.map(|(_, near)| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(format!("there is no check `{name}`{meant} (there are {})", all.join(", ")));
    }
    Ok(())
}

/// Takes the checks that the operator left out from the results: they count as skipped, with what they saw.
pub fn skip(results: Vec<CheckResult>, names: &[String]) -> Vec<CheckResult> {
    let left_out = |mut result: CheckResult| {
        if names.contains(&result.check) && result.level > CheckLevel::Skipped {
            result.level = CheckLevel::Skipped;
            result.seen = format!("left out by --skip-check: {}", result.seen);
            result.fix.clear();
        }
        result
    };
    results.into_iter().map(left_out).collect()
}
