//! Where a rehearsal keeps its world between runs: one folder, one file, one lock.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::state::State;

/// The version of the state file that this program writes and reads.
const FORMAT: u32 = 1;
const STATE_FILE: &str = "state.json";
const LOCK_FILE: &str = "lock";

/// Why a rehearsal's folder cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateError {
    /// It cannot be made, read or written.
    #[error("{path}: {reason}")]
    Unusable {
        /// The folder or file.
        path: String,
        /// What happened.
        reason: String,
    },
    /// Another rehearsal works on it.
    #[error("{path}: another rehearsal uses this folder")]
    Busy {
        /// The folder.
        path: String,
    },
    /// What is in the file is no state.
    #[error("{path}: not the state of a rehearsal: {reason}")]
    Garbled {
        /// The file.
        path: String,
        /// What does not fit, with line and column.
        reason: String,
    },
    /// The file was written by another version of the program.
    #[error("{path}: the state has format {found}, but this version of xgenctl reads format {FORMAT}")]
    Format {
        /// The file.
        path: String,
        /// What it says.
        found: u32,
    },
}

impl StateError {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unusable { .. } => "give `--rehearse=DIR` a folder that you may write".into(),
            Self::Busy { .. } => "wait for it to end, or give another folder to `--rehearse=DIR`".into(),
            Self::Garbled { path, .. } | Self::Format { path, .. } => {
                format!("remove {path} to rehearse from fresh servers, or give another folder to `--rehearse=DIR`")
            }
        }
    }
}

/// A folder that this process alone works on.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Locked for as long as the file is open.
    _lock: File,
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    state: &'a State,
}

#[derive(Deserialize)]
struct Header {
    format: u32,
}

#[derive(Deserialize)]
struct Kept {
    state: State,
}

/// Takes a folder for this process and reads what is kept there.
pub(super) fn open(path: &Path) -> Result<(Folder, Option<State>), StateError> {
    let unusable = |path: &Path, error: std::io::Error| StateError::Unusable {
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    std::fs::create_dir_all(path).map_err(|e| unusable(path, e))?;
    let lock_path = path.join(LOCK_FILE);
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|e| unusable(&lock_path, e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StateError::Busy { path: path.display().to_string() }),
        Err(TryLockError::Error(error)) => return Err(unusable(&lock_path, error)),
    }
    let folder = Folder { path: path.to_owned(), _lock: lock };
    let file = path.join(STATE_FILE);
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((folder, None)),
        Err(error) => return Err(unusable(&file, error)),
    };
    let garbled =
        |error: serde_json::Error| StateError::Garbled { path: file.display().to_string(), reason: error.to_string() };
    let header: Header = serde_json::from_slice(&bytes).map_err(garbled)?;
    if header.format != FORMAT {
        return Err(StateError::Format { path: file.display().to_string(), found: header.format });
    }
    let kept: Kept = serde_json::from_slice(&bytes).map_err(garbled)?;
    Ok((folder, Some(kept.state)))
}

impl Folder {
    /// Replaces the state atomically. The file holds simulated secrets, so only its owner may read it.
    ///
    /// # Errors
    /// The file and why it cannot be written.
    pub fn save(&self, state: &State) -> Result<(), (String, String)> {
        use std::os::unix::fs::OpenOptionsExt;
        let target = self.path.join(STATE_FILE);
        let temporary = self.path.join(format!(".{STATE_FILE}.tmp"));
        let write = || -> std::io::Result<()> {
            let text = serde_json::to_vec(&Written { format: FORMAT, state })?;
            let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
            file.write_all(&text)?;
            drop(file);
            std::fs::rename(&temporary, &target)
        };
        write().map_err(|error| (target.display().to_string(), error.to_string()))
    }
}
