//! secrets.yaml: passwords and tokens, kept beside project.yaml and never in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use super::error::{Problem, ProjectError, io_reason, position};
use super::rules::secret_name;
use super::yaml::{self, Kind};
use crate::secret::{Redactor, Secret};

/// Name of the file beside project.yaml.
pub const FILE_NAME: &str = "secrets.yaml";
/// What the variables that override the file begin with.
pub const VARIABLE: &str = "XGENCTL_SECRET_";
/// Length of a generated secret, in characters.
const LENGTH: usize = 32;
const HEADER: &str = "# Passwords and tokens of this site. Keep this file to yourself: mode 0600, never in Git.\n";

/// Passwords that nobody has to choose, with what each is for. `init` makes them; so does the first run that needs one.
pub const GENERATED: &[(&str, &str)] = &[
    ("ARGOCD_ADMIN_PASSWORD", "Argo CD, user admin"),
    ("JENKINS_ADMIN_PASSWORD", "Jenkins, user admin"),
    ("GRAFANA_ADMIN_PASSWORD", "Grafana, user admin"),
    ("POSTGRES_PASSWORD", "PostgreSQL"),
    ("REDIS_PASSWORD", "Redis"),
    ("QDRANT_API_KEY", "Qdrant"),
    ("MINIO_ROOT_PASSWORD", "object storage"),
];

/// Whether a run is real or happens in memory only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Real servers: missing secrets and key files are errors, generated secrets are saved.
    Real,
    /// A rehearsal: what is missing is made up, nothing is saved.
    Rehearsal,
}

/// The secrets of a site. Every value it ever holds is known to the redactor.
#[derive(Debug, Clone)]
pub struct SecretsStore {
    path: Option<PathBuf>,
    file: BTreeMap<String, Secret>,
    variables: BTreeMap<String, Secret>,
    made_up: BTreeMap<String, Secret>,
    redactor: Known,
    mode: Mode,
    warnings: Vec<String>,
}

/// The redactor, without its values in debug output.
#[derive(Clone)]
struct Known(Redactor);

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl SecretsStore {
    /// Opens the secrets.yaml beside `project_file`, if there is one; variables come from the environment.
    ///
    /// # Errors
    /// The file cannot be read, or is not a flat map of names to values. No error shows anything of the file but names.
    pub fn beside(project_file: &Path, mode: Mode, redactor: &Redactor) -> Result<Self, ProjectError> {
        Self::open(Some(project_file.with_file_name(FILE_NAME)), environment(), mode, redactor)
    }

    /// Only variables of the environment: where there is no project.yaml.
    ///
    /// # Errors
    /// A variable with a name that no secret can have.
    pub fn without_file(mode: Mode, redactor: &Redactor) -> Result<Self, ProjectError> {
        Self::open(None, environment(), mode, redactor)
    }

    /// Opens `path`, if it exists, with the variables given.
    ///
    /// # Errors
    /// As [`SecretsStore::beside`].
    pub fn open(
        path: Option<PathBuf>,
        environment: impl IntoIterator<Item = (String, String)>,
        mode: Mode,
        redactor: &Redactor,
    ) -> Result<Self, ProjectError> {
        let mut store = Self {
            path,
            file: BTreeMap::new(),
            variables: BTreeMap::new(),
            made_up: BTreeMap::new(),
            redactor: Known(redactor.clone()),
            mode,
            warnings: Vec::new(),
        };
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix(VARIABLE) else { continue };
            if !secret_name(name) {
                return Err(ProjectError::plain(variable, "is no name of a secret", NAME_HELP.to_owned()));
            }
            if !value.is_empty() {
                store.variables.insert(name.to_owned(), store.known(value));
            }
        }
        if let Some(path) = store.path.clone()
            && let Some(text) = read(&path)?
        {
            store.warnings.extend(permissions(&path));
            store.file = store.parse(&path, &text)?;
        }
        Ok(store)
    }

    /// What a person should know about the file, such as that others can read it.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The file, whether it exists or not.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// A secret, if it is set: the variable, else the file, else what this rehearsal made up.
    pub fn get(&self, name: &str) -> Option<Secret> {
        let found = self.variables.get(name).or_else(|| self.file.get(name)).or_else(|| self.made_up.get(name));
        found.cloned()
    }

    /// A secret that something cannot do without. In a rehearsal a missing one is made up.
    ///
    /// `reference` is what needs it, such as `project.yaml:12:9`.
    ///
    /// # Errors
    /// It is not set; the error says how to provide it.
    pub fn require(&mut self, name: &str, reference: &str) -> Result<Secret, ProjectError> {
        self.find(name).map_err(|help| ProjectError::plain(reference, missing(name), help))
    }

    /// As [`SecretsStore::require`]; the error is what to do.
    pub(super) fn find(&mut self, name: &str) -> Result<Secret, String> {
        match (self.get(name), self.mode) {
            (Some(secret), _) => Ok(secret),
            (None, Mode::Rehearsal) => Ok(self.make_up(name)),
            (None, Mode::Real) => Err(match &self.path {
                Some(path) => {
                    format!("add `{name}: \"…\"` to {}, or set the variable {VARIABLE}{name}", path.display())
                }
                None => format!("set the variable {VARIABLE}{name}"),
            }),
        }
    }

    /// A secret that may be any value: generated and saved the first time it is needed.
    ///
    /// # Errors
    /// The operating system has no random numbers, or the file cannot be written.
    pub fn generate_if_missing(&mut self, name: &str) -> Result<Secret, ProjectError> {
        if let Some(secret) = self.get(name) {
            return Ok(secret);
        }
        if self.mode == Mode::Rehearsal {
            return Ok(self.make_up(name));
        }
        let Some(path) = self.path.clone() else {
            let help = format!("set the variable {VARIABLE}{name}, or make a project.yaml with `xgenctl init`");
            return Err(ProjectError::plain(name, "there is no secrets.yaml to save a generated secret in", help));
        };
        let secret = generate(&path)?;
        self.set(name, secret)
    }

    /// Saves a secret in the file unless the file has one of that name already, and returns the one that counts.
    ///
    /// Everything else in the file stays as it is. Another process may have written it meanwhile: it is read again.
    ///
    /// # Errors
    /// The file cannot be read or written, or adding a line to it would not give a valid file.
    pub fn set(&mut self, name: &str, secret: Secret) -> Result<Secret, ProjectError> {
        debug_assert!(secret_name(name), "{name} is no name of a secret");
        let Some(path) = self.path.clone() else {
            return Err(ProjectError::plain(name, "there is no secrets.yaml to save it in", None));
        };
        self.redactor.0.learn(&secret);
        if self.mode == Mode::Rehearsal {
            self.made_up.insert(name.to_owned(), secret.clone());
            return Ok(secret);
        }
        let mut text = read(&path)?.unwrap_or_else(|| HEADER.to_owned());
        self.file = self.parse(&path, &text)?;
        if let Some(there) = self.file.get(name) {
            return Ok(there.clone());
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let comment = GENERATED.iter().find(|(known, _)| *known == name).map(|(_, what)| format!("   # {what}"));
        text.push_str(&format!("{name}: {}{}{eol}", quote(secret.expose()), comment.unwrap_or_default()));
        let changed = self.parse(&path, &text).ok().filter(|map| map.get(name) == Some(&secret));
        let Some(changed) = changed else {
            let help = format!("add a line `{name}: \"…\"` by hand, one name a line");
            return Err(ProjectError::plain(path.display().to_string(), "a line cannot be added at its end", help));
        };
        write_private(&path, text.as_bytes()).map_err(|e| {
            let help = "check the folder's permissions and free space".to_owned();
            ProjectError::plain(path.display().to_string(), format!("cannot be written: {}", io_reason(&e)), help)
        })?;
        self.file = changed;
        // It is private from now on, whatever it was.
        self.warnings.clear();
        Ok(secret)
    }

    fn known(&self, value: String) -> Secret {
        let secret = Secret::new(value);
        self.redactor.0.learn(&secret);
        secret
    }

    /// The same value for the same name every time, so that rehearsals can be compared.
    fn make_up(&mut self, name: &str) -> Secret {
        let digest = Sha256::digest(format!("xgenctl rehearsal {name}"));
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        let secret = self.known(format!("rehearsal{}", &hex[..LENGTH - 9]));
        self.made_up.insert(name.to_owned(), secret.clone());
        secret
    }

    fn parse(&self, path: &Path, text: &str) -> Result<BTreeMap<String, Secret>, ProjectError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // Nothing of the text may be shown: where a map is broken, a value can be anywhere.
        let fail = |at: usize, message: String, help: &str| {
            let (line, column, _) = position(text, at);
            let problem = Problem { message, help: Some(help.to_owned()), place: Some((line, column).into()) };
            ProjectError { file: path.display().to_string(), problems: vec![problem], more: 0 }
        };
        let root = yaml::parse(text).map_err(|fault| {
            let message =
                if fault.message.starts_with("the key") { "a name stands here twice" } else { "not valid YAML" };
            fail(fault.span.start, message.into(), SHAPE_HELP)
        })?;
        let mut map = BTreeMap::new();
        match &*root.kind {
            Kind::Map(..) => {}
            _ if root.is_null() => return Ok(map),
            _ => return Err(fail(root.span.start, "not a map of names to values".into(), SHAPE_HELP)),
        }
        for (index, entry) in root.entries().iter().enumerate() {
            let at = entry.key_span.start;
            if !secret_name(&entry.key) {
                // Not even the name is shown: it may be a value in the wrong place.
                return Err(fail(at, format!("entry {} has no valid name", index + 1), NAME_HELP));
            }
            match &*entry.value.kind {
                Kind::Scalar { .. } if entry.value.is_null() => {}
                // Every value is text here, so that `0123` and `true` need no quotes.
                Kind::Scalar { text, .. } => {
                    if !text.is_empty() {
                        map.insert(entry.key.clone(), self.known(text.clone()));
                    }
                }
                _ => return Err(fail(at, format!("the value of `{}` is no text", entry.key), SHAPE_HELP)),
            }
        }
        Ok(map)
    }
}

const NAME_HELP: &str = "names have capital letters, digits and `_`, and begin with a letter: GIT_TOKEN";
const SHAPE_HELP: &str = "one secret a line: NAME: \"value\"";

/// What is said about a secret that is not set.
pub(super) fn missing(name: &str) -> String {
    format!("the secret `{name}` is not set")
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The text of a file; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, ProjectError> {
    use io::Read as _;
    let fail = |e: io::Error| ProjectError::unreadable(path, &e, None);
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail(e)),
    };
    let mut bytes = Vec::new();
    // One byte more than is allowed tells that there is more, however large the file is.
    file.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    let name = path.display().to_string();
    if bytes.len() > yaml::MAX_BYTES {
        let fault = yaml::too_large(0..0);
        return Err(ProjectError::plain(name, fault.message, fault.help));
    }
    String::from_utf8(bytes).map(Some).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let bytes = e.as_bytes();
        let before = String::from_utf8_lossy(&bytes[..valid]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let problem = Problem {
            message: "the file is not UTF-8 text".into(),
            help: Some("save it as UTF-8".into()),
            place: Some((line, column).into()),
        };
        ProjectError { file: name.clone(), problems: vec![problem], more: 0 }
    })
}

fn permissions(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let name = path.display();
    (mode & 0o077 != 0).then(|| format!("{name}: others can read it (mode {mode:04o}); run: chmod 600 {name}"))
}

/// 32 letters and digits from the operating system's random source. They need no quoting anywhere and are never taken
/// for an option.
fn generate(path: &Path) -> Result<Secret, ProjectError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut out = String::with_capacity(LENGTH);
    while out.len() < LENGTH {
        let mut bytes = [0u8; 64];
        OsRng.try_fill_bytes(&mut bytes).map_err(|e| {
            ProjectError::plain(path.display().to_string(), format!("no random numbers to make a secret: {e}"), None)
        })?;
        // 248 is the largest multiple of 62 in a byte: every character is as likely as any other.
        out.extend(bytes.iter().filter(|b| **b < 248).map(|b| char::from(ALPHABET[usize::from(b % 62)])));
    }
    out.truncate(LENGTH);
    Ok(Secret::new(out))
}

/// A YAML scalar in double quotes.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Writes a file that only its owner can read, all or nothing. A symbolic link stays one: its target is replaced.
///
/// # Errors
/// What the operating system said; no temporary file is left.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic(path, bytes, true)
}

/// Writes a file with the mode that the user's umask gives, or that it had, all or nothing. Links stay as above.
///
/// # Errors
/// What the operating system said; no temporary file is left.
pub(super) fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic(path, bytes, false)
}

fn write_atomic(path: &Path, bytes: &[u8], private: bool) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let number = OsRng.try_next_u64().unwrap_or_else(|_| u64::from(std::process::id()));
    let part = target.with_file_name(format!(".{name}.{number:016x}"));
    let mode = if private { 0o600 } else { 0o666 };
    let result = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        file.write_all(bytes)?;
        if let Some(old) = fs::metadata(&target).ok().filter(|_| !private) {
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&part, &target)
    })();
    if result.is_err() {
        // The first error is the one that counts.
        let _ = fs::remove_file(&part);
    }
    result
}
