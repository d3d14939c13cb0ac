//! Kubeconfig files on the operator's machine: named after the project, merged into what is there, never clobbering it.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};
use thiserror::Error;

/// How a kubeconfig is written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The file must not be there yet.
    New,
    /// What is there is kept; an entry of the same name is replaced only if it belongs to the same cluster.
    Merge,
    /// As `Merge`, but entries of the same name are replaced whatever they belong to (`--force`).
    Overwrite,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The file.
    pub path: PathBuf,
    /// Where its former content is, if it had one that was changed.
    pub backup: Option<PathBuf>,
    /// Whether anything had to be written.
    pub changed: bool,
}

/// Why a kubeconfig cannot be made or written. Nothing was changed then.
#[derive(Debug, Error)]
pub enum KubeconfigError {
    /// A text is no kubeconfig.
    #[error("{what} is not a kubeconfig: {reason}")]
    Malformed {
        /// Which one.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry of that name belongs to another cluster.
    #[error("the kubeconfig has a {kind} `{name}` that belongs to another cluster ({other})")]
    Conflict {
        /// cluster, user or context.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What gave it away.
        other: String,
    },
    /// The file is there, and it was to be a new one.
    #[error("{} exists already", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What happened.
        reason: io::Error,
    },
}

impl KubeconfigError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Malformed { .. } => Some("correct or move that file, or write to another one; it was left as it is"),
            Self::Conflict { .. } => Some(
                "rename that entry (`kubectl config rename-context`), write to a file of its own, or replace it with \
                 --force (a backup is kept)",
            ),
            Self::Exists { .. } => Some("merge into it, or name another file"),
            Self::Io { .. } => None,
        }
    }
}

/// The file that kubectl reads and writes first: the first of `KUBECONFIG`, else `~/.kube/config`.
pub fn default_path(kubeconfig: Option<&OsStr>, home: &Path) -> PathBuf {
    kubeconfig
        .into_iter()
        .flat_map(std::env::split_paths)
        .find(|path| !path.as_os_str().is_empty())
        .unwrap_or_else(|| home.join(".kube/config"))
}

/// K3s' own kubeconfig (all of it named `default`, the server 127.0.0.1) as an operator needs it: cluster, user and
/// context named `name`, the server at `server_url`.
///
/// # Errors
/// Where the text is no kubeconfig with one cluster and one user.
pub fn rewrite(kubeconfig: &str, name: &str, server_url: &str) -> Result<String, KubeconfigError> {
    const WHAT: &str = "the server's kubeconfig";
    let mut config = parse(kubeconfig, WHAT)?;
    let mut entries = Vec::new();
    for (list, kind) in [("clusters", "cluster"), ("users", "user")] {
        let found = sequence(&config, list, WHAT)?;
        let [entry] = found else {
            return Err(malformed(WHAT, format!("it has {} {list} where one is expected", found.len())));
        };
        let Some(Value::Mapping(body)) = entry.get(kind) else {
            return Err(malformed(WHAT, format!("its {kind} has no content")));
        };
        entries.push(body.clone());
    }
    let (user, mut cluster) = (entries.remove(1), entries.remove(0));
    cluster.insert("server".into(), server_url.into());
    let mut context = Mapping::new();
    context.insert("cluster".into(), name.into());
    context.insert("user".into(), name.into());
    for (list, kind, body) in
        [("clusters", "cluster", cluster), ("contexts", "context", context), ("users", "user", user)]
    {
        let mut entry = Mapping::new();
        entry.insert("name".into(), name.into());
        entry.insert(kind.into(), Value::Mapping(body));
        config.insert(list.into(), Value::Sequence(vec![Value::Mapping(entry)]));
    }
    config.insert("current-context".into(), name.into());
    render(&config)
}

/// The kubeconfig `existing` with the entries of `new`. An entry of the same name is replaced only if it belongs to the
/// same cluster, or with `force`. `current-context` is taken from `new` only if `set_current`, or if there is none yet.
///
/// # Errors
/// Where one of the texts is no kubeconfig, or an entry belongs to another cluster.
pub fn merge(existing: &str, new: &str, force: bool, set_current: bool) -> Result<String, KubeconfigError> {
    let merged = merged(parse(existing, "the existing file")?, &parse(new, "the new one")?, force, set_current)?;
    render(&merged)
}

fn merged(mut into: Mapping, new: &Mapping, force: bool, set_current: bool) -> Result<Mapping, KubeconfigError> {
    const OLD: &str = "the existing file";
    if !force {
        for entry in sequence(new, "clusters", "the new one")? {
            check_cluster(&into, entry)?;
        }
        for entry in sequence(new, "contexts", "the new one")? {
            check_context(&into, entry)?;
        }
    }
    for (key, value) in new {
        let Some(name) = key.as_str() else { continue };
        match name {
            "clusters" | "contexts" | "users" => {
                let mut entries = sequence(&into, name, OLD)?.to_vec();
                for entry in sequence(new, name, "the new one")? {
                    match entries.iter_mut().find(|e| e.get("name") == entry.get("name")) {
                        Some(old) => *old = entry.clone(),
                        None => entries.push(entry.clone()),
                    }
                }
                into.insert(key.clone(), Value::Sequence(entries));
            }
            "current-context" => {
                let unset = matches!(into.get(name).and_then(Value::as_str), None | Some(""));
                if set_current || unset {
                    into.insert(key.clone(), value.clone());
                }
            }
            _ if !into.contains_key(key) => {
                into.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    Ok(into)
}

/// Whether a cluster of that name is the same one: it has the same address or the same certificate authority.
fn check_cluster(into: &Mapping, entry: &Value) -> Result<(), KubeconfigError> {
    let name = name_of(entry);
    let Some(old) = find(into, "clusters", name)? else { return Ok(()) };
    let same = |key| {
        let of = |e: &Value| e.get("cluster").and_then(|c| c.get(key)).and_then(Value::as_str).map(str::to_owned);
        of(old).is_some_and(|value| Some(value) == of(entry))
    };
    if same("server") || same("certificate-authority-data") {
        return Ok(());
    }
    let server = old.get("cluster").and_then(|c| c.get("server")).and_then(Value::as_str).unwrap_or("no server");
    Err(KubeconfigError::Conflict { kind: "cluster", name: name.into(), other: server.into() })
}

/// Whether a context of that name, and whoever uses the user of that name, are about the same cluster.
fn check_context(into: &Mapping, entry: &Value) -> Result<(), KubeconfigError> {
    let part = |context: &Value, key| context.get("context").and_then(|c| c.get(key)).cloned();
    let (cluster, user) = (part(entry, "cluster"), part(entry, "user"));
    let other = |context: &Value| {
        part(context, "cluster").and_then(|c| Some(c.as_str()?.to_owned())).unwrap_or_else(|| "no cluster".into())
    };
    for context in sequence(into, "contexts", "the existing file")? {
        if part(context, "cluster") == cluster {
            continue;
        }
        if name_of(context) == name_of(entry) {
            let name = name_of(entry).into();
            return Err(KubeconfigError::Conflict { kind: "context", name, other: other(context) });
        }
        if user.is_some() && part(context, "user") == user {
            let name = user.as_ref().and_then(Value::as_str).unwrap_or_default().into();
            return Err(KubeconfigError::Conflict { kind: "user", name, other: other(context) });
        }
    }
    Ok(())
}

/// Writes a kubeconfig to a file: 0600, in one step, through a symbolic link to what it points to. What was there is
/// kept beside it with the time in its name. Writing the same again changes nothing.
///
/// # Errors
/// Where the file is no kubeconfig, has other clusters' entries of the same name, or cannot be written.
pub fn write(path: &Path, new: &str, mode: Mode, set_current: bool) -> Result<Outcome, KubeconfigError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |reason| KubeconfigError::Io { path, reason }
    };
    let file = behind_links(path).map_err(io(path))?;
    let existing = match fs::read(&file) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io(path)(error)),
    };
    let is_blank = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_whitespace);
    let existing = existing.filter(|bytes| !is_blank(bytes));
    let text = match &existing {
        None => {
            let config = parse(new, "the new one")?;
            render(&config)?
        }
        Some(bytes) => {
            let what = path.display().to_string();
            let text = str::from_utf8(bytes).map_err(|_| malformed(&what, "it is not text".into()))?;
            let before = parse(text, &what)?;
            let after = merged(before.clone(), &parse(new, "the new one")?, mode == Mode::Overwrite, set_current)?;
            if after == before {
                return Ok(Outcome { path: path.to_owned(), backup: None, changed: false });
            }
            if mode == Mode::New {
                return Err(KubeconfigError::Exists { path: path.to_owned() });
            }
            render(&after)?
        }
    };
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(io(folder))?;
    }
    let backup = match &existing {
        Some(bytes) => Some(back_up(&file, bytes).map_err(io(&file))?),
        None => None,
    };
    replace(&file, text.as_bytes()).map_err(io(&file))?;
    Ok(Outcome { path: path.to_owned(), backup, changed: true })
}

/// The file that a chain of symbolic links ends at, whether it is there or not.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // Linux itself gives up after 40.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Writes the former content to a new file beside it.
fn back_up(file: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut number = 1;
    loop {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let backup = file.with_file_name(format!("{name}.backup-{stamp}{suffix}"));
        match create(&backup) {
            Ok(mut out) => {
                out.write_all(content)?;
                out.sync_all()?;
                return Ok(backup);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Puts new content in the place of a file in one step.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = file.with_file_name(format!(".{name}.{}", std::process::id()));
    // One that a killed process of the same number left behind.
    let _ = fs::remove_file(&temporary);
    let written = create(&temporary).and_then(|mut out| {
        out.set_permissions(fs::Permissions::from_mode(0o600))?;
        out.write_all(content)?;
        out.sync_all()?;
        fs::rename(&temporary, file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A new file that only its owner can read.
fn create(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn malformed(what: &str, reason: String) -> KubeconfigError {
    KubeconfigError::Malformed { what: what.into(), reason }
}

fn parse(text: &str, what: &str) -> Result<Mapping, KubeconfigError> {
    match serde_yaml::from_str(text).map_err(|error| malformed(what, error.to_string()))? {
        Value::Mapping(config) => {
            for list in ["clusters", "contexts", "users"] {
                sequence(&config, list, what)?;
            }
            Ok(config)
        }
        Value::Null => Ok(Mapping::new()),
        _ => Err(malformed(what, "it is not a mapping".into())),
    }
}

/// One of the lists of a kubeconfig; kubectl writes an empty one as null.
fn sequence<'a>(config: &'a Mapping, list: &str, what: &str) -> Result<&'a [Value], KubeconfigError> {
    match config.get(list) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Sequence(entries)) => Ok(entries),
        Some(_) => Err(malformed(what, format!("`{list}` is not a list"))),
    }
}

fn name_of(entry: &Value) -> &str {
    entry.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn find<'a>(config: &'a Mapping, list: &str, name: &str) -> Result<Option<&'a Value>, KubeconfigError> {
    Ok(sequence(config, list, "the existing file")?.iter().find(|entry| name_of(entry) == name))
}

fn render(config: &Mapping) -> Result<String, KubeconfigError> {
    serde_yaml::to_string(config).map_err(|error| malformed("the result", error.to_string()))
}

#[cfg(test)]
#[path = "kubeconfig_tests.rs"]
mod tests;
