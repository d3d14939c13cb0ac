//! The terminal: what ended stays above, a bar for each module and host that is at work below it.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::{self, Run, one_line, outcome_words};
use super::out;
use super::style::{Paint, Style, duration, harmless};
use crate::engine::event::{Event, Outcome, Reporter};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Draws bars, and prints what ended above them.
pub struct TerminalReporter {
    multi: MultiProgress,
    style: Style,
    verbose: bool,
    /// Whether spinners turn and clocks run by themselves.
    animate: bool,
    run: Run,
    /// Stands there until the first module has a plan.
    looking: Option<ProgressBar>,
    modules: BTreeMap<String, Module>,
}

/// A module at work.
struct Module {
    bar: ProgressBar,
    /// One bar for each host that is at work, by name; the cluster's is the empty name.
    lanes: BTreeMap<String, ProgressBar>,
}

impl TerminalReporter {
    /// A reporter on stdout.
    pub fn stdout(verbose: bool) -> Self {
        Self::new(ProgressDrawTarget::stdout(), out::stdout_style(), verbose, true)
    }

    /// A reporter on another target.
    pub fn new(target: ProgressDrawTarget, style: Style, verbose: bool, animate: bool) -> Self {
        Self {
            multi: MultiProgress::with_draw_target(target),
            style,
            verbose,
            animate,
            run: Run::default(),
            looking: None,
            modules: BTreeMap::new(),
        }
    }

    /// Prints text above the bars.
    fn print(&self, text: &str) {
        if !text.is_empty() {
            // A terminal that went away must not stop a run that changes servers.
            let _ = self.multi.println(text.trim_end_matches('\n'));
        }
    }

    fn template(&self, with_clock: &str, without: &str) -> ProgressStyle {
        let template = if self.animate { with_clock } else { without };
        // The templates are constants of this file; a wrong one would only look plainer.
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
            .progress_chars("━╸─")
    }

    fn spin(&self, bar: &ProgressBar) {
        if self.animate {
            bar.enable_steady_tick(TICK);
        }
    }

    fn start_looking(&mut self) {
        let bar = self.multi.add(ProgressBar::new_spinner());
        bar.set_style(self.template("{spinner} {wide_msg} {elapsed}", "{spinner} {wide_msg}"));
        bar.set_message("looking at what is there");
        self.spin(&bar);
        self.looking = Some(bar);
    }

    fn stop_looking(&mut self) {
        if let Some(bar) = self.looking.take() {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
    }

    fn start_module(&mut self, name: &str, actions: usize) {
        let bar = self.multi.add(ProgressBar::new(actions as u64));
        bar.set_style(self.template("{spinner} {prefix}  {pos}/{len}  {elapsed}", "{spinner} {prefix}  {pos}/{len}"));
        bar.set_prefix(self.style.paint(Paint::Strong, &harmless(name)));
        self.spin(&bar);
        self.modules.insert(name.to_owned(), Module { bar, lanes: BTreeMap::new() });
    }

    /// The bar of a host in a module, made when it is first needed, below the module and its other hosts.
    fn lane(&mut self, module: &str, host: Option<&str>) -> ProgressBar {
        if !self.modules.contains_key(module) {
            self.start_module(module, 0);
        }
        let host = host.unwrap_or_default().to_owned();
        let (multi, style) = (self.multi.clone(), self.style);
        let Some(module) = self.modules.get_mut(module) else { return ProgressBar::hidden() };
        if let Some(bar) = module.lanes.get(&host) {
            return bar.clone();
        }
        let above = module.lanes.values().next_back().unwrap_or(&module.bar);
        let bar = multi.insert_after(above, ProgressBar::new_spinner());
        let name = if host.is_empty() { "cluster" } else { &host };
        bar.set_prefix(style.paint(Paint::Faint, &harmless(name)));
        module.lanes.insert(host, bar.clone());
        self.spin(&bar);
        bar
    }

    fn action_started(&mut self, module: &str, host: Option<&str>, summary: &str) {
        let style = self.template("  {spinner} {prefix}  {wide_msg} {elapsed}", "  {spinner} {prefix}  {wide_msg}");
        let bar = self.lane(module, host);
        bar.unset_length();
        bar.set_style(style);
        bar.set_message(one_line(summary));
        bar.reset_elapsed();
    }

    fn action_finished(&mut self, event: &Event) {
        let Event::ActionFinished { module, id, host, outcome, ms, failure } = event else { return };
        if let Some(found) = self.modules.get_mut(module) {
            if let Some(bar) = found.lanes.remove(host.as_deref().unwrap_or_default()) {
                bar.finish_and_clear();
                self.multi.remove(&bar);
            }
            found.bar.inc(1);
        }
        // What failed, and where an interrupted run stopped, is always told.
        if !self.verbose && matches!(outcome, Outcome::Changed | Outcome::Unchanged) {
            return;
        }
        let (symbol, word, paint) = outcome_words(*outcome);
        let place = harmless(host.as_deref().unwrap_or("cluster"));
        let head = self.style.paint(paint, &format!("{symbol} {place}"));
        let summary = one_line(self.run.summary(module, id));
        let mut text = format!("  {head}  {summary}  {word}  {}\n", duration(*ms));
        if let Some(failure) = failure {
            text += &lines::failure(self.style, failure, 4);
        }
        self.print(&text);
    }

    fn progress(&mut self, event: &Event) {
        let Event::Progress { module, host, what, done, total, .. } = event else { return };
        let bar = self.lane(module, host.as_deref());
        let style = match total {
            Some(_) => self.template(
                "  {spinner} {prefix}  {msg} {bar:20} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
                "  {spinner} {prefix}  {msg} {bar:20} {binary_bytes}/{binary_total_bytes}",
            ),
            None => self.template(
                "  {spinner} {prefix}  {msg} {binary_bytes} {binary_bytes_per_sec}",
                "  {spinner} {prefix}  {msg} {binary_bytes}",
            ),
        };
        match total {
            Some(total) => bar.set_length(*total),
            None => bar.unset_length(),
        }
        bar.set_style(style);
        bar.set_message(one_line(what));
        bar.set_position(*done);
    }

    fn module_finished(&mut self, event: &Event) {
        let Event::ModuleFinished { module, outcome, ms, failure, checks } = event else { return };
        if let Some(found) = self.modules.remove(module) {
            for bar in found.lanes.values().chain([&found.bar]) {
                bar.finish_and_clear();
                self.multi.remove(bar);
            }
        }
        let text = self.run.module_finished(self.style, (module, *outcome, *ms), failure.as_ref(), checks);
        self.print(&text);
    }

    /// Takes every bar away.
    fn clear(&mut self) {
        self.stop_looking();
        for (_, module) in std::mem::take(&mut self.modules) {
            module.lanes.values().chain([&module.bar]).for_each(ProgressBar::finish_and_clear);
        }
        let _ = self.multi.clear();
    }
}

impl Reporter for TerminalReporter {
    fn event(&mut self, event: &Event) {
        self.run.remember(event);
        match event {
            Event::RunStarted { .. } => {
                self.print(&lines::started(self.style, event));
                self.start_looking();
            }
            Event::ModulePlanned { module, actions, unchanged, notices } => {
                self.stop_looking();
                if self.run.dry_run {
                    self.print(&lines::plan(self.style, module, actions, *unchanged, true));
                } else if !actions.is_empty() {
                    self.start_module(module, actions.len());
                }
                self.print(&lines::notices(self.style, module, notices));
            }
            Event::ActionStarted { module, host, summary, .. } => {
                self.action_started(module, host.as_deref(), summary);
            }
            Event::ActionFinished { .. } => self.action_finished(event),
            Event::ModuleFinished { .. } => self.module_finished(event),
            Event::RunFinished { .. } => {
                self.clear();
                self.print(&format!("\n{}", self.run.finished(self.style, event)));
            }
            Event::Progress { .. } => self.progress(event),
            Event::Note { host, module, text } => {
                let place = host.as_deref().or(module.as_deref()).map(|p| format!("{}  ", harmless(p)));
                let line = format!("  · {}{}", place.unwrap_or_default(), one_line(text));
                self.print(&self.style.paint(Paint::Faint, &line));
            }
        }
    }
}

impl Drop for TerminalReporter {
    /// Leaves no half-drawn bar behind when a run ends without its last event.
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
