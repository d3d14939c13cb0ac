//! Plain lines without control characters, for pipes, files and CI.

use std::collections::HashMap;
use std::io::Write;

use super::lines::{self, Run, one_line};
use super::style::{Style, bytes, count, duration, harmless};
use crate::engine::event::{Event, Outcome, Reporter};

/// Without a known total, a line is written once for so many bytes.
const BYTES_PER_LINE: u64 = 64 << 20;

/// Writes plain lines.
pub struct PlainReporter<W> {
    out: W,
    text: PlainText,
}

impl<W: Write + Send> PlainReporter<W> {
    /// A reporter that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, text: PlainText::default() }
    }
}

impl<W: Write + Send> Reporter for PlainReporter<W> {
    fn event(&mut self, event: &Event) {
        let text = self.text.of(event);
        // A reader that cannot take it must not stop a run that changes servers.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// Makes the lines of each event.
#[derive(Default)]
pub(super) struct PlainText {
    run: Run,
    /// How many quarters (or pieces) of a transfer were told, by module and action.
    told: HashMap<(String, String), u64>,
    /// Diffs and every action of a plan even where the plan is carried out.
    everything: bool,
}

impl PlainText {
    /// With every action of a plan and its diff, even where the plan is carried out.
    pub(super) fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// The lines of an event, each ended by a line break; empty where there is nothing to say.
    pub(super) fn of(&mut self, event: &Event) -> String {
        const STYLE: Style = Style::PLAIN;
        self.run.remember(event);
        match event {
            Event::RunStarted { run, .. } => {
                self.told.clear();
                let started = lines::started(STYLE, event);
                format!("{}, run {run}\n", started.trim_end())
            }
            Event::ModulePlanned { module, actions, unchanged, notices } => {
                let whole = self.run.dry_run || self.everything;
                let text = match (whole, actions.len()) {
                    (true, _) => lines::plan(STYLE, module, actions, *unchanged, true),
                    // What is as wanted is told when the module ends.
                    (false, 0) => String::new(),
                    (false, number) => {
                        format!("{}: {}, {unchanged} as wanted\n", harmless(module), count(number, "action"))
                    }
                };
                text + &lines::notices(STYLE, module, notices)
            }
            Event::ActionStarted { module, host, summary, .. } => {
                format!("{}start: {}\n", place(host.as_deref(), Some(module)), one_line(summary))
            }
            Event::ActionFinished { module, id, host, outcome, ms, failure } => {
                let word = match outcome {
                    Outcome::Changed => "done",
                    Outcome::Unchanged => "unchanged",
                    Outcome::Failed => "FAILED",
                    Outcome::Skipped => "skipped",
                    Outcome::Blocked => "blocked",
                };
                let place = place(host.as_deref(), Some(module));
                let summary = one_line(self.run.summary(module, id));
                let mut text = format!("{place}{word}: {summary} ({})\n", duration(*ms));
                if let Some(failure) = failure {
                    text += &lines::failure(STYLE, failure, 2);
                }
                text
            }
            Event::ModuleFinished { module, outcome, ms, failure, checks } => {
                self.run.module_finished(STYLE, (module, *outcome, *ms), failure.as_ref(), checks)
            }
            Event::RunFinished { failure, .. } => {
                // On the screen it is the error that the program ends with.
                let shown = failure.as_ref().filter(|_| self.everything);
                let told = shown.map(|f| lines::failure(STYLE, f, 2)).unwrap_or_default();
                told + &self.run.finished(STYLE, event)
            }
            Event::Progress { module, id, host, what, done, total } => {
                let step = match total {
                    // The quarters that are full.
                    Some(total) if *total > 0 => done.saturating_mul(4) / total,
                    _ => done / BYTES_PER_LINE,
                };
                let told = self.told.entry((module.clone(), id.clone())).or_default();
                if step <= *told {
                    // A transfer that begins again is told again.
                    *told = step;
                    return String::new();
                }
                *told = step;
                let place = place(host.as_deref(), Some(module));
                match total {
                    Some(total) => {
                        format!("{place}{}: {} of {}\n", one_line(what), bytes(*done), bytes(*total))
                    }
                    None => format!("{place}{}: {}\n", one_line(what), bytes(*done)),
                }
            }
            Event::Note { module, host, text } => {
                format!("{}{}\n", place(host.as_deref(), module.as_deref()), one_line(text))
            }
        }
    }
}

/// `[master] k3s: `, as far as it is known.
fn place(host: Option<&str>, module: Option<&str>) -> String {
    let host = host.map(|host| format!("[{}] ", harmless(host))).unwrap_or_default();
    let module = module.map(|module| format!("{}: ", harmless(module))).unwrap_or_default();
    host + &module
}
