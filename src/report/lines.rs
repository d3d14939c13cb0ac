//! The sentences that the terminal, plain text and the run log have in common.

use std::collections::HashMap;

use super::checks;
use super::style::{Paint, Style, count, duration, fold, harmless, indent, pad, width};
use crate::engine::action::{Disruption, Reason};
use crate::engine::event::{ActionInfo, CheckLevel, CheckResult, Event, FailureInfo, Outcome};

/// What a reporter for people remembers of a run.
#[derive(Debug, Default)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Whether nothing is changed.
    pub dry_run: bool,
    /// Columns of the longest module name.
    name_width: usize,
    summaries: HashMap<(String, String), String>,
    tallies: HashMap<String, Tally>,
    /// What the plan stops, for the end of a dry run.
    stops: Vec<ActionInfo>,
    blocked: bool,
    skipped: bool,
}

/// What is known of a module.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    planned: usize,
    as_wanted: usize,
    changed: usize,
}

impl Run {
    /// Takes in an event, before it is told.
    pub fn remember(&mut self, event: &Event) {
        match event {
            Event::RunStarted { run, modules, dry_run, .. } => {
                let name_width = modules.iter().map(|m| width(m)).max().unwrap_or(0);
                *self = Self { id: run.clone(), dry_run: *dry_run, name_width, ..Self::default() };
            }
            Event::ModulePlanned { module, actions, unchanged, .. } => {
                self.name_width = self.name_width.max(width(module));
                let tally = self.tallies.entry(module.clone()).or_default();
                (tally.planned, tally.as_wanted) = (actions.len(), *unchanged);
                self.stops.extend(actions.iter().filter(|a| a.disruption > Disruption::None).cloned());
                for action in actions {
                    let key = (module.clone(), action.id.clone());
                    self.summaries.insert(key, action.summary.clone());
                }
            }
            Event::ActionStarted { module, id, summary, .. } => {
                self.summaries.insert((module.clone(), id.clone()), summary.clone());
            }
            Event::ActionFinished { module, outcome, .. } => {
                let tally = self.tallies.entry(module.clone()).or_default();
                match outcome {
                    Outcome::Changed => tally.changed += 1,
                    Outcome::Unchanged => tally.as_wanted += 1,
                    Outcome::Skipped => self.skipped = true,
                    Outcome::Failed | Outcome::Blocked => {}
                }
            }
            Event::ModuleFinished { outcome, .. } => {
                self.blocked |= *outcome == Outcome::Blocked;
                // A module that the run did not come to any more; in a dry run it only was not carried out.
                self.skipped |= *outcome == Outcome::Skipped && !self.dry_run;
            }
            Event::RunFinished { .. } | Event::Progress { .. } | Event::Note { .. } => {}
        }
    }

    /// The summary of an action, by module and id.
    pub fn summary<'a>(&'a self, module: &str, id: &'a str) -> &'a str {
        self.summaries.get(&(module.to_owned(), id.to_owned())).map_or(id, String::as_str)
    }

    /// `✔ k3s  changed    3 actions  41 s`, with what failed or what the checks found below it.
    pub fn module_finished(
        &self,
        style: Style,
        (module, outcome, ms): (&str, Outcome, u64),
        failure: Option<&FailureInfo>,
        results: &[CheckResult],
    ) -> String {
        let (symbol, word, paint) = outcome_words(outcome);
        let tally = self.tallies.get(module).copied().unwrap_or_default();
        let problems: Vec<_> =
            results.iter().filter(|r| matches!(r.level, CheckLevel::Warning | CheckLevel::Block)).collect();
        let has_plan = matches!(outcome, Outcome::Changed | Outcome::Unchanged);
        if self.dry_run && has_plan && results.is_empty() {
            // The plan was told already, and nothing came of it.
            return String::new();
        }
        let mut parts = Vec::new();
        if !results.is_empty() {
            parts.push(checks::counts(results));
        }
        match outcome {
            Outcome::Unchanged if results.is_empty() => parts.push(format!("{} as wanted", tally.as_wanted)),
            Outcome::Changed => parts.push(count(tally.changed, "action")),
            Outcome::Failed => parts.push(format!("{} of {} done", tally.changed, count(tally.planned, "action"))),
            Outcome::Unchanged | Outcome::Skipped | Outcome::Blocked => {}
        }
        if !matches!(outcome, Outcome::Skipped | Outcome::Blocked) || !results.is_empty() {
            parts.push(duration(ms));
        }
        let head = format!("{symbol} {}  {}", pad(&harmless(module), self.name_width), pad(word, 9));
        let mut text = format!("{}  {}", style.paint(paint, &head), parts.join("  ")).trim_end().to_owned() + "\n";
        text += &indent(&checks::lines(style, problems), 2);
        if let Some(failure) = failure {
            text += &self::failure(style, failure, 2);
        }
        text
    }

    /// The last lines of a run: what became of it, how to go on, what to do next.
    pub fn finished(&self, style: Style, event: &Event) -> String {
        let Event::RunFinished { ok, changed, unchanged, failed, ms, next, failure: _ } = event else {
            return String::new();
        };
        let time = duration(*ms);
        let mut text = String::new();
        if self.dry_run {
            text += &self.stops_of_the_plan(style);
        }
        let mut counts = format!("{changed} changed, {unchanged} as wanted");
        if *failed > 0 {
            counts += &format!(", {failed} failed");
        }
        let stopped = *failed == 0 && self.skipped;
        text += &match (*ok, self.dry_run, *changed) {
            (true, _, 0) => style.paint(Paint::Good, &format!("Nothing to do: {unchanged} as wanted ({time}).")),
            (true, true, _) => {
                let said = format!("{}; nothing was changed ({time}).", count(*changed, "action"));
                style.paint(Paint::Strong, &said)
            }
            (true, false, _) => style.paint(Paint::Good, &format!("Done: {counts} ({time}).")),
            (false, true, _) => {
                style.paint(Paint::Bad, &format!("The plan is not complete; nothing was changed ({time})."))
            }
            (false, false, _) => {
                let word = match (stopped, *failed == 0 && self.blocked) {
                    (true, _) => "Stopped",
                    (_, true) => "Blocked",
                    _ => "Failed",
                };
                style.paint(Paint::Bad, &format!("{word}: {counts} ({time})."))
            }
        };
        text.push('\n');
        if !ok {
            if !self.dry_run {
                let how = if stopped { "Run" } else { "Remove the cause and run" };
                text += &format!("{how} the same command again: it goes on from what it finds.\n");
            }
            if !self.id.is_empty() {
                text += &format!("Everything that happened: xgenctl runs show {}\n", self.id);
            }
        }
        if !next.is_empty() {
            text += &format!("\n{}\n", style.paint(Paint::Strong, "Next:"));
            next.iter().for_each(|line| text += &indent(&harmless(line), 2));
        }
        text
    }

    fn stops_of_the_plan(&self, style: Style) -> String {
        if self.stops.is_empty() {
            return String::new();
        }
        let mut text = style.paint(Paint::Strong, "What will be interrupted:") + "\n";
        for action in &self.stops {
            text += &format!("{}\n", action_line(style, action, false));
        }
        text + "\n"
    }
}

/// What a run begins with: `setup xgen: k3s, agents`.
pub fn started(style: Style, event: &Event) -> String {
    let Event::RunStarted { command, project, modules, dry_run, rehearsal, .. } = event else {
        return String::new();
    };
    let mut text = style.paint(Paint::Strong, &harmless(&format!("{command} {project}")));
    if !modules.is_empty() {
        text += &format!(": {}", modules.join(", "));
    }
    if *rehearsal {
        text += " (rehearsal: no real server is touched)";
    }
    if *dry_run {
        text += " (dry run: nothing is changed)";
    }
    text + "\n"
}

/// The plan of a module: every action, why, what it stops, and its diff.
pub fn plan(style: Style, module: &str, actions: &[ActionInfo], unchanged: usize, diffs: bool) -> String {
    let name = style.paint(Paint::Strong, &harmless(module));
    let head = match actions.len() {
        0 => "nothing to do".into(),
        number => count(number, "action"),
    };
    let mut text = format!("{name}: {head}, {unchanged} as wanted\n");
    for action in actions {
        text += &format!("{}\n", action_line(style, action, true));
        if let Some(diff) = action.diff.as_deref().filter(|_| diffs) {
            text += &self::diff(style, diff, 6);
        }
    }
    text
}

/// `! master  restart k3s.service  (drifted)  restarts a unit; running pods stay`.
fn action_line(style: Style, action: &ActionInfo, with_reason: bool) -> String {
    let (mark, what, paint) = match action.disruption {
        Disruption::None => (" ", "", Paint::Faint),
        Disruption::Restart => ("!", "restarts a unit; running pods stay", Paint::Warn),
        Disruption::Workloads => ("!", "pods move or restart", Paint::Warn),
        Disruption::Destructive => ("!", "DESTRUCTIVE: data or a node goes away", Paint::Bad),
    };
    let mark = if mark == "!" { style.paint(paint, mark) } else { mark.to_owned() };
    let place = style.paint(Paint::Faint, &harmless(action.host.as_deref().unwrap_or("cluster")));
    let mut text = format!("  {mark} {place}  {}", harmless(&action.summary));
    if with_reason {
        let reason = match action.reason {
            Reason::Missing => "missing",
            Reason::Drifted => "drifted",
            Reason::Forced => "forced",
            Reason::Interrupted => "interrupted before",
            Reason::Required => "follows from another change",
            Reason::Unwanted => "not wanted any more",
        };
        text += &format!("  {}", style.paint(Paint::Faint, &format!("({reason})")));
    }
    if !what.is_empty() {
        text += &format!("  {}", style.paint(paint, what));
    }
    fold(style, &text, 6)
}

/// A unified diff, indented.
fn diff(style: Style, diff: &str, blanks: usize) -> String {
    let paint = |line: &str| match line.as_bytes().first() {
        _ if line.starts_with("+++") || line.starts_with("---") => style.paint(Paint::Strong, line),
        Some(b'+') => style.paint(Paint::Good, line),
        Some(b'-') => style.paint(Paint::Bad, line),
        Some(b'@') => style.paint(Paint::Place, line),
        _ => line.to_owned(),
    };
    let lines: Vec<_> = harmless(diff).lines().map(paint).collect();
    indent(&lines.join("\n"), blanks)
}

/// A failure: what failed, the output that belongs to it, what to do.
pub fn failure(style: Style, failure: &FailureInfo, blanks: usize) -> String {
    let mut text = indent(&harmless(&failure.message), blanks);
    if let Some(output) = &failure.output {
        text += &indent(&harmless(output), blanks + 4);
    }
    if let Some(hint) = &failure.hint {
        let label = style.paint(Paint::Place, "hint:");
        let hint = indent(&harmless(hint), "hint: ".len());
        text += &indent(&format!("{label} {}", hint.trim()), blanks);
    }
    text
}

/// What a person should know and xgenctl will not change by itself.
pub fn notices(style: Style, module: &str, notices: &[String]) -> String {
    let label = style.paint(Paint::Warn, "note:");
    let line = |notice: &String| {
        let line = format!("{}: {label} {}", harmless(module), one_line(notice));
        fold(style, &line, 2) + "\n"
    };
    notices.iter().map(line).collect()
}

/// The text on one line.
pub fn one_line(text: &str) -> String {
    harmless(text).split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Symbol, word and colour of an outcome.
pub fn outcome_words(outcome: Outcome) -> (&'static str, &'static str, Paint) {
    match outcome {
        Outcome::Unchanged => ("✔", "unchanged", Paint::Good),
        Outcome::Changed => ("✔", "changed", Paint::Warn),
        Outcome::Failed => ("✘", "failed", Paint::Bad),
        Outcome::Skipped => ("–", "skipped", Paint::Faint),
        Outcome::Blocked => ("✘", "blocked", Paint::Bad),
    }
}
