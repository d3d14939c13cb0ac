//! `-o json`: the contract with programs.

use std::collections::BTreeSet;

use serde_json::Value;

use super::site::{Output, Site};

const EVENTS: [&str; 6] =
    ["run_started", "module_planned", "action_started", "action_finished", "module_finished", "run_finished"];
const OUTCOMES: [&str; 5] = ["unchanged", "changed", "failed", "skipped", "blocked"];

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().unwrap_or_else(|| panic!("no text {key} in {event}"))
}

/// Checks the stream of a run against the contract.
#[track_caller]
pub fn keeps_the_contract(output: &Output) {
    let events = output.events();
    let names: Vec<&str> = events.iter().map(|e| text(e, "event")).collect();
    assert!(names.iter().all(|name| EVENTS.contains(name)), "{names:?}");
    assert_eq!(names.first(), Some(&"run_started"));
    assert_eq!(names.iter().position(|n| *n == "run_finished"), Some(names.len() - 1), "{names:?}");
    assert!(!output.stdout.chars().any(|c| c.is_control() && c != '\n'));

    let (mut planned, mut open, mut ended) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut changed, mut failed) = (0, 0);
    for event in &events {
        match text(event, "event") {
            "run_started" => assert!(event["modules"].is_array() && event["dry_run"].is_boolean()),
            "module_planned" => {
                for action in event["actions"].as_array().unwrap() {
                    let id = text(action, "id");
                    assert!(planned.insert(id.to_owned()), "{id} twice");
                    assert!(id.starts_with(&format!("{}/", text(event, "module"))), "{id}");
                    assert!(!text(action, "summary").is_empty());
                    text(action, "reason");
                    text(action, "disruption");
                }
            }
            "action_started" => {
                let id = text(event, "id").to_owned();
                assert!(planned.contains(&id), "{id} was not planned");
                assert!(open.insert(id), "started twice: {event}");
            }
            "action_finished" => {
                let id = text(event, "id");
                assert!(open.remove(id), "ended without a start: {event}");
                assert!(ended.insert(id.to_owned()), "ended twice: {event}");
                assert!(event["ms"].is_u64());
                match text(event, "outcome") {
                    "changed" => changed += 1,
                    "failed" => {
                        failed += 1;
                        assert!(!text(&event["failure"], "message").is_empty());
                    }
                    other => assert!(OUTCOMES.contains(&other), "{event}"),
                }
            }
            "module_finished" => {
                assert!(OUTCOMES.contains(&text(event, "outcome")), "{event}");
                assert!(event["ms"].is_u64());
            }
            "run_finished" => {
                for count in ["changed", "unchanged", "failed", "ms"] {
                    assert!(event[count].is_u64(), "{event}");
                }
                assert!(event["ok"].is_boolean());
                if events[0]["dry_run"] == false {
                    assert_eq!((event["changed"].as_u64(), event["failed"].as_u64()), (Some(changed), Some(failed)));
                } else {
                    assert_eq!(event["changed"].as_u64(), Some(planned.len() as u64));
                }
            }
            other => panic!("{other}"),
        }
    }
    assert!(open.is_empty(), "never ended: {open:?}");
}

#[test]
fn a_run_is_told_as_the_contract_says_and_the_second_one_changes_nothing() {
    let site = Site::three();
    let first = site.rehearse("setup all -o json").ok().complains("");
    keeps_the_contract(&first);
    let end = first.finished();
    assert_eq!(end["ok"], true);
    assert_eq!(end["changed"], 27);
    assert_eq!(end["failed"], 0);

    let second = site.rehearse("setup all -o json").ok().complains("");
    keeps_the_contract(&second);
    let end = second.finished();
    assert_eq!((&end["ok"], &end["changed"], &end["failed"]), (&true.into(), &0.into(), &0.into()));
    let last = second.stdout.lines().last().unwrap();
    assert!(last.contains(r#""changed":0"#), "{last}");
    assert!(second.events().iter().all(|e| e["event"] != "action_started"));
}

#[test]
fn dry_runs_blocked_runs_and_failed_runs_keep_the_contract_too() {
    let site = Site::three();
    let dry = site.rehearse("setup all --dry-run -o json").ok();
    keeps_the_contract(&dry);
    assert_eq!(dry.finished()["changed"], 30);

    let early = site.rehearse("setup agents -o json").ends_with_code(1);
    keeps_the_contract(&early);
    assert_eq!(early.finished()["ok"], false);
    let agents =
        early.events().into_iter().find(|e| e["module"] == "agents" && e["event"] == "module_finished").unwrap();
    assert_eq!(
        agents["failure"]["message"],
        "agents need a server to join, and there is none yet: run `xgenctl setup k3s` first"
    );

    site.tamper("one", |host| host["facts"]["memory_kib"] = 262_144.into());
    let blocked = site.rehearse("setup all -o json").ends_with_code(3);
    keeps_the_contract(&blocked);
    let modules: Vec<_> = blocked.events().into_iter().filter(|e| e["event"] == "module_finished").collect();
    assert_eq!((modules.len(), &modules[0]["outcome"]), (1, &"blocked".into()));
}

#[test]
fn every_answer_is_one_json_value() {
    let site = Site::converged();
    let status = site.rehearse("status -o json").ok().complains("").value();
    assert_eq!((&status["project"], &status["converged"]), (&"shop".into(), &true.into()));
    for module in status["modules"].as_array().unwrap() {
        let keys: Vec<_> = module.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["details", "module", "state", "version", "wanted"]);
        assert_eq!(module["state"], "converged");
        assert_eq!(module["version"], module["wanted"]);
    }
    assert_eq!(site.rehearse("setup status -o json").ok().value(), status);
    let checks = site.rehearse("check -o json").ok().complains("").value();
    assert_eq!((&checks["ok"], &checks["blocks"]), (&true.into(), &0.into()));
    site.rehearse("node list -o json").ok().complains("").value();
    site.run("runs -o json").ok().complains("").value();
}
