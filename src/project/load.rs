//! Where a project comes from: a file, `--server`, or nothing at all.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Map;

use super::error::{Excerpts, ProjectError, SHOWN, is_reference, is_secret_key, password_in};
use super::model::*;
use super::raw::RawProject;
use super::secrets::{FILE_NAME, Mode, SecretsStore, read};
use super::validate::{Check, default_version, only_server, project, this_machine};
use super::yaml::{Fault, Kind, Node as Tree};
use super::{defaults, rules, schema, yaml};
use crate::secret::{Redactor, Secret};

/// Finds the project file: `given` (`-p`), else `project.yaml` in `folder`, else the only file of `folder/projects`.
///
/// `None` where there is none of them: then this machine is set up with the defaults.
///
/// # Errors
/// The file given does not exist, or `projects` has several files (they are listed).
pub fn find(folder: &Path, given: Option<&Path>) -> Result<Option<PathBuf>, ProjectError> {
    if let Some(path) = given {
        if !path.exists() {
            let help = "check the path after -p, or write one with `xgenctl init`".to_owned();
            return Err(ProjectError::plain(path.display().to_string(), "there is no such file", help));
        }
        return Ok(Some(path.to_owned()));
    }
    let own = folder.join("project.yaml");
    if own.exists() {
        return Ok(Some(own));
    }
    let many = folder.join("projects");
    let Ok(entries) = fs::read_dir(&many) else { return Ok(None) };
    let mut files: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| is_project(p)).collect();
    files.sort();
    match files.len() {
        0 | 1 => Ok(files.pop()),
        n => {
            let list: Vec<String> = files.iter().map(|p| format!("-p {}", p.display())).collect();
            let help = format!("choose one:\n{}", list.join("\n"));
            Err(ProjectError::plain(many.display().to_string(), format!("has {n} project files"), help))
        }
    }
}

fn is_project(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    yaml && !name.starts_with('.') && name != FILE_NAME && path.is_file()
}

impl Project {
    /// Reads and validates a project file.
    ///
    /// Values that stand in the clear where a secret belongs are told to `redactor` before they are refused.
    ///
    /// # Errors
    /// Everything that is wrong with it: limits and syntax (the first), else keys and types (all), else meaning (all).
    pub fn load(
        path: &Path,
        secrets: &mut SecretsStore,
        redactor: &Redactor,
        mode: Mode,
    ) -> Result<Self, ProjectError> {
        let Some(text) = read(path)? else {
            let help = "check the path, or write one with `xgenctl init`".to_owned();
            return Err(ProjectError::plain(path.display().to_string(), "there is no such file", help));
        };
        let mut project = Self::parse(path, &text, secrets, redactor, mode)?;
        project.file = Some(path.to_owned());
        Ok(project)
    }

    /// As [`Project::load`], from text; `path` is for messages and for relative paths in the text.
    ///
    /// # Errors
    /// As [`Project::load`].
    pub fn parse(
        path: &Path,
        text: &str,
        secrets: &mut SecretsStore,
        redactor: &Redactor,
        mode: Mode,
    ) -> Result<Self, ProjectError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let file = path.display().to_string();
        let tree = yaml::parse(text).map_err(|f| failed(&file, text, None, vec![f]))?;
        if tree.is_null() {
            let help = "write one with `xgenctl init`; at least `project: { name: … }` must be there".to_owned();
            return Err(ProjectError::plain(file, "the file is empty", help));
        }
        let mut hidden = Vec::new();
        clear_secrets(&tree, false, redactor, &mut hidden);
        let value = schema::conform(&tree).map_err(|faults| failed(&file, text, Some(hidden.clone()), faults))?;
        let raw: RawProject = serde_json::from_value(value)
            .map_err(|e| ProjectError::plain(file.clone(), format!("cannot be understood: {e}"), None))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
        let mut check = Check { folder, line_ends, secrets, mode, faults: Vec::new() };
        let project = project(raw, &tree, &mut check);
        if check.faults.is_empty() { Ok(project) } else { Err(failed(&file, text, Some(hidden), check.faults)) }
    }

    /// A project of one server that is reached over SSH: `--server [user@]host[:port]` without a file.
    ///
    /// # Errors
    /// `server` is no such address.
    pub fn from_server(server: &str, secrets: &SecretsStore) -> Result<Self, ProjectError> {
        let mut project = Self::local_default(secrets);
        project.use_server(server)?;
        Ok(project)
    }

    /// Puts one server in place of `nodes`: `--server` together with a file.
    ///
    /// # Errors
    /// `server` is no `[user@]host[:port]`.
    pub fn use_server(&mut self, server: &str) -> Result<(), ProjectError> {
        let (user, host, port) = rules::endpoint(server).map_err(|reason| {
            let help = "write --server USER@HOST, with :PORT where sshd has another port than 22".to_owned();
            ProjectError::plain("--server", reason, help)
        })?;
        let access = SshAccess { host: host.into(), port, user: user.map(str::to_owned), ..SshAccess::default() };
        self.nodes = vec![only_server(Access::Ssh(access))];
        Ok(())
    }

    /// The project where there is no file at all: this machine, with the defaults.
    pub fn local_default(secrets: &SecretsStore) -> Self {
        Self {
            file: None,
            name: defaults::PROJECT_NAME.into(),
            description: String::new(),
            namespace: defaults::PROJECT_NAME.into(),
            source: None,
            env: defaults::ENV.into(),
            domain: None,
            site: defaults::SITE.into(),
            nodes: vec![this_machine()],
            k3s: K3s { version: default_version(), config: Map::new(), token: secrets.get("K3S_TOKEN") },
            proxy: None,
            k3s_mirror: defaults::K3S_MIRROR.into(),
            ingress: Ingress {
                kind: defaults::INGRESS,
                status_port: defaults::PORT_STATUS,
                http_port: defaults::PORT_HTTP,
                https_port: defaults::PORT_HTTPS,
            },
            registry: Registry { node_port: defaults::PORT_REGISTRY, storage: defaults::REGISTRY_STORAGE.into() },
            images: Images {
                mode: defaults::IMAGE_MODE,
                registries: vec![format!("localhost:{}", defaults::PORT_REGISTRY)],
            },
            services: Vec::new(),
            extra_apps: Vec::new(),
            destinations: BTreeMap::new(),
            vars: BTreeMap::new(),
            environments: BTreeMap::new(),
        }
    }
}

fn failed(file: &str, text: &str, hidden: Option<Vec<Range<usize>>>, mut faults: Vec<Fault>) -> ProjectError {
    faults.sort_by_key(|f| f.span.start);
    let excerpts = Excerpts::new(text, hidden);
    let more = faults.len().saturating_sub(SHOWN);
    let problems = faults.into_iter().take(SHOWN).map(|f| excerpts.problem(f)).collect();
    ProjectError { file: file.to_owned(), problems, more }
}

/// Finds values under keys that are secrets by their name: they are never shown, and passwords of `ssh` not anywhere.
fn clear_secrets(tree: &Tree, secret: bool, redactor: &Redactor, hidden: &mut Vec<Range<usize>>) {
    match &*tree.kind {
        Kind::Scalar { text, .. } => {
            if !text.is_empty() && (secret && !is_reference(text) || password_in(text).is_some()) {
                hidden.push(tree.span.clone());
            }
        }
        Kind::List(items) => items.iter().for_each(|item| clear_secrets(item, secret, redactor, hidden)),
        Kind::Map(entries, _) => {
            for entry in entries {
                if matches!(entry.key.as_str(), "password" | "passphrase" | "sudoPassword")
                    && let Kind::Scalar { text, .. } = &*entry.value.kind
                    && !is_reference(text)
                {
                    redactor.learn(&Secret::new(text.clone()));
                }
                clear_secrets(&entry.value, secret || is_secret_key(&entry.key), redactor, hidden);
            }
        }
    }
}
