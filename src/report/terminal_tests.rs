use std::io;
use std::sync::{Arc, Mutex};

use indicatif::TermLike;

use super::*;
use crate::report::script;

/// What a terminal of a fixed size shows, scrolled-off lines included.
#[derive(Clone, Debug, Default)]
struct Screen {
    state: Arc<Mutex<Cells>>,
}

#[derive(Debug, Default)]
struct Cells {
    /// A cell holds a character and the escape sequences behind it.
    lines: Vec<Vec<String>>,
    row: usize,
    column: usize,
}

const COLUMNS: u16 = 80;

impl Screen {
    fn contents(&self) -> String {
        let state = self.state.lock().unwrap();
        let lines = state.lines.iter().map(|line| line.concat().trim_end().to_owned() + "\n");
        lines.collect::<String>().trim_end().to_owned() + "\n"
    }

    fn at(&self, change: impl FnOnce(&mut Cells)) -> io::Result<()> {
        change(&mut self.state.lock().unwrap());
        Ok(())
    }
}

impl Cells {
    fn cell(&mut self, column: usize) -> &mut String {
        while self.lines.len() <= self.row {
            self.lines.push(Vec::new());
        }
        let line = &mut self.lines[self.row];
        while line.len() <= column {
            line.push(" ".into());
        }
        &mut line[column]
    }

    fn put(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\n' => (self.row, self.column) = (self.row + 1, 0),
                '\r' => self.column = 0,
                '\x1b' => {
                    let rest: String = chars.by_ref().take_while(|c| *c != 'm').collect();
                    let column = self.column;
                    let cell = self.cell(column.saturating_sub(1));
                    let code = format!("\x1b{rest}m");
                    // Before the first character of a line there is none to stand behind.
                    *cell = if column == 0 { code } else { format!("{cell}{code}") };
                }
                c => {
                    if self.column == usize::from(COLUMNS) {
                        (self.row, self.column) = (self.row + 1, 0);
                    }
                    let column = self.column;
                    let cell = self.cell(column);
                    *cell = if cell.starts_with('\x1b') && column == 0 { format!("{cell}{c}") } else { c.into() };
                    self.column += 1;
                }
            }
        }
        while self.lines.len() <= self.row {
            self.lines.push(Vec::new());
        }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        COLUMNS
    }
    fn height(&self) -> u16 {
        50
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.at(|s| s.row = s.row.saturating_sub(n))
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.at(|s| s.row += n)
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.at(|s| s.column += n)
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.at(|s| s.column = s.column.saturating_sub(n))
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.at(|s| {
            s.put(text);
            s.put("\n");
        })
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.at(|s| s.put(text))
    }
    fn clear_line(&self) -> io::Result<()> {
        self.at(|s| {
            s.column = 0;
            let row = s.row;
            if let Some(line) = s.lines.get_mut(row) {
                line.clear();
            }
        })
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn reporter(screen: &Screen, style: Style, verbose: bool) -> TerminalReporter {
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    TerminalReporter::new(target, style, verbose, false)
}

/// What stands on the screen after these events.
fn shown(events: &[Event], verbose: bool) -> String {
    let screen = Screen::default();
    let mut reporter = reporter(&screen, Style { colour: false, width: Some(80) }, verbose);
    events.iter().for_each(|event| reporter.event(event));
    // The reporter still lives: bars of a run under way are on the screen.
    screen.contents()
}

#[test]
fn a_run_under_way_shows_a_bar_for_each_module_and_host() {
    let mut events = script::beginning();
    let note = Event::Note { module: None, host: Some("gpu-1".into()), text: "still booting".into() };
    events.push(note);
    insta::assert_snapshot!(shown(&events, false), @r#"
    setup xgen: preflight, k3s, agents
    ✔ preflight  unchanged  1 passed, 1 warning  0.4 s
      ! warning  master  swap  2 GiB of swap are in use
          fix: swapoff -a
    k3s: note: master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl
      upgrade` does that
      · gpu-1  still booting
    ⠋ k3s  0/4
      ⠸ master  upload ━━━━━━━━━━╸───────── 35.00 MiB/70.00 MiB
    "#);
}

#[test]
fn the_bars_are_gone_when_the_reporter_goes_in_the_middle_of_a_run() {
    let screen = Screen::default();
    let mut reporter = reporter(&screen, Style::PLAIN, false);
    script::beginning().iter().for_each(|event| reporter.event(event));
    drop(reporter);
    let text = screen.contents();
    assert!(text.contains("preflight") && !text.contains("upload") && !text.contains("0/4"), "{text}");
}

#[test]
fn success() {
    insta::assert_snapshot!(shown(&script::success(), false), @r#"
    setup xgen: preflight, k3s, agents
    ✔ preflight  unchanged  1 passed, 1 warning  0.4 s
      ! warning  master  swap  2 GiB of swap are in use
          fix: swapoff -a
    k3s: note: master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl
      upgrade` does that
      · master  connection lost, connected again
    ✔ k3s        changed    3 actions  41 s
    ✔ agents     unchanged  5 as wanted  0.3 s

    Done: 3 changed, 18 as wanted (42 s).

    Next:
      xgenctl status
      kubectl --context xgen get nodes
    "#);
}

#[test]
fn success_in_detail() {
    insta::assert_snapshot!(shown(&script::success(), true), @r#"
    setup xgen: preflight, k3s, agents
    ✔ preflight  unchanged  1 passed, 1 warning  0.4 s
      ! warning  master  swap  2 GiB of swap are in use
          fix: swapoff -a
    k3s: note: master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl
      upgrade` does that
      ✔ master  install /usr/local/bin/k3s  changed  9.8 s
      ✔ master  write /etc/rancher/k3s/config.yaml  changed  0.1 s
      · master  connection lost, connected again
      ✔ master  restart k3s.service  changed  21 s
      ✔ cluster  wait until node master is Ready  unchanged  10 s
    ✔ k3s        changed    3 actions  41 s
    ✔ agents     unchanged  5 as wanted  0.3 s

    Done: 3 changed, 18 as wanted (42 s).

    Next:
      xgenctl status
      kubectl --context xgen get nodes
    "#);
}

#[test]
fn failure() {
    insta::assert_snapshot!(shown(&script::failure(), false), @r#"
    setup xgen: preflight, k3s, agents
    ✔ preflight  unchanged  1 passed, 1 warning  0.4 s
      ! warning  master  swap  2 GiB of swap are in use
          fix: swapoff -a
    k3s: note: master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl
      upgrade` does that
      ✘ master  restart k3s.service  failed  2 min 0 s
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
fn interrupted() {
    insta::assert_snapshot!(shown(&script::interrupted(), false), @r#"
    setup xgen: preflight, k3s, agents
    ✔ preflight  unchanged  1 passed, 1 warning  0.4 s
      ! warning  master  swap  2 GiB of swap are in use
          fix: swapoff -a
    k3s: note: master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl
      upgrade` does that
      – master  install /usr/local/bin/k3s  skipped  4.0 s
    – k3s        skipped
    – agents     skipped

    Stopped: 0 changed, 12 as wanted (4.6 s).
    Run the same command again: it goes on from what it finds.
    Everything that happened: xgenctl runs show 20261122-071342-ab12
    "#);
}

#[test]
fn dry_run() {
    insta::assert_snapshot!(shown(&script::dry_run(), false), @r#"
    setup xgen: preflight, k3s, agents (dry run: nothing is changed)
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
      ! master  restart k3s.service  (follows from another change)  restarts a
          unit; running pods stay
        cluster  wait until node master is Ready  (follows from another change)
    k3s: note: master runs v1.36.4+k3s1, project.yaml wants v1.36.5+k3s1: `xgenctl
      upgrade` does that
    agents: nothing to do, 5 as wanted

    What will be interrupted:
      ! master  restart k3s.service  restarts a unit; running pods stay

    4 actions; nothing was changed (1.2 s).
    "#);
}

#[test]
fn unchanged() {
    insta::assert_snapshot!(shown(&script::unchanged(), false), @r#"
    setup xgen: preflight, k3s, agents
    ✔ k3s        unchanged  12 as wanted  0.3 s
    ✔ agents     unchanged  5 as wanted  0.3 s

    Nothing to do: 17 as wanted (1.2 s).

    Next:
      xgenctl status
    "#);
}

#[test]
fn colours_mark_what_matters_and_only_where_they_are_wanted() {
    let screen = Screen::default();
    let style = Style { colour: true, width: Some(80) };
    let mut coloured = reporter(&screen, style, false);
    script::dry_run().iter().for_each(|event| coloured.event(event));
    let text = screen.contents();
    for part in [
        "\x1b[32m+tls-san: [new]\x1b[0m",
        "\x1b[31m-tls-san: [old]\x1b[0m",
        "\x1b[36m@@ -1,2 +1,2 @@\x1b[0m",
        "\x1b[33m!\x1b[0m \x1b[2mmaster\x1b[0m  restart k3s.service",
    ] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    assert!(!shown(&script::dry_run(), false).contains('\x1b'));
}
