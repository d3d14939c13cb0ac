//! The results of the preflight checks.

use serde::Serialize;

use super::style::{Paint, Style, harmless, indent, pad, width};
use crate::engine::event::{CheckLevel, CheckResult};

/// All results as text, the gravest last, with a line of counts at the end.
pub fn render(results: &[CheckResult], style: Style) -> String {
    let mut sorted: Vec<_> = results.iter().collect();
    sorted.sort_by_key(|result| result.level);
    let mut text = lines(style, sorted);
    let paint = match results.iter().map(|r| r.level).max() {
        Some(CheckLevel::Block) => Paint::Bad,
        Some(CheckLevel::Warning) => Paint::Warn,
        _ => Paint::Good,
    };
    text += &format!("{}\n", style.paint(paint, &counts(results)));
    text
}

/// `40 passed, 1 skipped, 2 warnings, 1 blocking`, without what is none.
pub fn counts(results: &[CheckResult]) -> String {
    let of = |level| results.iter().filter(|r| r.level == level).count();
    let warnings = of(CheckLevel::Warning);
    let mut parts = vec![format!("{} passed", of(CheckLevel::Pass))];
    let others = [
        (of(CheckLevel::Skipped), "skipped"),
        (warnings, if warnings == 1 { "warning" } else { "warnings" }),
        (of(CheckLevel::Block), "blocking"),
    ];
    parts.extend(others.into_iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")));
    parts.join(", ")
}

/// One line a check, what to do below it.
pub fn lines<'a>(style: Style, results: impl IntoIterator<Item = &'a CheckResult>) -> String {
    let results: Vec<_> = results.into_iter().collect();
    let place = |r: &CheckResult| harmless(r.host.as_deref().unwrap_or("all hosts"));
    let widest = |of: &dyn Fn(&CheckResult) -> String| results.iter().map(|r| width(&of(r))).max().unwrap_or(0);
    let (places, names) = (widest(&place), widest(&|r| harmless(&r.check)));
    let mut text = String::new();
    for result in &results {
        let (symbol, paint) = match result.level {
            CheckLevel::Pass => ("✔ pass   ", Paint::Good),
            CheckLevel::Skipped => ("– skipped", Paint::Faint),
            CheckLevel::Warning => ("! warning", Paint::Warn),
            CheckLevel::Block => ("✘ block  ", Paint::Bad),
        };
        let head = format!("{}  {}", pad(&place(result), places), pad(&harmless(&result.check), names));
        let seen = indent(&harmless(&result.seen), 4);
        text += format!("{}  {head}  {}", style.paint(paint, symbol), seen.trim()).trim_end();
        text.push('\n');
        if !result.fix.is_empty() {
            let fix = indent(&harmless(&result.fix), "    fix: ".len());
            text += &format!("    {} {}\n", style.paint(Paint::Place, "fix:"), fix.trim());
        }
    }
    text
}

/// The answer of `check -o json`.
#[derive(Debug, Serialize)]
pub struct ChecksReport<'a> {
    /// Whether a run may start.
    pub ok: bool,
    /// Checks that passed.
    pub passed: usize,
    /// Checks that could not be made or were left out.
    pub skipped: usize,
    /// Checks that warn.
    pub warnings: usize,
    /// Checks that block.
    pub blocks: usize,
    /// All of them.
    pub checks: &'a [CheckResult],
}

impl<'a> ChecksReport<'a> {
    /// The answer for these results.
    pub fn new(checks: &'a [CheckResult]) -> Self {
        let of = |level| checks.iter().filter(|r| r.level == level).count();
        Self {
            ok: of(CheckLevel::Block) == 0,
            passed: of(CheckLevel::Pass),
            skipped: of(CheckLevel::Skipped),
            warnings: of(CheckLevel::Warning),
            blocks: of(CheckLevel::Block),
            checks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Vec<CheckResult> {
        let result = |check: &str, host: Option<&str>, level, seen: &str, fix: &str| CheckResult {
            check: check.into(),
            host: host.map(Into::into),
            level,
            seen: seen.into(),
            fix: fix.into(),
        };
        vec![
            result(
                "cgroups",
                Some("gpu-1"),
                CheckLevel::Block,
                "cgroup v1",
                "boot with\nsystemd.unified_cgroup_hierarchy=1",
            ),
            result("memory", Some("master"), CheckLevel::Pass, "16 GiB", ""),
            result("clock", None, CheckLevel::Warning, "gpu-1 is 70 s behind", "start a time service"),
            result("swap", Some("gpu-1"), CheckLevel::Skipped, "left out by --skip-check", ""),
        ]
    }

    #[test]
    fn the_gravest_stand_last_with_what_to_do() {
        assert_eq!(
            render(&results(), Style::PLAIN),
            "✔ pass     master     memory   16 GiB
– skipped  gpu-1      swap     left out by --skip-check
! warning  all hosts  clock    gpu-1 is 70 s behind
    fix: start a time service
✘ block    gpu-1      cgroups  cgroup v1
    fix: boot with
         systemd.unified_cgroup_hierarchy=1
1 passed, 1 skipped, 1 warning, 1 blocking
"
        );
    }

    #[test]
    fn json_counts_and_lists_them() {
        let results = results();
        let value = serde_json::to_value(ChecksReport::new(&results)).unwrap();
        assert_eq!(value["ok"], false);
        assert_eq!((&value["passed"], &value["blocks"]), (&1.into(), &1.into()));
        assert_eq!(
            value["checks"][2],
            serde_json::json!({"check": "clock", "level": "warning", "seen": "gpu-1 is 70 s behind",
                "fix": "start a time service"})
        );
    }
}
