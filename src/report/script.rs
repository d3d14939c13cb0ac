//! Runs as the engine tells them, for the tests of the reporters.

use crate::engine::action::{Disruption, Reason};
use crate::engine::event::{ActionInfo, CheckLevel, CheckResult, Event, FailureInfo, Outcome};

const CONFIG: &str = "master/put:/etc/rancher/k3s/config.yaml";
const BINARY: &str = "master/install:/usr/local/bin/k3s";
const UNIT: &str = "master/unit:k3s.service";
const NODE: &str = "cluster/node:master";

fn started(dry_run: bool) -> Event {
    Event::RunStarted {
        run: "20261122-071342-ab12".into(),
        command: "setup".into(),
        project: "xgen".into(),
        modules: vec!["preflight".into(), "k3s".into(), "agents".into()],
        dry_run,
        rehearsal: false,
    }
}

fn check(check: &str, level: CheckLevel, seen: &str, fix: &str) -> CheckResult {
    CheckResult { check: check.into(), host: Some("master".into()), level, seen: seen.into(), fix: fix.into() }
}

fn preflight() -> Event {
    Event::ModuleFinished {
        module: "preflight".into(),
        outcome: Outcome::Unchanged,
        ms: 400,
        failure: None,
        checks: vec![
            check("memory", CheckLevel::Pass, "16 GiB", ""),
            check("swap", CheckLevel::Warning, "2 GiB of swap are in use", "swapoff -a"),
        ],
    }
}

fn action(id: &str, summary: &str, reason: Reason, disruption: Disruption) -> ActionInfo {
    let host = id.starts_with("master/").then(|| "master".to_owned());
    ActionInfo { id: id.into(), host, summary: summary.into(), reason, disruption, diff: None }
}

fn planned() -> Event {
    let mut config = action(CONFIG, "write /etc/rancher/k3s/config.yaml", Reason::Drifted, Disruption::None);
    config.diff = Some(
        "--- /etc/rancher/k3s/config.yaml\n+++ /etc/rancher/k3s/config.yaml\n@@ -1,2 +1,2 @@\n-tls-san: [old]\n+tls-san: \
         [new]\n cluster-init: true\n"
            .into(),
    );
    Event::ModulePlanned {
        module: "k3s".into(),
        actions: vec![
            action(BINARY, "install /usr/local/bin/k3s", Reason::Missing, Disruption::None),
            config,
            action(UNIT, "restart k3s.service", Reason::Required, Disruption::Restart),
            action(NODE, "wait until node master is Ready", Reason::Required, Disruption::None),
        ],
        unchanged: 12,
        notices: vec!["master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl upgrade` does that".into()],
    }
}

fn start(id: &str, summary: &str) -> Event {
    let host = id.starts_with("master/").then(|| "master".to_owned());
    Event::ActionStarted { module: "k3s".into(), id: id.into(), host, summary: summary.into() }
}

fn end(id: &str, outcome: Outcome, ms: u64, failure: Option<FailureInfo>) -> Event {
    let host = id.starts_with("master/").then(|| "master".to_owned());
    Event::ActionFinished { module: "k3s".into(), id: id.into(), host, outcome, ms, failure }
}

fn moved(done: u64, total: Option<u64>) -> Event {
    Event::Progress {
        module: "k3s".into(),
        id: BINARY.into(),
        host: Some("master".into()),
        what: "upload".into(),
        done,
        total,
    }
}

fn module(module: &str, outcome: Outcome, ms: u64) -> Event {
    Event::ModuleFinished { module: module.into(), outcome, ms, failure: None, checks: vec![] }
}

fn agents_unchanged() -> [Event; 2] {
    let planned = Event::ModulePlanned { module: "agents".into(), actions: vec![], unchanged: 5, notices: vec![] };
    [planned, module("agents", Outcome::Unchanged, 310)]
}

fn finished(ok: bool, changed: usize, unchanged: usize, failed: usize, ms: u64, next: &[&str]) -> Event {
    let next = next.iter().map(|line| (*line).to_owned()).collect();
    Event::RunFinished { ok, changed, unchanged, failed, ms, failure: None, next }
}

/// The beginning of a run, up to the upload of the binary.
pub fn beginning() -> Vec<Event> {
    const MIB: u64 = 1 << 20;
    vec![
        started(false),
        preflight(),
        planned(),
        start(BINARY, "install /usr/local/bin/k3s"),
        moved(0, Some(70 * MIB)),
        moved(20 * MIB, Some(70 * MIB)),
        moved(35 * MIB, Some(70 * MIB)),
    ]
}

/// A run that changes one module and finds the other as wanted.
pub fn success() -> Vec<Event> {
    let mut events = beginning();
    events.extend([
        moved(70 << 20, Some(70 << 20)),
        end(BINARY, Outcome::Changed, 9_800, None),
        start(CONFIG, "write /etc/rancher/k3s/config.yaml"),
        end(CONFIG, Outcome::Changed, 80, None),
        start(UNIT, "restart k3s.service"),
        Event::Note {
            module: Some("k3s".into()),
            host: Some("master".into()),
            text: "connection lost, connected again".into(),
        },
        end(UNIT, Outcome::Changed, 21_000, None),
        start(NODE, "wait until node master is Ready"),
        end(NODE, Outcome::Unchanged, 10_000, None),
        module("k3s", Outcome::Changed, 41_000),
    ]);
    events.extend(agents_unchanged());
    events.push(finished(true, 3, 18, 0, 42_100, &["xgenctl status", "kubectl --context xgen get nodes"]));
    events
}

/// A run whose unit does not start; the output tries to steer the terminal.
pub fn failure() -> Vec<Event> {
    let mut events = beginning();
    let told = FailureInfo {
        message: "master: k3s.service did not become active within 120 s".into(),
        output: Some("\x1b[31mfatal\x1b[0m: port 6443 is in use\n\x1b]0;title\x07exit status 1\n".into()),
        hint: Some("free the port, or look at\n`journalctl -u k3s`".into()),
    };
    let blocked = FailureInfo { message: "k3s failed".into(), output: None, hint: None };
    events.extend([
        end(BINARY, Outcome::Changed, 9_800, None),
        start(UNIT, "restart k3s.service"),
        end(UNIT, Outcome::Failed, 120_000, Some(told)),
        module("k3s", Outcome::Failed, 131_000),
        Event::ModuleFinished {
            module: "agents".into(),
            outcome: Outcome::Blocked,
            ms: 0,
            failure: Some(blocked),
            checks: vec![],
        },
        finished(false, 1, 14, 1, 131_600, &[]),
    ]);
    events
}

/// A run that was interrupted.
pub fn interrupted() -> Vec<Event> {
    let mut events = beginning();
    events.extend([
        end(BINARY, Outcome::Skipped, 4_000, None),
        module("k3s", Outcome::Skipped, 4_100),
        module("agents", Outcome::Skipped, 0),
        finished(false, 0, 12, 0, 4_600, &[]),
    ]);
    events
}

/// A dry run.
pub fn dry_run() -> Vec<Event> {
    let mut events = vec![started(true), preflight(), planned(), module("k3s", Outcome::Changed, 300)];
    events.extend(agents_unchanged());
    events.push(finished(true, 4, 17, 0, 1_240, &[]));
    events
}

/// A run that finds everything as wanted.
pub fn unchanged() -> Vec<Event> {
    let planned = Event::ModulePlanned { module: "k3s".into(), actions: vec![], unchanged: 12, notices: vec![] };
    let mut events = vec![started(false), planned, module("k3s", Outcome::Unchanged, 300)];
    events.extend(agents_unchanged());
    events.push(finished(true, 0, 17, 0, 1_240, &["xgenctl status"]));
    events
}
