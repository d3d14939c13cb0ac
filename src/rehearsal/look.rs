//! What a simulated server shows of itself: the probe, and which endpoints can be reached from it.

use std::net::IpAddr;

use super::artifact;
use super::state::{FileState, HostState, State, UnitState};
use super::systemd::{running_k3s, served_api, unit_path};
use super::world::World;
use crate::host::seen::Listening;
use crate::host::{FileKind, FileSeen, HostSeen, UnitSeen};

/// Larger files are seen without their content.
const CONTENT_LIMIT: usize = 1 << 20;

/// What the probe script sees, for interests as it takes them: `file:PATH`, `stat:PATH`, `unit:NAME`, `version:PATH`.
///
/// # Errors
/// What is no interest.
pub(super) fn probe(world: &World, name: &str, interests: &[String]) -> Result<HostSeen, String> {
    let now = world.now_ms();
    world.see(|state| {
        let host = state.hosts.get(name).ok_or("no such host")?;
        let mut seen = HostSeen { facts: host.facts.clone(), ..HostSeen::default() };
        seen.facts.clock_ms = now;
        seen.facts.operator_clock_ms = now;
        seen.facts.listening.extend(listening(host));
        for interest in interests {
            match interest.split_once(':') {
                Some(("file", path)) => {
                    if let Some(file) = host.files.get(path) {
                        seen.files.insert(path.to_owned(), file_seen(file, true));
                    }
                }
                Some(("stat", path)) => {
                    if let Some(file) = host.files.get(path) {
                        seen.files.entry(path.to_owned()).or_insert_with(|| file_seen(file, false));
                    }
                }
                Some(("unit", unit)) => {
                    if let Some(found) = unit_seen(host, unit) {
                        seen.units.insert(unit.to_owned(), found);
                    }
                }
                Some(("version", path)) => {
                    // What does not start on this machine says nothing.
                    if let Some(binary) = host.follow(path) {
                        let said = artifact::identify(&binary.content)
                            .filter(|(_, arch)| binary.mode & 0o111 != 0 && artifact::runs_on(arch, &host.facts.arch))
                            .map(|(version, _)| artifact::version_line(&version));
                        seen.versions.insert(path.to_owned(), said.unwrap_or_default());
                    }
                }
                _ => return Err(format!("unknown interest {interest}")),
            }
        }
        Ok(seen)
    })
}

fn file_seen(file: &FileState, with_content: bool) -> FileSeen {
    let is_file = file.kind == FileKind::File;
    FileSeen {
        kind: file.kind,
        mode: file.mode,
        owner: file.owner.clone(),
        group: file.group.clone(),
        size: match &file.target {
            Some(target) => target.len() as u64,
            None => file.content.len() as u64,
        },
        content: (with_content && is_file && file.content.len() <= CONTENT_LIMIT).then(|| file.content.clone()),
        target: file.target.clone(),
    }
}

/// systemd knows a unit that has a file or runs.
fn unit_seen(host: &HostState, unit: &str) -> Option<UnitSeen> {
    let path = unit_path(unit);
    let file = host.read_text(&path);
    let unknown = UnitState { active: "inactive".into(), sub: "dead".into(), ..UnitState::default() };
    let known = match (host.units.get(unit), &file) {
        (Some(known), _) => known,
        (None, Some(_)) => &unknown,
        (None, None) => return None,
    };
    let loaded = host.units.contains_key(unit);
    Some(UnitSeen {
        active: known.active.clone(),
        sub: known.sub.clone(),
        enabled: match (&file, known.enabled) {
            (None, _) => String::new(),
            (Some(_), true) => "enabled".into(),
            (Some(_), false) => "disabled".into(),
        },
        main_pid: known.main_pid,
        restarts: known.restarts,
        path: if file.is_some() || loaded { path } else { String::new() },
        needs_reload: loaded && file.as_deref() != Some(known.loaded.as_str()),
        restart_pending: host.files.contains_key(&format!("/run/xgenctl/restart-{unit}")),
    })
}

fn listening(host: &HostState) -> Vec<Listening> {
    let Some((_, unit)) = running_k3s(host) else { return Vec::new() };
    let socket = |protocol: &str, address: &str, port: u16, program: Option<&str>| Listening {
        protocol: protocol.into(),
        address: address.into(),
        port,
        program: program.map(str::to_owned),
    };
    let mut all = vec![socket("tcp", "*", 10250, Some("k3s")), socket("udp", "0.0.0.0", 8472, None)];
    if unit.exec.iter().any(|w| w == "server") {
        all.push(socket("tcp", "*", 6443, Some("k3s-server")));
        if host.files.contains_key("/var/lib/rancher/k3s/server/db/etcd/name") {
            all.push(socket("tcp", &host.address, 2379, Some("k3s-server")));
            all.push(socket("tcp", &host.address, 2380, Some("k3s-server")));
        }
    }
    all
}

/// Whether a TCP endpoint can be reached from a host, in the words of the reach script.
pub(super) fn reach(world: &World, from: &str, address: &str, port: u16) -> &'static str {
    let now = world.now_ms();
    world.see(|state| match state.resolve(from, address) {
        Some(target) => {
            let down = state.hosts.get(target).is_none_or(|h| h.down_until_ms > now);
            match (down && target != from, is_open(world, state, target, port)) {
                (true, _) => "filtered",
                (false, true) => "open",
                (false, false) => "refused",
            }
        }
        None if address.parse::<IpAddr>().is_ok() => "filtered",
        // The world beyond the rehearsed servers: web servers answer, other things do not.
        None if address.contains('.') && matches!(port, 80 | 443) => "open",
        None => "unresolved",
    })
}

/// Whether something listens on a port of a host.
pub(super) fn is_open(world: &World, state: &State, host: &str, port: u16) -> bool {
    if port == 6443 {
        return served_api(world, state, host).is_some();
    }
    state
        .hosts
        .get(host)
        .is_some_and(|h| h.facts.listening.iter().chain(&listening(h)).any(|l| l.protocol == "tcp" && l.port == port))
}
