//! `xgenctl runs`: what earlier runs left in their records.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use jiff::tz::TimeZone;
use serde::Serialize;

use super::exit::{CliError, ExitCode};
use super::runlog::{EVENTS, LOG, is_run_id, started_at};
use super::status::table;
use super::style::{Paint, Style, duration, harmless};
use crate::engine::event::Event;

/// How much of a record's end is read to find its last event.
const TAIL: u64 = 256 * 1024;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Something was changed, and all is as wanted.
    Changed,
    /// All was as wanted.
    Unchanged,
    /// A dry run that could tell the whole plan.
    Planned,
    /// It ended without all being as wanted.
    Failed,
    /// It never ended: killed, or the machine went down.
    Interrupted,
    /// It goes on right now.
    Running,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunInfo {
    /// Its id.
    pub run: String,
    /// When it began, in UTC.
    pub started: String,
    /// The command.
    pub command: String,
    /// `project.name`.
    pub project: String,
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// Whether servers and cluster were simulated.
    pub rehearsal: bool,
    /// How it ended.
    pub outcome: RunOutcome,
    /// How long it took; `null` where it never ended.
    pub ms: Option<u64>,
}

/// The runs that are kept in a folder, the newest first. A folder that is not there has none.
///
/// # Errors
/// Where the folder cannot be read. A record that cannot be read is left out.
pub fn list(folder: &Path) -> io::Result<Vec<RunInfo>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        ids.extend(entry?.file_name().into_string().ok().filter(|name| is_run_id(name)));
    }
    ids.sort_by(|a, b| b.cmp(a));
    Ok(ids.iter().filter_map(|id| read(&folder.join(id), id)).collect())
}

/// What a record says of its run.
fn read(folder: &Path, id: &str) -> Option<RunInfo> {
    let mut file = File::open(folder.join(EVENTS)).ok()?;
    let running = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let mut first = String::new();
    BufReader::new(&file).take(TAIL).read_line(&mut first).ok()?;
    let Event::RunStarted { command, project, dry_run, rehearsal, .. } = serde_json::from_str(&first).ok()? else {
        return None;
    };
    let (outcome, ms) = match last_event(&mut file) {
        Some(Event::RunFinished { ok, changed, ms, .. }) => {
            let outcome = match (ok, dry_run, changed) {
                (false, ..) => RunOutcome::Failed,
                (true, _, 0) => RunOutcome::Unchanged,
                (true, true, _) => RunOutcome::Planned,
                (true, false, _) => RunOutcome::Changed,
            };
            (outcome, Some(ms))
        }
        _ if running => (RunOutcome::Running, None),
        _ => (RunOutcome::Interrupted, None),
    };
    let started = started_at(id)?.to_string();
    Some(RunInfo { run: id.to_owned(), started, command, project, dry_run, rehearsal, outcome, ms })
}

/// The last event of a record, unless its line is torn.
fn last_event(file: &mut File) -> Option<Event> {
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let last = tail.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
    serde_json::from_slice(last).ok()
}

/// The runs as a table, times in the given zone (that of the operator's machine: [`TimeZone::system`]).
pub fn render(runs: &[RunInfo], zone: &TimeZone, style: Style) -> String {
    if runs.is_empty() {
        return "No runs yet.\n".into();
    }
    let words = |run: &RunInfo| match run.outcome {
        RunOutcome::Changed => ("✔ changed", Paint::Warn),
        RunOutcome::Unchanged => ("✔ unchanged", Paint::Good),
        RunOutcome::Planned => ("✔ planned", Paint::Good),
        RunOutcome::Failed => ("✘ failed", Paint::Bad),
        RunOutcome::Interrupted => ("✘ interrupted", Paint::Bad),
        RunOutcome::Running => ("· running", Paint::Strong),
    };
    let row = |run: &RunInfo| {
        let when = started_at(&run.run)
            .map(|at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string())
            .unwrap_or_default();
        let mut command = harmless(&run.command);
        if run.dry_run {
            command += " --dry-run";
        }
        if run.rehearsal {
            command += " --rehearse";
        }
        let time = run.ms.map_or("–".to_owned(), duration);
        vec![run.run.clone(), when, command, harmless(&run.project), words(run).0.to_owned(), time]
    };
    let rows: Vec<_> = runs.iter().map(row).collect();
    let head = ["id", "when", "command", "project", "outcome", "duration"].map(str::to_owned);
    table(style, 0, &head, &rows, |row, column| (column == 4).then(|| words(&runs[row]).1))
}

/// The readable record of a run. Instead of a whole id its beginning is enough, where only one run has it; `last` is
/// the newest.
///
/// # Errors
/// Where there is no such run, or more than one.
pub fn show(folder: &Path, id: &str) -> Result<String, CliError> {
    read_file(folder, id, LOG)
}

/// The events of a run, one JSON object a line: the answer of `runs show -o json`.
///
/// # Errors
/// As [`show`].
pub fn show_events(folder: &Path, id: &str) -> Result<String, CliError> {
    read_file(folder, id, EVENTS)
}

fn read_file(folder: &Path, id: &str, name: &str) -> Result<String, CliError> {
    let cannot = |what: &Path, error: io::Error| {
        CliError::new(ExitCode::Failed, format!("cannot read {}", what.display())).caused_by(error)
    };
    let runs = list(folder).map_err(|error| cannot(folder, error))?;
    let found: Vec<_> = match id {
        "last" => runs.iter().take(1).collect(),
        id => runs.iter().filter(|run| run.run.starts_with(id) && !id.is_empty()).collect(),
    };
    match found.as_slice() {
        [run] => {
            let path = folder.join(&run.run).join(name);
            fs::read_to_string(&path).map_err(|error| cannot(&path, error))
        }
        [] => Err(CliError::new(ExitCode::Usage, format!("there is no run `{id}`"))
            .hint("`xgenctl runs` lists the runs that are kept")),
        several => {
            let ids: Vec<_> = several.iter().map(|run| run.run.as_str()).collect();
            Err(CliError::new(ExitCode::Usage, format!("`{id}` may be any of {}", ids.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::engine::event::Reporter as _;
    use crate::report::{RunLog, script};

    fn record(folder: &Path, run: &str, mut events: Vec<Event>) -> RunLog {
        if let Some(Event::RunStarted { run: id, .. }) = events.first_mut() {
            *id = run.into();
        }
        let mut log = RunLog::new(folder, |text| panic!("{text}"));
        events.iter().for_each(|event| log.event(event));
        log
    }

    /// A folder with one run of each kind; the last one goes on while the log lives.
    fn ground() -> (tempfile::TempDir, RunLog) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        record(path, "20261120-100000-0001", script::success());
        record(path, "20261120-110000-0002", script::failure());
        record(path, "20261121-100000-0003", script::dry_run());
        record(path, "20261121-110000-0004", script::unchanged());
        record(path, "20261122-100000-0005", script::beginning());
        let mut torn =
            fs::OpenOptions::new().append(true).open(path.join("20261122-100000-0005/events.jsonl")).unwrap();
        torn.write_all(b"{\"event\":\"run_fin").unwrap();
        let running = record(path, "20261122-235900-0006", script::beginning());
        fs::create_dir(path.join("20261122-235959-0007")).unwrap();
        (folder, running)
    }

    #[test]
    fn the_newest_stand_first_and_a_run_that_never_ended_is_told_from_one_that_goes_on() {
        let (folder, running) = ground();
        let runs = list(folder.path()).unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(9));
        assert_eq!(
            render(&runs, &zone, Style::PLAIN),
            "\
id                    when                 command          project  outcome        duration
20261122-235900-0006  2026-11-23 08:59:00  setup            xgen     · running      –
20261122-100000-0005  2026-11-22 19:00:00  setup            xgen     ✘ interrupted  –
20261121-110000-0004  2026-11-21 20:00:00  setup            xgen     ✔ unchanged    1.2 s
20261121-100000-0003  2026-11-21 19:00:00  setup --dry-run  xgen     ✔ planned      1.2 s
20261120-110000-0002  2026-11-20 20:00:00  setup            xgen     ✘ failed       2 min 12 s
20261120-100000-0001  2026-11-20 19:00:00  setup            xgen     ✔ changed      42 s
"
        );
        drop(running);
        assert_eq!(list(folder.path()).unwrap()[0].outcome, RunOutcome::Interrupted);
        assert_eq!(
            serde_json::to_string(&runs[5]).unwrap(),
            r#"{"run":"20261120-100000-0001","started":"2026-11-20T10:00:00Z","command":"setup","project":"xgen","dry_run":false,"rehearsal":false,"outcome":"changed","ms":42100}"#
        );
    }

    #[test]
    fn a_run_is_shown_by_its_id_or_the_beginning_of_it() {
        let (folder, _running) = ground();
        let shown = |id| show(folder.path(), id).map_err(|error| error.to_string());
        assert!(shown("20261120-110000-0002").unwrap().contains("port 6443 is in use"));
        assert_eq!(shown("20261120-11"), shown("20261120-110000-0002"));
        assert!(shown("last").unwrap().contains("run 20261122-235900-0006"));
        let several = "`20261120` may be any of 20261120-110000-0002, 20261120-100000-0001";
        assert_eq!(shown("20261120").unwrap_err(), several);
        for id in ["", "../..", "20261122-235959-0007"] {
            assert_eq!(shown(id).unwrap_err(), format!("there is no run `{id}`"));
        }
        assert!(show_events(folder.path(), "20261120-11").unwrap().starts_with('{'));
    }

    #[test]
    fn no_folder_has_no_runs() {
        let folder = tempfile::tempdir().unwrap();
        let runs = list(&folder.path().join("none")).unwrap();
        assert_eq!(render(&runs, &TimeZone::UTC, Style::PLAIN), "No runs yet.\n");
    }
}
