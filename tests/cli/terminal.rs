//! The program on a pseudo-terminal: what is on the screen at the end is what a person reads.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::site::Site;

/// The program on a terminal of 100 columns.
struct Terminal {
    child: Child,
    screen: File,
    seen: Vec<u8>,
}

impl Terminal {
    fn start(site: &Site, args: &str) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let peer: OwnedFd = ioctl_tiocgptpeer(&master, flags).unwrap();
        tcsetwinsize(&peer, Winsize { ws_row: 50, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let end = || Stdio::from(peer.try_clone().unwrap());
        let child = site.command().args(args.split(' ')).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { child, screen: File::from(master), seen: Vec::new() }
    }

    /// Reads some more; false where the program closed its side.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.screen.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.seen.extend_from_slice(&buffer[..length]);
                true
            }
        }
    }

    fn wait_for(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            assert!(self.read(), "no {text:?} in {}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Waits for the end: the exit code, and the lines that stay on the screen.
    fn end(mut self, site: &Site) -> (Option<i32>, String) {
        while self.read() {}
        let code = self.child.wait().unwrap().code();
        (code, site.normal(&on_screen(&String::from_utf8_lossy(&self.seen))))
    }
}

/// What a terminal shows after these characters: lines, the cursor's moves, and what is erased. Colours are passed over.
fn on_screen(text: &str) -> String {
    // As on every terminal: a line that is full goes on below only when there is something to go on with.
    const COLUMNS: usize = 100;
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0usize, 0usize);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(Vec::new());
                }
            }
            '\x1b' => {
                assert_eq!(chars.next(), Some('['), "an escape sequence that is not known");
                let mut parameters = String::new();
                let end = loop {
                    match chars.next().expect("the sequence ends") {
                        c @ ('0'..='9' | ';' | '?') => parameters.push(c),
                        end => break end,
                    }
                };
                let number = parameters.parse::<usize>().unwrap_or(0);
                match end {
                    'A' => row = row.saturating_sub(number.max(1)),
                    'B' => {
                        row += number.max(1);
                        lines.resize(lines.len().max(row + 1), Vec::new());
                    }
                    'C' => column += number.max(1),
                    'D' => column = column.saturating_sub(number.max(1)),
                    'G' => column = number.max(1) - 1,
                    'K' if number == 2 => lines[row].clear(),
                    'K' => lines[row].truncate(column),
                    'J' => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    'm' | 'h' | 'l' => {}
                    other => panic!("the sequence {parameters}{other} is not known"),
                }
            }
            c if c.is_control() => panic!("{c:?} on the terminal"),
            c => {
                if column == COLUMNS {
                    (row, column) = (row + 1, 0);
                    lines.resize(lines.len().max(row + 1), Vec::new());
                }
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    let lines: Vec<String> = lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect();
    lines.join("\n")
}

#[test]
fn bars_leave_only_the_lines_that_matter() {
    let site = Site::three();
    let (code, screen) = Terminal::start(&site, "setup all --rehearse=r").end(&site);
    assert_eq!(code, Some(0), "{screen}");
    super::downloads::pin("terminal_setup", &screen);
    let (code, screen) = Terminal::start(&site, "setup all --rehearse=r").end(&site);
    assert_eq!(code, Some(0), "{screen}");
    super::downloads::pin("terminal_nothing_to_do", &screen);
}

#[test]
fn colours_are_left_out_where_the_environment_says_so() {
    let site = Site::converged();
    let mut terminal = Terminal::start(&site, "status --rehearse=r");
    while terminal.read() {}
    assert!(String::from_utf8_lossy(&terminal.seen).contains("\x1b[32m✔ converged\x1b[0m"));
    terminal.child.wait().unwrap();
}

#[test]
fn a_question_is_asked_and_its_answer_taken() {
    let site = Site::converged();
    for (answer, code) in [("n", Some(2)), ("y", Some(0))] {
        let mut terminal = Terminal::start(&site, "node remove one --rehearse=r");
        terminal.wait_for("Remove node one from the cluster and K3s with all its data from that host?");
        terminal.wait_for("[y/N]");
        terminal.screen.write_all(answer.as_bytes()).unwrap();
        let (end, screen) = terminal.end(&site);
        assert_eq!(end, code, "{screen}");
    }
    assert_eq!(site.file_on("one", "/usr/local/bin/k3s"), None);
}

#[test]
fn ctrl_c_at_a_question_ends_the_program_and_changes_nothing() {
    let site = Site::converged();
    let before = site.still_state();
    let mut terminal = Terminal::start(&site, "setup all --force --rehearse=r");
    terminal.wait_for("[y/N]");
    // The key, not the signal: a program that was started in the background may have inherited that it is ignored.
    terminal.screen.write_all(b"\x03").unwrap();
    let (end, screen) = terminal.end(&site);
    assert_ne!(end, Some(0), "{screen}");
    assert_eq!(site.still_state(), before);
}
