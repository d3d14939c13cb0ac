//! The files that `xgenctl init` writes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::defaults;
use super::edit::{node_line, text as scalar};
use super::model::Role;
use super::raw::{Join, RawNode, RawSsh};
use super::rules;
use super::schema::nearest;
use super::secrets::{FILE_NAME, write_public};

/// What differs from site to site.
#[derive(Debug, Clone)]
pub struct Answers {
    /// `project.name`.
    pub name: String,
    /// `domain`.
    pub domain: String,
    /// `env`.
    pub env: String,
    /// `nodes`; empty: this machine.
    pub nodes: Vec<NodeAnswer>,
    /// `source.repoURL`; empty: none yet.
    pub git_url: String,
}

/// A node as the command line gives it: `name=master,role=server,host=10.0.0.10,user=ops`.
#[derive(Debug, Clone)]
pub struct NodeAnswer(RawNode);

impl NodeAnswer {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A node with the role and `[user@]host[:port]` given.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn of(name: &str, role: &str, address: &str) -> Result<Self, String> {
        let (user, host, port) = rules::endpoint(address)?;
        let mut text = format!("name={name},role={role},host={host}");
        for (key, value) in [("user", user.map(str::to_owned)), ("port", port.map(|p| p.to_string()))] {
            if let Some(value) = value {
                text.push_str(&format!(",{key}={value}"));
            }
        }
        text.parse()
    }
}

const KEYS: &[&str] = &["name", "role", "host", "address", "join", "user", "port", "key", "jump"];

impl FromStr for NodeAnswer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut node = RawNode::default();
        let mut ssh = RawSsh::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').ok_or("write KEY=VALUE, separated by commas")?;
            let owned = || Some(value.to_owned());
            match key {
                "name" => node.name = value.to_owned(),
                "role" => {
                    node.role = Some(match value {
                        "server" => Role::Server,
                        "agent" => Role::Agent,
                        _ => return Err("role is server or agent".into()),
                    });
                }
                "join" => {
                    node.join = Some(match value {
                        "ssh" => Join::Ssh,
                        "manual" => Join::Manual,
                        _ => return Err("join is ssh or manual".into()),
                    });
                }
                "host" => node.host = owned(),
                "address" => node.address = owned(),
                "user" => ssh.user = owned(),
                "key" => ssh.key = owned(),
                "jump" => ssh.jump = owned(),
                "port" => {
                    let port = value.parse().ok().filter(|p| *p > 0);
                    ssh.port = Some(port.ok_or("port is a number from 1 to 65535")?);
                }
                "password" | "passphrase" | "sudoPassword" => {
                    return Err(format!(
                        "{key} is never given on the command line: write `{key}: ${{secret:NAME}}` into project.yaml \
                         afterwards and the value into secrets.yaml"
                    ));
                }
                _ => {
                    return Err(match nearest(key, KEYS.iter().copied()) {
                        Some(known) => format!("unknown key `{key}`: did you mean `{known}`?"),
                        None => format!("unknown key `{key}`: known are {}", KEYS.join(", ")),
                    });
                }
            }
        }
        if node.name.is_empty() {
            return Err("name=NAME is missing".into());
        }
        if ssh != RawSsh::default() {
            node.ssh = Some(ssh);
        }
        Ok(Self(node))
    }
}

/// The text of a new project.yaml, with comments.
pub fn project_text(answers: &Answers) -> String {
    let Answers { name, domain, env, nodes, git_url } = answers;
    let source = match git_url.as_str() {
        "" => "# source:                        # the Git repository that Argo CD deploys from; its token is the secret GIT_TOKEN\n\
               #   repoURL: https://git.example/infra.git\n#   targetRevision: main\n"
            .to_owned(),
        url => format!(
            "# The Git repository that Argo CD deploys from; its token is the secret GIT_TOKEN.\nsource:\n  repoURL: {}\n  \
             targetRevision: {}\n",
            scalar(url),
            defaults::TARGET_REVISION
        ),
    };
    let mut list = String::new();
    for (index, node) in nodes.iter().enumerate() {
        let role = node.0.role.unwrap_or(if index == 0 { Role::Server } else { Role::Agent });
        list.push_str(&format!("  - {}\n", node_line(&RawNode { role: Some(role), ..node.0.clone() })));
    }
    let nodes = match list.as_str() {
        "" => "# The servers. Without this section this machine is the only one.\n# nodes:\n\
               #   - { name: master, role: server, host: 10.0.0.10, ssh: { user: ops, key: ~/.ssh/id_ed25519 } }\n"
            .to_owned(),
        list => format!("# The servers: one or three with `role: server`, any number of agents.\nnodes:\n{list}"),
    };
    format!(
        "# One customer site. Passwords never stand here: ${{secret:NAME}} refers to {FILE_NAME} beside this file.\n\
         # Every key: docs/project-yaml.md; for editors: xgenctl schema.\n\n\
         project:\n  name: {}\n\n{source}\n\
         env: {}\ndomain: {}\n\n{nodes}\n\
         k3s:\n  version: {}\n  config: {{}}                     # any key of K3s' configuration file\n\n\
         ingress: {{ type: istio }}         # istio, traefik or none\n\
         images: {{ mode: jenkins }}        # jenkins, manual or airgapped\n\n\
         # services:                      # one Argo CD Application each; hasDomain: exposed under the domain\n\
         #   - {{ name: xgen-frontend, hasDomain: true }}\n",
        scalar(name),
        scalar(env),
        scalar(domain),
        defaults::K3S_VERSION,
    )
}

/// Writes a file, all or nothing; one that is there already is kept beside it as `.bak`, whose path is returned.
///
/// # Errors
/// What the operating system said.
pub fn write_new(path: &Path, text: &str) -> io::Result<Option<PathBuf>> {
    let mut backup = None;
    if path.exists() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // An older backup is somebody's only copy.
        let free = (1u32..).map(|n| match n {
            1 => path.with_file_name(format!("{name}.bak")),
            n => path.with_file_name(format!("{name}.bak{n}")),
        });
        backup = free.into_iter().find(|p| fs::symlink_metadata(p).is_err());
        if let Some(backup) = &backup {
            fs::copy(path, backup)?;
        }
    }
    write_public(path, text.as_bytes())?;
    Ok(backup)
}

/// Keeps secrets.yaml out of Git: adds it to `.gitignore` if the folder is in a repository or has that file. Returns
/// the file where it was changed.
///
/// # Errors
/// What the operating system said.
pub fn ignore_secrets(folder: &Path) -> io::Result<Option<PathBuf>> {
    let file = folder.join(".gitignore");
    let whole = fs::canonicalize(folder)?;
    let root = whole.ancestors().find(|dir| dir.join(".git").exists());
    if root.is_none() && !file.exists() {
        return Ok(None);
    }
    let above = whole.ancestors().take_while(|dir| root.is_some_and(|root| dir.starts_with(root)));
    let mut places: Vec<PathBuf> = above.map(|dir| dir.join(".gitignore")).collect();
    places.push(file.clone());
    let ignores = |text: &str, own: bool| {
        text.lines().map(str::trim).any(|l| l == FILE_NAME || l == "**/secrets.yaml" || own && l == "/secrets.yaml")
    };
    for place in &places {
        let own = place.parent() == Some(whole.as_path()) || *place == file;
        if fs::read_to_string(place).is_ok_and(|text| ignores(&text, own)) {
            return Ok(None);
        }
    }
    let mut text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(eol);
    }
    text.push_str(FILE_NAME);
    text.push_str(eol);
    write_public(&file, text.as_bytes())?;
    Ok(Some(file))
}
