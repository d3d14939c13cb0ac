//! Which actions were begun and which ended, flushed at each step: it explains and helps repair. Truth comes from
//! observing.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    id: std::borrow::Cow<'a, str>,
    done: bool,
}

/// The journal of one cluster on this machine. It outlives runs until one of them ends well.
pub struct Journal {
    file: Mutex<Option<File>>,
    interrupted: BTreeSet<String>,
}

impl Journal {
    /// Keeps no record: for runs whose servers exist only in memory.
    pub fn none() -> Self {
        Self { file: Mutex::new(None), interrupted: BTreeSet::new() }
    }

    /// Opens or begins the journal at `path` and learns which actions an earlier run began and did not end.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut interrupted = BTreeSet::new();
        match std::fs::read_to_string(path) {
            // A line that a crash cut short says nothing and is passed over.
            Ok(text) => {
                for entry in text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok()) {
                    if entry.done {
                        interrupted.remove(entry.id.as_ref());
                    } else {
                        interrupted.insert(entry.id.into_owned());
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file: Mutex::new(Some(file)), interrupted })
    }

    /// Whether an earlier run was cut short in this action.
    pub fn was_interrupted(&self, id: &str) -> bool {
        self.interrupted.contains(id)
    }

    /// Notes that an action begins.
    pub fn begin(&self, id: &str) -> io::Result<()> {
        self.write(id, false)
    }

    /// Notes that an action ended, well or not: it was not cut short.
    pub fn end(&self, id: &str) -> io::Result<()> {
        self.write(id, true)
    }

    /// Forgets everything: a run ended well.
    pub fn clear(&self) -> io::Result<()> {
        match &*self.lock() {
            Some(file) => file.set_len(0),
            None => Ok(()),
        }
    }

    fn write(&self, id: &str, done: bool) -> io::Result<()> {
        let mut guard = self.lock();
        let Some(file) = guard.as_mut() else { return Ok(()) };
        let mut line = serde_json::to_vec(&Entry { id: id.into(), done })?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Where the journal of a cluster is kept: one file per project and first server under the state folder.
pub fn path(state_dir: &Path, project: &str, server: &str) -> PathBuf {
    let name: String = format!("{project}@{server}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.@".contains(c) { c } else { '_' })
        .collect();
    state_dir.join("journals").join(format!("{name}.jsonl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_never_ended_is_known_to_the_next_run_until_one_ends_well() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path(), "xgen", "10.0.0.1:22");
        let first = Journal::open(&file).unwrap();
        first.begin("a").unwrap();
        first.end("a").unwrap();
        first.begin("b").unwrap();
        drop(first);
        std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"id\":\"c\",\"do").unwrap();

        let second = Journal::open(&file).unwrap();
        assert!(second.was_interrupted("b"));
        assert!(!second.was_interrupted("a") && !second.was_interrupted("c"));
        second.clear().unwrap();
        assert!(!Journal::open(&file).unwrap().was_interrupted("b"));
    }
}
