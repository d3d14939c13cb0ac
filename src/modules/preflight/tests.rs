//! Every check: passing, warning, blocking. The level of each case stands in the table, its whole text in the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use CheckLevel::{Block, Pass, Skipped, Warning};

use super::cases::{Case, FIREWALL, KERNEL, MACHINE, NETWORK, World};
use super::fixture::{node, project, run_k3s, seen};
use super::*;
use crate::artifact::FetchError;
use crate::project::{Access, Role};

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
    let left = skip(results.clone(), &["systemd".into(), "cpu".into()]);
    for (before, after) in results.iter().zip(&left) {
        if before.check == "systemd" {
            assert_eq!((after.level, after.fix.as_str()), (Skipped, ""));
            assert_eq!(after.seen, "left out by --skip-check: systemd does not run on this host");
        } else {
            assert_eq!(before, after);
        }
    }
    assert_eq!(skip(results.clone(), &[]), results);
    let all = CHECKS.iter().map(|check| check.name).collect::<Vec<_>>().join(", ");
    let unknown = |name: &str| known(&[name.to_owned()]).unwrap_err();
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
