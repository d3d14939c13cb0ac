//! The record of a run on the operator's machine: every event, and the same as text.
//!
//! `<state>/xgenctl/runs/<id>/events.jsonl` and `log.txt`, readable by their owner alone. What comes here has passed the
//! redactor already.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use jiff::Timestamp;

use super::plain::PlainText;
use crate::engine::event::{Event, Reporter};

/// How many runs are kept.
const KEPT: usize = 50;
/// The file of events in a run's folder.
pub(super) const EVENTS: &str = "events.jsonl";
/// The readable file in a run's folder.
pub(super) const LOG: &str = "log.txt";

/// The folder of the runs' records: `$XDG_STATE_HOME/xgenctl/runs`, by default `~/.local/state/xgenctl/runs`.
///
/// # Errors
/// Where neither XDG_STATE_HOME nor a home folder is known.
pub fn default_dir() -> io::Result<PathBuf> {
    let dirs = etcetera::base_strategy::Xdg::new().map_err(io::Error::other)?;
    let state = dirs.state_dir().unwrap_or_else(|| dirs.home_dir().join(".local/state"));
    Ok(state.join("xgenctl/runs"))
}

/// A new run's id, such as `20261122-071342-ab12`: sorted by name, runs are sorted by time (UTC).
pub fn new_run_id() -> String {
    run_id(Timestamp::now(), rand::random())
}

fn run_id(at: Timestamp, random: u16) -> String {
    format!("{}-{random:04x}", at.strftime("%Y%m%d-%H%M%S"))
}

/// Whether a name is a run's id; nothing else in the folder is listed or removed.
pub(super) fn is_run_id(name: &str) -> bool {
    started_at(name).is_some()
}

/// When a run began, by its id.
pub(super) fn started_at(id: &str) -> Option<Timestamp> {
    let (time, random) = (id.get(..15)?, id.get(15..)?.strip_prefix('-')?);
    let is_random = random.len() == 4 && random.bytes().all(|b| b.is_ascii_hexdigit());
    let civil = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", time).ok()?;
    is_random.then(|| civil.to_zoned(jiff::tz::TimeZone::UTC).ok())?.map(|zoned| zoned.timestamp())
}

/// Writes the record of a run. What goes wrong with it is told once, when the run ends, and never disturbs the run.
pub struct RunLog {
    folder: PathBuf,
    open: Option<Files>,
    text: PlainText,
    problem: Option<String>,
    warn: Box<dyn FnMut(&str) + Send>,
    clock: fn() -> Timestamp,
}

struct Files {
    events: File,
    log: File,
}

impl RunLog {
    /// A record in the folder of the runs (see [`default_dir`]). It begins with the event that names the run's id.
    /// `warn` is told at most once per run why the record is not complete.
    pub fn new(folder: impl Into<PathBuf>, warn: impl FnMut(&str) + Send + 'static) -> Self {
        let text = PlainText::everything();
        let (folder, warn) = (folder.into(), Box::new(warn));
        Self { folder, open: None, text, problem: None, warn, clock: Timestamp::now }
    }

    fn begin(&mut self, run: &str) {
        let folder = self.folder.join(run);
        match open(&folder) {
            Ok(files) => self.open = Some(files),
            Err(error) => self.fail(&folder, &error),
        }
        prune(&self.folder, run);
    }

    fn fail(&mut self, path: &Path, error: &io::Error) {
        self.open = None;
        self.problem.get_or_insert_with(|| format!("the run's log is not complete: {}: {error}", path.display()));
    }

    fn write(&mut self, event: &Event) {
        let Some(files) = &mut self.open else { return };
        let at = (self.clock)();
        let text = self.text.of(event);
        if let Err(error) = files.write(at, event, &text) {
            let folder = self.folder.clone();
            self.fail(&folder, &error);
        }
    }

    /// Tells what went wrong, once.
    fn end(&mut self) {
        self.open = None;
        if let Some(problem) = self.problem.take() {
            (self.warn)(&problem);
        }
    }
}

impl Reporter for RunLog {
    fn event(&mut self, event: &Event) {
        if let Event::RunStarted { run, .. } = event {
            self.begin(run);
        }
        self.write(event);
        if matches!(event, Event::RunFinished { .. }) {
            self.end();
        }
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        self.end();
    }
}

impl Files {
    fn write(&mut self, at: Timestamp, event: &Event, text: &str) -> io::Result<()> {
        let mut value = serde_json::to_value(event)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("at".into(), format!("{at:.3}").into());
        }
        // One write for a line: a killed process leaves whole lines.
        self.events.write_all(format!("{value}\n").as_bytes())?;
        let time = at.strftime("%H:%M:%S%.3f");
        let lines: String = text.lines().map(|line| format!("{time}  {line}").trim_end().to_owned() + "\n").collect();
        self.log.write_all(lines.as_bytes())
    }
}

/// Makes a run's folder and files.
fn open(folder: &Path) -> io::Result<Files> {
    let private_folder = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    if let Some(runs) = folder.parent() {
        private_folder(runs)?;
    }
    // An id that another run has already would mix two records.
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    let file = |name| OpenOptions::new().append(true).create_new(true).mode(0o600).open(folder.join(name));
    let files = Files { events: file(EVENTS)?, log: file(LOG)? };
    // Held until the run ends: so a run that goes on is told from one that was killed. Where a file system has no
    // locks, a run that goes on looks interrupted, nothing worse.
    let _ = files.events.try_lock();
    Ok(files)
}

/// Removes the oldest records, but never the one of this run.
fn prune(folder: &Path, run: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut ids: Vec<_> =
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).filter(|name| is_run_id(name)).collect();
    ids.sort();
    let surplus = ids.len().saturating_sub(KEPT);
    for id in ids.iter().take(surplus).filter(|id| *id != run) {
        // What cannot be removed now is tried again by the next run.
        let _ = fs::remove_dir_all(folder.join(id));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::report::script;

    const RUN: &str = "20261122-071342-ab12";

    fn clock() -> Timestamp {
        "2026-11-22T07:13:42.5Z".parse().unwrap()
    }

    fn record(folder: &Path, events: &[Event]) -> Vec<String> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let warn = told.clone();
        let mut log = RunLog::new(folder, move |text| warn.lock().unwrap().push(text.to_owned()));
        log.clock = clock;
        events.iter().for_each(|event| log.event(event));
        drop(log);
        told.lock().unwrap().clone()
    }

    #[test]
    fn ids_are_sorted_by_time_and_can_be_read_back() {
        let id = run_id(clock(), 0xab);
        assert_eq!(id, "20261122-071342-00ab");
        assert_eq!(started_at(&id).unwrap().to_string(), "2026-11-22T07:13:42Z");
        assert!(is_run_id(&new_run_id()));
        for other in ["", "..", "20261122-071342", "20261122-071342-zzzz", "20261322-071342-ab12", "한국어한국어한국어"]
        {
            assert!(!is_run_id(other), "{other}");
        }
    }

    #[test]
    fn everything_is_recorded_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let runs = state.path().join("xgenctl/runs");
        let events = script::failure();
        assert_eq!(record(&runs, &events), Vec::<String>::new());
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = runs.join(RUN);
        assert_eq!((mode(runs.clone()), mode(folder.clone())), (0o700, 0o700));
        assert_eq!((mode(folder.join(EVENTS)), mode(folder.join(LOG))), (0o600, 0o600));

        let lines = fs::read_to_string(folder.join(EVENTS)).unwrap();
        let read: Vec<Event> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, events);
        assert!(lines.lines().all(|line| line.contains(r#""at":"2026-11-22T07:13:42.500Z""#)), "{lines}");
        let log = fs::read_to_string(folder.join(LOG)).unwrap();
        for part in [
            "07:13:42.500  setup xgen: preflight, k3s, agents, run 20261122-071342-ab12\n",
            "07:13:42.500        +tls-san: [new]\n",
            "07:13:42.500    hint: free the port, or look at\n",
            "07:13:42.500  Failed: 1 changed, 14 as wanted, 1 failed (2 min 12 s).\n",
        ] {
            assert!(log.contains(part), "{part} in {log}");
        }
        assert!(!log.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn a_record_that_cannot_be_written_is_one_warning() {
        let state = tempfile::tempdir().unwrap();
        let runs = state.path().join("runs");
        fs::write(&runs, "a file").unwrap();
        let told = record(&runs, &script::success());
        let folder = runs.join(RUN);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("the run's log is not complete: {}: ", folder.display())), "{told:?}");

        // The same id twice: the first record stays as it is.
        fs::remove_file(&runs).unwrap();
        record(&runs, &script::success());
        let before = fs::read_to_string(folder.join(EVENTS)).unwrap();
        assert_eq!(record(&runs, &script::failure()).len(), 1);
        assert_eq!(fs::read_to_string(folder.join(EVENTS)).unwrap(), before);
    }

    #[test]
    fn the_newest_are_kept_and_what_is_no_run_is_left_alone() {
        let runs = tempfile::tempdir().unwrap();
        let old = |n: u32| runs.path().join(format!("20250101-0000{n:02}-0000"));
        (0..55).for_each(|n| fs::create_dir(old(n)).unwrap());
        fs::create_dir(runs.path().join("notes")).unwrap();
        record(runs.path(), &script::unchanged());
        let kept: Vec<_> = (0..55).filter(|n| old(*n).exists()).collect();
        assert_eq!(kept, (6..55).collect::<Vec<_>>());
        assert!(runs.path().join("notes").exists() && runs.path().join(RUN).exists());
    }
}
