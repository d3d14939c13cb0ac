//! systemd of the simulated servers: units that start step by step, fail, and are started again.

use super::api::Api;
use super::disk::dirname;
use super::k3s::config::{self, parse_unit};
use super::k3s::node;
use super::k3s::start::{self, Outcome};
use super::state::{Happening, HostState, State, Step, UnitState};
use super::world::{Kept, World};

/// How many journal lines a unit keeps.
const JOURNAL_LENGTH: usize = 200;
/// How long a kubelet may be silent before its node counts as lost.
pub(super) const NODE_LOST_MS: i64 = 40_000;

/// Where unit files are.
pub(super) fn unit_path(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}")
}

/// The link that `systemctl enable` makes.
fn wants_path(unit: &str) -> String {
    format!("/etc/systemd/system/multi-user.target.wants/{unit}")
}

/// Does everything that is due until `now_ms`, in order; tells whether anything was.
pub(super) fn settle(world: &World, state: &mut State, now_ms: i64) -> bool {
    let mut happened = false;
    while state.agenda.first().is_some_and(|(due, _, _)| *due <= now_ms) {
        let Some((due, _, happening)) = state.agenda.pop_first() else { break };
        state.now_ms = state.now_ms.max(due);
        happened = true;
        match happening {
            Happening::NodeLost { host } => node::lost(world, state, &host),
            Happening::Unit { host, unit, generation, step } => {
                let current = state.hosts.get(&host).and_then(|h| h.units.get(&unit));
                if current.is_some_and(|u| u.generation == generation) {
                    take_step(world, state, &host, &unit, step);
                }
            }
        }
    }
    state.now_ms = state.now_ms.max(now_ms);
    happened
}

/// `systemctl daemon-reload`.
pub(super) fn daemon_reload(host: &mut HostState) {
    let files: Vec<(String, String)> = host
        .files
        .iter()
        .filter(|(path, file)| dirname(path) == "/etc/systemd/system" && file.kind == crate::host::FileKind::File)
        .filter_map(|(path, file)| {
            let name = path.rsplit('/').next().filter(|n| n.ends_with(".service"))?;
            Some((name.to_owned(), String::from_utf8_lossy(&file.content).into_owned()))
        })
        .collect();
    host.units.retain(|name, unit| files.iter().any(|(n, _)| n == name) || unit.main_pid != 0);
    for (name, text) in files {
        let wanted = wants_path(&name);
        let enabled = host.files.contains_key(&wanted);
        let unit = host.units.entry(name).or_insert_with(idle);
        unit.loaded = text;
        unit.enabled = enabled;
    }
}

fn idle() -> UnitState {
    UnitState { active: "inactive".into(), sub: "dead".into(), ..UnitState::default() }
}

/// `systemctl enable`.
///
/// # Errors
/// What systemctl says where there is no such unit.
pub(super) fn enable(host: &mut HostState, unit: &str) -> Result<(), String> {
    let Some(known) = host.units.get_mut(unit) else {
        return Err(format!("Failed to enable unit: Unit file {unit} does not exist."));
    };
    known.enabled = true;
    let link = wants_path(unit);
    host.mkdir(dirname(&link), 0o755)?;
    host.link(&link, &unit_path(unit));
    Ok(())
}

/// `systemctl disable`.
pub(super) fn disable(host: &mut HostState, unit: &str) {
    host.remove(&wants_path(unit));
    if let Some(known) = host.units.get_mut(unit) {
        known.enabled = false;
    }
}

/// `systemctl --no-block start` and `restart`.
pub(super) fn start(world: &World, state: &mut State, host: &str, unit: &str, restart: bool) {
    let Some(known) = state.hosts.get_mut(host).and_then(|h| h.units.get_mut(unit)) else { return };
    let runs = matches!(known.active.as_str(), "active" | "activating");
    if runs && !restart {
        return;
    }
    if known.main_pid != 0 {
        halt(world, state, host, unit);
    }
    if let Some(known) = state.hosts.get_mut(host).and_then(|h| h.units.get_mut(unit)) {
        known.restarts = 0;
    }
    begin(world, state, host, unit);
}

/// `systemctl stop`.
pub(super) fn stop(world: &World, state: &mut State, host: &str, unit: &str) {
    let known = state.hosts.get(host).and_then(|h| h.units.get(unit));
    if known.is_none_or(|u| u.active == "inactive") {
        return;
    }
    halt(world, state, host, unit);
    say(world, state, host, unit, &[format!("Stopped {unit}.")]);
}

/// A restart of the machine: what /run held is gone, enabled units start.
pub(super) fn reboot(world: &World, state: &mut State, host: &str) {
    let Some(machine) = state.hosts.get_mut(host) else { return };
    machine.remove("/run");
    machine.write("/run/.boot", 0o644, "");
    machine.remove("/run/.boot");
    daemon_reload(machine);
    let units: Vec<(String, bool)> = machine.units.iter().map(|(n, u)| (n.clone(), u.enabled)).collect();
    for (unit, enabled) in units {
        halt(world, state, host, &unit);
        if enabled {
            begin(world, state, host, &unit);
        }
    }
}

/// Ends the process of a unit.
fn halt(world: &World, state: &mut State, host: &str, unit: &str) {
    let now = state.now_ms;
    let Some(machine) = state.hosts.get_mut(host) else { return };
    let Some(known) = machine.units.get_mut(unit) else { return };
    if known.main_pid != 0 {
        machine.silent_since_ms = now;
    }
    known.generation += 1;
    known.active = "inactive".into();
    known.sub = "dead".into();
    known.main_pid = 0;
    for cluster in state.clusters.values_mut() {
        cluster.joining.take_if(|joining| joining == host);
    }
    state.schedule(NODE_LOST_MS, Happening::NodeLost { host: host.to_owned() });
    world.drop_tunnels(host);
}

fn begin(world: &World, state: &mut State, host: &str, unit: &str) {
    let Some(machine) = state.hosts.get_mut(host) else { return };
    let pid = machine.next_pid();
    let Some(known) = machine.units.get_mut(unit) else { return };
    known.generation += 1;
    known.active = "activating".into();
    known.sub = "start".into();
    known.main_pid = pid;
    say(world, state, host, unit, &[format!("Starting {unit}...")]);
    next(state, host, unit, 50, Step::Exec);
}

fn next(state: &mut State, host: &str, unit: &str, delay_ms: i64, step: Step) {
    let Some(generation) = state.hosts.get(host).and_then(|h| h.units.get(unit)).map(|u| u.generation) else { return };
    let happening = Happening::Unit { host: host.to_owned(), unit: unit.to_owned(), generation, step };
    state.schedule(delay_ms, happening);
}

/// Writes to a unit's journal.
pub(super) fn say(world: &World, state: &mut State, host: &str, unit: &str, lines: &[String]) {
    let Some(known) = state.hosts.get_mut(host).and_then(|h| h.units.get_mut(unit)) else { return };
    for line in lines {
        world.record(Kept::Journal, host, line.as_str());
        known.journal.push(line.clone());
    }
    let extra = known.journal.len().saturating_sub(JOURNAL_LENGTH);
    known.journal.drain(..extra);
}

fn take_step(world: &World, state: &mut State, host: &str, unit: &str, step: Step) {
    if step == Step::Restart {
        if let Some(known) = state.hosts.get_mut(host).and_then(|h| h.units.get_mut(unit)) {
            known.restarts += 1;
            let restarts = known.restarts;
            let line = format!("{unit}: Scheduled restart job, restart counter is at {restarts}.");
            say(world, state, host, unit, &[line]);
        }
        begin(world, state, host, unit);
        return;
    }
    let Some(known) = state.hosts.get_mut(host).and_then(|h| h.units.get_mut(unit)) else { return };
    if step == Step::Exec && std::mem::take(&mut known.fails_once) {
        let lines =
            vec!["level=fatal msg=\"starting kubernetes: preparing server: write: interrupted system call\"".into()];
        fail(world, state, host, unit, lines, "status=1/FAILURE");
        return;
    }
    let loaded = parse_unit(unit, &known.loaded);
    let outcome = start::step(world, state, host, unit, &loaded, step);
    match outcome {
        Outcome::Goes { lines, after_ms, to } => {
            say(world, state, host, unit, &lines);
            // Programs that do not tell systemd count as started once they are executed.
            let started = if loaded.kind == "notify" { step == Step::Up } else { step == Step::Exec };
            if started {
                if let Some(known) = state.hosts.get_mut(host).and_then(|h| h.units.get_mut(unit)) {
                    known.active = "active".into();
                    known.sub = "running".into();
                }
                say(world, state, host, unit, &[format!("Started {unit}.")]);
            }
            if let Some(to) = to {
                next(state, host, unit, after_ms, to);
            }
        }
        Outcome::Waits { lines, after_ms } => {
            say(world, state, host, unit, &lines);
            next(state, host, unit, after_ms, step);
        }
        Outcome::Fails { lines, status } => fail(world, state, host, unit, lines, status),
    }
}

/// The process of a unit ended with an error: systemd starts it again if its file says so.
fn fail(world: &World, state: &mut State, host: &str, unit: &str, mut lines: Vec<String>, status: &str) {
    lines.push(format!("{unit}: Main process exited, code=exited, {status}"));
    lines.push(format!("{unit}: Failed with result 'exit-code'."));
    say(world, state, host, unit, &lines);
    halt(world, state, host, unit);
    let Some(known) = state.hosts.get_mut(host).and_then(|h| h.units.get_mut(unit)) else { return };
    let file = parse_unit(unit, &known.loaded);
    if matches!(file.restart.as_str(), "always" | "on-failure" | "on-abnormal") {
        known.active = "activating".into();
        known.sub = "auto-restart".into();
        next(state, host, unit, file.restart_ms, Step::Restart);
    } else {
        known.active = "failed".into();
        known.sub = "failed".into();
    }
}

/// Whether a host's K3s serves or works: the unit, if it is active.
pub(super) fn running_k3s(host: &HostState) -> Option<(&str, config::Unit)> {
    host.units
        .iter()
        .filter(|(_, unit)| unit.active == "active")
        .map(|(name, unit)| (name.as_str(), parse_unit(name, &unit.loaded)))
        .find(|(_, file)| file.exec.first().is_some_and(|program| program.ends_with("/k3s")))
}

/// The API that a host serves on 6443, if its K3s server runs.
pub(super) fn served_api(world: &World, state: &State, host: &str) -> Option<(String, Api)> {
    let machine = state.hosts.get(host)?;
    let (_, file) = running_k3s(machine)?;
    if !file.exec.iter().any(|w| w == "server") {
        return None;
    }
    let cluster = start::datastore(machine)?.cluster;
    let api = world.api(&cluster)?;
    Some((cluster, api))
}
