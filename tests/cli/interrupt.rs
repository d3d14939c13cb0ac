//! Ctrl-C: where a run stopped is told, and the next one finishes.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use xgenctl::engine::{Event, Outcome, Reason};

use super::engine::{Circumstances, Ground};
use super::site::Site;

const TWO: &str = "\
project: { name: shop }
nodes:
  - { name: master, role: server, host: 10.0.0.10 }
  - { name: one, role: agent, host: 10.0.0.11 }
";

/// One server and eight agents: what a run says is longer than the pipe below.
fn nine() -> Site {
    let agents: String = (1..9).map(|n| format!("  - {{ name: n{n}, role: agent, host: 10.0.1.{n} }}\n")).collect();
    let server = "  - { name: master, role: server, host: 10.0.0.10 }\n";
    Site::new(&format!("project: {{ name: shop }}\nnodes:\n{server}{agents}"))
}

/// The program with a pipe for its output that holds one page: it cannot run ahead of its reader.
fn start(site: &Site, args: &str) -> (Child, File) {
    let (read, write): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    fcntl_setpipe_size(&write, 4096).unwrap();
    let child = site.command().args(args.split(' ')).stdout(Stdio::from(write)).stderr(Stdio::piped()).spawn().unwrap();
    (child, File::from(read))
}

/// Reads up to the line that holds `part`, byte by byte so that nothing after it is taken from the pipe.
fn read_until(pipe: &mut File, part: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while pipe.read(&mut byte).unwrap() > 0 {
        text.push(byte[0]);
        if byte[0] == b'\n' && String::from_utf8_lossy(&text).lines().last().unwrap().contains(part) {
            return String::from_utf8(text).unwrap();
        }
    }
    panic!("no {part:?} in {}", String::from_utf8_lossy(&text));
}

#[test]
fn ctrl_c_stops_the_run_and_the_next_one_finishes() {
    let site = nine();
    let (mut child, mut pipe) = start(&site, "setup all --rehearse=r");
    let mut text = read_until(&mut pipe, "agents: start: ");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    pipe.read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(130), ""), "{text}");
    for part in [
        "\ninterrupted: ending the current action safely; once more ends at once\n",
        "\n– agents  skipped",
        "\nStopped: ",
        "\nRun the same command again: it goes on from what it finds.\nEverything that happened: xgenctl runs show ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let list = site.run("runs -o json").ok().value();
    assert_eq!(list[0]["outcome"], "failed");

    site.rehearse("status").ends_with_code(4);
    let second = site.rehearse("setup all").ok();
    assert!(second.stdout.contains("\nDone: "), "{}", second.stdout);
    site.rehearse("status").ok();
    site.rehearse("setup all").ok().says("\nNothing to do: ");
}

#[test]
fn json_keeps_the_contract_when_interrupted() {
    let site = nine();
    let (mut child, mut pipe) = start(&site, "setup all -o json --rehearse=r");
    let mut text = read_until(&mut pipe, r#""event":"action_started""#);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    pipe.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    let output = super::site::Output { code: 130, stdout: text, stderr: String::new() };
    super::json::keeps_the_contract(&output);
    assert_eq!(output.finished()["ok"], false);
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_run() {
    let site = nine();
    let (mut child, mut pipe) = start(&site, "setup all --rehearse=r");
    read_until(&mut pipe, "k3s: start: ");
    drop(pipe);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    site.rehearse("status").ok();
}

/// Interrupted at every event there is; the next run always comes to the same end.
#[test]
fn interrupted_at_any_event_the_next_run_converges() {
    let usual = Ground::new(TWO);
    let events = usual.setup(Circumstances::default()).ok().events;
    let wanted = usual.fingerprint();
    assert!(events.len() > 40);
    let done = events.iter().rposition(|e| matches!(e, Event::ActionFinished { .. })).unwrap();
    for at in 1..=events.len() {
        let ground = Ground::new(TWO);
        let first = ground.setup(Circumstances { interrupt_at: Some(at), ..Circumstances::default() });
        let summary = first.result.as_ref().unwrap_or_else(|e| panic!("at {at}: {e}"));
        // Once the last action ended, nothing is left to be stopped.
        let stopped = at <= done;
        assert_eq!((summary.tally.interrupted, summary.ok()), (stopped, !stopped), "at {at}: {}", first.text);
        assert_eq!(summary.tally.failed, 0, "at {at}: {}", first.text);
        assert!(matches!(first.events.last(), Some(Event::RunFinished { ok, .. }) if *ok != stopped), "at {at}");
        assert_eq!(first.text.contains("\nStopped: "), stopped, "at {at}: {}", first.text);
        ground.is_tidy();

        // What was begun and not ended is what the journal knows, and what the next run says of it.
        let open: Vec<&String> = first
            .events
            .iter()
            .filter_map(|event| match event {
                Event::ActionFinished { id, outcome: Outcome::Skipped, .. } => Some(id),
                _ => None,
            })
            .collect();
        let second = ground.setup(Circumstances::default()).ok();
        for event in &second.events {
            let Event::ModulePlanned { actions, .. } = event else { continue };
            for action in actions {
                let told = action.reason == Reason::Interrupted;
                if open.contains(&&action.id) {
                    assert!(told, "at {at}: {} {:?}", action.id, action.reason);
                } else {
                    // Besides those, a unit whose restart is still due.
                    assert!(!told || action.id.contains("/run:"), "at {at}: {}", action.id);
                }
            }
        }
        assert_eq!(ground.fingerprint(), wanted, "at {at}");
        assert_eq!(ground.journal_text(), "", "at {at}");
        ground.is_tidy();
    }
}
