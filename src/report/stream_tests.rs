//! Plain text and JSON lines, whole.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::script;
use super::{JsonReporter, PlainReporter};
use crate::engine::event::{Event, EventSink, Reporter};
use crate::secret::{Redactor, Secret};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn plain(events: &[Event]) -> String {
    let buffer = Buffer::default();
    let mut reporter = PlainReporter::new(buffer.clone());
    events.iter().for_each(|event| reporter.event(event));
    buffer.text()
}

fn json(events: &[Event]) -> String {
    let buffer = Buffer::default();
    let mut reporter = JsonReporter::new(buffer.clone());
    events.iter().for_each(|event| reporter.event(event));
    buffer.text()
}

#[test]
fn plain_success() {
    insta::assert_snapshot!(plain(&script::success()), @r#"
    setup xgen: preflight, k3s, agents, run 20261122-071342-ab12
    ✔ preflight  unchanged  1 passed, 1 warning  0.4 s
      ! warning  master  swap  2 GiB of swap are in use
          fix: swapoff -a
    k3s: 4 actions, 12 as wanted
    k3s: note: master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl upgrade` does that
    [master] k3s: start: install /usr/local/bin/k3s
    [master] k3s: upload: 20.0 MiB of 70.0 MiB
    [master] k3s: upload: 35.0 MiB of 70.0 MiB
    [master] k3s: upload: 70.0 MiB of 70.0 MiB
    [master] k3s: done: install /usr/local/bin/k3s (9.8 s)
    [master] k3s: start: write /etc/rancher/k3s/config.yaml
    [master] k3s: done: write /etc/rancher/k3s/config.yaml (0.1 s)
    [master] k3s: start: restart k3s.service
    [master] k3s: connection lost, connected again
    [master] k3s: done: restart k3s.service (21 s)
    k3s: start: wait until node master is Ready
    k3s: unchanged: wait until node master is Ready (10 s)
    ✔ k3s        changed    3 actions  41 s
    ✔ agents     unchanged  5 as wanted  0.3 s
    Done: 3 changed, 18 as wanted (42 s).

    Next:
      xgenctl status
      kubectl --context xgen get nodes
    "#);
}

#[test]
fn plain_failure() {
    insta::assert_snapshot!(plain(&script::failure()), @r#"
    setup xgen: preflight, k3s, agents, run 20261122-071342-ab12
    ✔ preflight  unchanged  1 passed, 1 warning  0.4 s
      ! warning  master  swap  2 GiB of swap are in use
          fix: swapoff -a
    k3s: 4 actions, 12 as wanted
    k3s: note: master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl upgrade` does that
    [master] k3s: start: install /usr/local/bin/k3s
    [master] k3s: upload: 20.0 MiB of 70.0 MiB
    [master] k3s: upload: 35.0 MiB of 70.0 MiB
    [master] k3s: done: install /usr/local/bin/k3s (9.8 s)
    [master] k3s: start: restart k3s.service
    [master] k3s: FAILED: restart k3s.service (2 min 0 s)
      master: k3s.service did not become active within 120 s
          fatal: port 6443 is in use
          exit status 1
      hint: free the port, or look at
            `journalctl -u k3s`
    ✘ k3s        failed     1 of 4 actions done  2 min 11 s
    ✘ agents     blocked
      k3s failed
    Failed: 1 changed, 14 as wanted, 1 failed (2 min 12 s).
    Remove the cause and run the same command again: it goes on from what it finds.
    Everything that happened: xgenctl runs show 20261122-071342-ab12
    "#);
}

#[test]
fn plain_dry_run() {
    insta::assert_snapshot!(plain(&script::dry_run()), @r#"
    setup xgen: preflight, k3s, agents (dry run: nothing is changed), run 20261122-071342-ab12
    ✔ preflight  unchanged  1 passed, 1 warning  0.4 s
      ! warning  master  swap  2 GiB of swap are in use
          fix: swapoff -a
    k3s: 4 actions, 12 as wanted
        master  install /usr/local/bin/k3s  (missing)
        master  write /etc/rancher/k3s/config.yaml  (drifted)
          --- /etc/rancher/k3s/config.yaml
          +++ /etc/rancher/k3s/config.yaml
          @@ -1,2 +1,2 @@
          -tls-san: [old]
          +tls-san: [new]
           cluster-init: true
      ! master  restart k3s.service  (follows from another change)  restarts a unit; running pods stay
        cluster  wait until node master is Ready  (follows from another change)
    k3s: note: master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl upgrade` does that
    agents: nothing to do, 5 as wanted
    What will be interrupted:
      ! master  restart k3s.service  restarts a unit; running pods stay

    4 actions; nothing was changed (1.2 s).
    "#);
}

#[test]
fn plain_unchanged() {
    insta::assert_snapshot!(plain(&script::unchanged()), @r#"
    setup xgen: preflight, k3s, agents, run 20261122-071342-ab12
    ✔ k3s        unchanged  12 as wanted  0.3 s
    ✔ agents     unchanged  5 as wanted  0.3 s
    Nothing to do: 17 as wanted (1.2 s).

    Next:
      xgenctl status
    "#);
}

#[test]
fn plain_text_has_no_control_characters() {
    for events in [script::success(), script::failure(), script::dry_run(), script::unchanged()] {
        let text = plain(&events);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn json_success() {
    insta::assert_snapshot!(json(&script::success()), @r#"
    {"event":"run_started","run":"20261122-071342-ab12","command":"setup","project":"xgen","modules":["preflight","k3s","agents"],"dry_run":false,"rehearsal":false}
    {"event":"module_finished","module":"preflight","outcome":"unchanged","ms":400,"checks":[{"check":"memory","host":"master","level":"pass","seen":"16 GiB"},{"check":"swap","host":"master","level":"warning","seen":"2 GiB of swap are in use","fix":"swapoff -a"}]}
    {"event":"module_planned","module":"k3s","actions":[{"id":"master/install:/usr/local/bin/k3s","host":"master","summary":"install /usr/local/bin/k3s","reason":"missing","disruption":"none"},{"id":"master/put:/etc/rancher/k3s/config.yaml","host":"master","summary":"write /etc/rancher/k3s/config.yaml","reason":"drifted","disruption":"none","diff":"--- /etc/rancher/k3s/config.yaml\n+++ /etc/rancher/k3s/config.yaml\n@@ -1,2 +1,2 @@\n-tls-san: [old]\n+tls-san: [new]\n cluster-init: true\n"},{"id":"master/unit:k3s.service","host":"master","summary":"restart k3s.service","reason":"required","disruption":"restart"},{"id":"cluster/node:master","summary":"wait until node master is Ready","reason":"required","disruption":"none"}],"unchanged":12,"notices":["master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl upgrade` does that"]}
    {"event":"action_started","module":"k3s","id":"master/install:/usr/local/bin/k3s","host":"master","summary":"install /usr/local/bin/k3s"}
    {"event":"action_finished","module":"k3s","id":"master/install:/usr/local/bin/k3s","host":"master","outcome":"changed","ms":9800}
    {"event":"action_started","module":"k3s","id":"master/put:/etc/rancher/k3s/config.yaml","host":"master","summary":"write /etc/rancher/k3s/config.yaml"}
    {"event":"action_finished","module":"k3s","id":"master/put:/etc/rancher/k3s/config.yaml","host":"master","outcome":"changed","ms":80}
    {"event":"action_started","module":"k3s","id":"master/unit:k3s.service","host":"master","summary":"restart k3s.service"}
    {"event":"action_finished","module":"k3s","id":"master/unit:k3s.service","host":"master","outcome":"changed","ms":21000}
    {"event":"action_started","module":"k3s","id":"cluster/node:master","summary":"wait until node master is Ready"}
    {"event":"action_finished","module":"k3s","id":"cluster/node:master","outcome":"unchanged","ms":10000}
    {"event":"module_finished","module":"k3s","outcome":"changed","ms":41000}
    {"event":"module_planned","module":"agents","actions":[],"unchanged":5}
    {"event":"module_finished","module":"agents","outcome":"unchanged","ms":310}
    {"event":"run_finished","ok":true,"changed":3,"unchanged":18,"failed":0,"ms":42100,"next":["xgenctl status","kubectl --context xgen get nodes"]}
    "#);
}

#[test]
fn json_failure() {
    insta::assert_snapshot!(json(&script::failure()), @r#"
    {"event":"run_started","run":"20261122-071342-ab12","command":"setup","project":"xgen","modules":["preflight","k3s","agents"],"dry_run":false,"rehearsal":false}
    {"event":"module_finished","module":"preflight","outcome":"unchanged","ms":400,"checks":[{"check":"memory","host":"master","level":"pass","seen":"16 GiB"},{"check":"swap","host":"master","level":"warning","seen":"2 GiB of swap are in use","fix":"swapoff -a"}]}
    {"event":"module_planned","module":"k3s","actions":[{"id":"master/install:/usr/local/bin/k3s","host":"master","summary":"install /usr/local/bin/k3s","reason":"missing","disruption":"none"},{"id":"master/put:/etc/rancher/k3s/config.yaml","host":"master","summary":"write /etc/rancher/k3s/config.yaml","reason":"drifted","disruption":"none","diff":"--- /etc/rancher/k3s/config.yaml\n+++ /etc/rancher/k3s/config.yaml\n@@ -1,2 +1,2 @@\n-tls-san: [old]\n+tls-san: [new]\n cluster-init: true\n"},{"id":"master/unit:k3s.service","host":"master","summary":"restart k3s.service","reason":"required","disruption":"restart"},{"id":"cluster/node:master","summary":"wait until node master is Ready","reason":"required","disruption":"none"}],"unchanged":12,"notices":["master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl upgrade` does that"]}
    {"event":"action_started","module":"k3s","id":"master/install:/usr/local/bin/k3s","host":"master","summary":"install /usr/local/bin/k3s"}
    {"event":"action_finished","module":"k3s","id":"master/install:/usr/local/bin/k3s","host":"master","outcome":"changed","ms":9800}
    {"event":"action_started","module":"k3s","id":"master/unit:k3s.service","host":"master","summary":"restart k3s.service"}
    {"event":"action_finished","module":"k3s","id":"master/unit:k3s.service","host":"master","outcome":"failed","ms":120000,"failure":{"message":"master: k3s.service did not become active within 120 s","output":"\u001b[31mfatal\u001b[0m: port 6443 is in use\n\u001b]0;title\u0007exit status 1\n","hint":"free the port, or look at\n`journalctl -u k3s`"}}
    {"event":"module_finished","module":"k3s","outcome":"failed","ms":131000}
    {"event":"module_finished","module":"agents","outcome":"blocked","ms":0,"failure":{"message":"k3s failed"}}
    {"event":"run_finished","ok":false,"changed":1,"unchanged":14,"failed":1,"ms":131600}
    "#);
}

#[test]
fn json_carries_the_contract_and_nothing_else() {
    let public =
        ["run_started", "module_planned", "action_started", "action_finished", "module_finished", "run_finished"];
    for events in [script::success(), script::failure(), script::dry_run(), script::unchanged()] {
        let text = json(&events);
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &lines {
            assert!(public.contains(&line["event"].as_str().unwrap()), "{line}");
        }
        assert_eq!(lines[0]["event"], "run_started");
        let last = lines.last().unwrap();
        assert_eq!(last["event"], "run_finished");
        for key in ["ok", "changed", "unchanged", "failed", "ms"] {
            assert!(last.get(key).is_some(), "{key}");
        }
        let planned = lines.iter().find(|l| l["event"] == "module_planned").unwrap();
        for action in planned["actions"].as_array().unwrap() {
            for key in ["id", "summary", "reason", "disruption"] {
                assert!(action[key].is_string(), "{key}");
            }
        }
    }
}

#[test]
fn what_the_stream_carries_is_redacted_before_anybody_writes_it() {
    let (text, lines) = (Buffer::default(), Buffer::default());
    let redactor = Redactor::default();
    redactor.learn(&Secret::new("6443"));
    redactor.learn(&Secret::new("connection lost"));
    let sink = EventSink::new(
        vec![Box::new(PlainReporter::new(text.clone())), Box::new(JsonReporter::new(lines.clone()))],
        redactor,
    );
    script::success().into_iter().for_each(|event| sink.send(event));
    assert!(text.text().contains("[redacted], connected again"), "{}", text.text());
    assert!(!text.text().contains("connection lost") && !lines.text().contains("connection lost"));
}
