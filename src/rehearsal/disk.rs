//! The file system of a simulated server, as far as the host scripts touch it.

use crate::host::FileKind;

use super::state::{FileState, HostState};

/// The folder of a path, as `dirname` has it.
pub fn dirname(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => ".",
    }
}

/// The last part of a path, as `basename` has it.
pub fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl HostState {
    fn entry(kind: FileKind, mode: u32, content: Vec<u8>, target: Option<String>) -> FileState {
        FileState { kind, mode, owner: "root".into(), group: "root".into(), content, target }
    }

    /// Makes a folder and those above it; what is there stays.
    ///
    /// # Errors
    /// The message of mkdir where something else is in the way.
    pub fn mkdir(&mut self, path: &str, mode: u32) -> Result<(), String> {
        if path == "/" || path == "." {
            return Ok(());
        }
        match self.files.get(path).map(|f| f.kind) {
            Some(FileKind::Folder) => Ok(()),
            Some(_) => Err(format!("mkdir: cannot create directory '{path}': File exists")),
            None => {
                self.mkdir(dirname(path), 0o755)?;
                self.files.insert(path.to_owned(), Self::entry(FileKind::Folder, mode, Vec::new(), None));
                Ok(())
            }
        }
    }

    /// Whether a folder is there.
    pub fn has_folder(&self, path: &str) -> bool {
        path == "/" || self.files.get(path).is_some_and(|f| f.kind == FileKind::Folder)
    }

    /// Writes a file of root's, as programs of the server itself do; folders above are made.
    pub fn write(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        // What is in the way of a folder would be a fault of the simulation's own layout.
        let _ = self.mkdir(dirname(path), 0o755);
        self.files.insert(path.to_owned(), Self::entry(FileKind::File, mode, content.into(), None));
    }

    /// Makes a symbolic link, over whatever is there.
    pub fn link(&mut self, path: &str, target: &str) {
        self.files.insert(path.to_owned(), Self::entry(FileKind::Link, 0o777, Vec::new(), Some(target.to_owned())));
    }

    /// The content of a file; links are followed.
    pub fn read(&self, path: &str) -> Option<&[u8]> {
        self.follow(path).map(|f| f.content.as_slice())
    }

    /// The text of a file; links are followed.
    pub fn read_text(&self, path: &str) -> Option<String> {
        self.read(path).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The file a path leads to.
    pub fn follow(&self, path: &str) -> Option<&FileState> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let found = self.files.get(&path)?;
            match (&found.kind, &found.target) {
                (FileKind::Link, Some(target)) if target.starts_with('/') => path.clone_from(target),
                (FileKind::Link, Some(target)) => path = format!("{}/{target}", dirname(&path)),
                (FileKind::File, _) => return Some(found),
                _ => return None,
            }
        }
        None
    }

    /// Removes a path and everything below it.
    pub fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.files.retain(|p, _| p != path && !p.starts_with(&below));
    }

    /// Removes a folder if nothing is in it.
    pub fn rmdir(&mut self, path: &str) {
        let below = format!("{path}/");
        if !self.files.keys().any(|p| p.starts_with(&below)) {
            self.files.remove(path);
        }
    }

    /// The next process id.
    pub fn next_pid(&mut self) -> u32 {
        self.last_pid = if self.last_pid == 0 { 1000 } else { self.last_pid + 7 };
        self.last_pid
    }
}
