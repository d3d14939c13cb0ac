//! Where to connect and as whom.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SshOptions;
use super::config::{self, Settings, Strict, tilde, tokens};
use super::known_hosts::name_of;
use crate::host::HostError;
use crate::project::SshAccess;
use crate::secret::Secret;

/// How long a server may take to answer where nothing is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent where nothing is said.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How many questions may stay unanswered; with the time above, a dead connection is noticed within 45 seconds.
const UNANSWERED: usize = 2;
/// The keys OpenSSH tries by itself.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// Who named a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// project.yaml: it must be there.
    Project,
    /// `~/.ssh/config`.
    Config,
    /// Nobody: one of SSH's defaults.
    Nobody,
}

/// A private key file that may be tried.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// The file.
    pub path: PathBuf,
    /// Its passphrase, where project.yaml has one.
    pub passphrase: Option<Secret>,
    /// Who named it.
    pub named: Named,
}

/// A server and everything that is needed to log in there.
#[derive(Debug, Clone)]
pub struct Target {
    /// What messages call it: the node's name.
    pub node: String,
    /// The name or address to connect to.
    pub host: String,
    /// The port of sshd.
    pub port: u16,
    /// The login name.
    pub user: String,
    /// Its name in known_hosts.
    pub known_as: String,
    /// known_hosts files, the ones of the user first; new keys go to the first.
    pub known_hosts: Vec<PathBuf>,
    /// What is done with an unknown host key.
    pub strict: Strict,
    /// Whether names in known_hosts are hashed.
    pub hash_known_hosts: bool,
    /// Key files in the order they are tried.
    pub keys: Vec<KeyFile>,
    /// Whether the agent may only offer keys that are named.
    pub identities_only: bool,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// The password, where project.yaml has one.
    pub password: Option<Secret>,
    /// Jump hosts, the nearest to the target last.
    pub jump: Vec<String>,
    /// How long the server may take to answer.
    pub connect_timeout: Duration,
    /// How long the connection may be silent.
    pub keepalive: Duration,
    /// How many times in a row it may be silent.
    pub keepalive_max: usize,
}

/// `[user@]host[:port]`, as jump hosts are written.
#[derive(Debug, Default, PartialEq)]
struct Spec {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl Target {
    /// What project.yaml says, then `~/.ssh/config`, then SSH's defaults.
    ///
    /// # Errors
    /// [`HostError::Login`] where the key file of project.yaml is not there, [`HostError::Connection`] where
    /// `~/.ssh/config` asks for something that cannot be done.
    pub fn new(name: &str, access: &SshAccess, options: &SshOptions) -> Result<Self, HostError> {
        let spec = Spec { user: access.user.clone(), host: bracketless(&access.host).to_owned(), port: access.port };
        let settings = read_settings(&spec.host, options);
        let mut target = Self::from_settings(name.to_owned(), spec, &settings, options);
        if let Some(jump) = &access.jump {
            target.jump = hops(jump);
        } else if let Some(command) = settings.proxy_command.filter(|c| !c.eq_ignore_ascii_case("none")) {
            return Err(target.broken(format!(
                "~/.ssh/config reaches it by `ProxyCommand {command}`, which is not supported; set `ssh.jump` of the node"
            )));
        }
        if let Some(key) = &access.key {
            let path = tilde(&key.to_string_lossy(), &options.home);
            if let Err(e) = std::fs::File::open(&path) {
                let reason = format!("the key {} of project.yaml cannot be read: {e}", path.display());
                return Err(HostError::Login { host: target.node, reason });
            }
            target.keys.retain(|k| k.path != path);
            target.keys.insert(0, KeyFile { path, passphrase: access.passphrase.clone(), named: Named::Project });
        }
        target.password = access.password.clone();
        Ok(target)
    }

    /// The jump host `spec` on the way to this target.
    ///
    /// It may be logged in to with the node's key as well, but is never given the node's password.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn hop(&self, spec: &str, access: &SshAccess, options: &SshOptions) -> Result<Self, HostError> {
        let Some(spec) = parse_spec(spec) else {
            return Err(self.broken(format!("the jump host {spec:?} is not of the form [user@]host[:port]")));
        };
        let settings = read_settings(&spec.host, options);
        let node = self.node.split(" (").next().unwrap_or_default();
        let node = format!("{node} (jump host {})", spec.host);
        let mut hop = Self::from_settings(node, spec, &settings, options);
        if let Some(key) = &access.key {
            let path = tilde(&key.to_string_lossy(), &options.home);
            if !hop.keys.iter().any(|k| k.path == path) {
                // Behind what ~/.ssh/config names for this very host, before what nobody named.
                let at = hop.keys.iter().position(|k| k.named == Named::Nobody).unwrap_or(hop.keys.len());
                hop.keys.insert(at, KeyFile { path, passphrase: access.passphrase.clone(), named: Named::Config });
            }
        }
        Ok(hop)
    }

    fn from_settings(node: String, spec: Spec, settings: &Settings, options: &SshOptions) -> Self {
        let port = spec.port.or(settings.port).unwrap_or(22);
        let user = spec.user.or_else(|| settings.user.clone()).unwrap_or_else(|| options.user.clone());
        let host = match &settings.host_name {
            Some(name) => tokens(name, &[('h', &spec.host), ('n', &spec.host)]),
            None => spec.host.clone(),
        };
        let home = options.home.to_string_lossy();
        let port_text = port.to_string();
        let values = [
            ('h', host.as_str()),
            ('n', spec.host.as_str()),
            ('d', home.as_ref()),
            ('r', user.as_str()),
            ('u', options.user.as_str()),
            ('p', port_text.as_str()),
        ];
        let path = |text: &str| {
            let path = tilde(&tokens(text, &values), &options.home);
            // As ssh has it, though there it is the folder ssh was started in.
            if path.is_absolute() { path } else { options.home.join(path) }
        };
        let file = |path: PathBuf, named| KeyFile { path, passphrase: None, named };
        let given = settings.identity_files.iter().filter(|f| !f.eq_ignore_ascii_case("none"));
        let keys = if settings.identity_files.is_empty() {
            DEFAULT_KEYS.iter().map(|k| file(options.home.join(".ssh").join(k), Named::Nobody)).collect()
        } else {
            given.map(|f| file(path(f), Named::Config)).collect()
        };
        let agent = match settings.identity_agent.as_deref() {
            None | Some("SSH_AUTH_SOCK") => options.agent.clone(),
            Some(none) if none.eq_ignore_ascii_case("none") => None,
            Some(socket) => Some(path(socket)),
        };
        let list = |files: &Option<Vec<String>>, default: &[PathBuf]| match files {
            Some(files) => files.iter().filter(|f| !f.eq_ignore_ascii_case("none")).map(|f| path(f)).collect(),
            None => default.to_vec(),
        };
        let own: Vec<PathBuf> = list(
            &settings.user_known_hosts,
            &[options.home.join(".ssh/known_hosts"), options.home.join(".ssh/known_hosts2")],
        );
        let global: Vec<PathBuf> = list(
            &settings.global_known_hosts,
            &[options.system.join("ssh_known_hosts"), options.system.join("ssh_known_hosts2")],
        );
        let jump = settings.proxy_jump.as_deref().map(hops).unwrap_or_default();
        let configured = settings.alive_interval.filter(|s| *s > 0).map(Duration::from_secs);
        let keepalive_max = match (options.keepalive, configured) {
            (None, Some(_)) => settings.alive_count.unwrap_or(3).max(1),
            _ => UNANSWERED,
        };
        Self {
            node,
            port,
            known_as: match &settings.host_key_alias {
                Some(alias) => name_of(alias, 22),
                None => name_of(&host, port),
            },
            known_hosts: own.into_iter().chain(global).collect(),
            strict: settings.strict.unwrap_or(Strict::Ask),
            hash_known_hosts: settings.hash_known_hosts.unwrap_or(false),
            keys,
            identities_only: settings.identities_only.unwrap_or(false),
            agent,
            password: None,
            jump,
            connect_timeout: options
                .connect_timeout
                .or(settings.connect_timeout.map(Duration::from_secs))
                .unwrap_or(CONNECT_TIMEOUT),
            keepalive: options.keepalive.or(configured).unwrap_or(KEEPALIVE),
            keepalive_max,
            host,
            user,
        }
    }

    /// An error of the way to this target.
    pub fn broken(&self, reason: impl Into<String>) -> HostError {
        HostError::Connection { host: self.node.clone(), reason: reason.into() }
    }

    /// An error of the login there.
    pub fn refused(&self, reason: impl Into<String>) -> HostError {
        HostError::Login { host: self.node.clone(), reason: reason.into() }
    }

    /// Host and port as people write them.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn read_settings(host: &str, options: &SshOptions) -> Settings {
    let own = options.home.join(".ssh");
    let system: &Path = &options.system;
    let files = [(own.join("config"), own), (system.join("ssh_config"), system.to_owned())];
    config::read(host, &options.home, &files)
}

fn bracketless(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// The jump hosts of `a,b`; none for `none`.
fn hops(jump: &str) -> Vec<String> {
    if jump.trim().eq_ignore_ascii_case("none") {
        return Vec::new();
    }
    jump.split(',').map(|hop| hop.trim().to_owned()).filter(|hop| !hop.is_empty()).collect()
}

fn parse_spec(text: &str) -> Option<Spec> {
    let text = text.strip_prefix("ssh://").unwrap_or(text);
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match rest.split_once(':') {
            // Two colons: an IPv6 address without brackets.
            Some((_, port)) if port.contains(':') => (rest, None),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = port.map(str::parse).transpose().ok()?;
    let good = !host.is_empty() && user.as_deref() != Some("");
    good.then(|| Spec { user, host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(config: &str) -> (tempfile::TempDir, SshOptions) {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/config"), config).unwrap();
        let mut options = SshOptions::new(home.path());
        options.system = home.path().join("no-such-folder");
        options.user = "operator".into();
        options.agent = None;
        (home, options)
    }

    fn access(host: &str) -> SshAccess {
        SshAccess { host: host.into(), ..SshAccess::default() }
    }

    #[test]
    fn project_yaml_wins_over_the_config_and_that_over_defaults() {
        let config = "Host box\n HostName %h.example\n User conf\n Port 2200\n IdentityFile %d/keys/%r@%h\n\
                      UserKnownHostsFile ~/kh\n GlobalKnownHostsFile none\n ServerAliveInterval 20\n ProxyJump a,b:3\n";
        let (home, options) = options(config);
        let box_ = Target::new("n", &access("box"), &options).unwrap();
        assert_eq!((box_.host.as_str(), box_.port, box_.user.as_str()), ("box.example", 2200, "conf"));
        assert_eq!(box_.keys[0].path, home.path().join("keys/conf@box.example"));
        assert_eq!(box_.known_hosts, [home.path().join("kh")]);
        assert_eq!(box_.known_as, "[box.example]:2200");
        assert_eq!(box_.jump, ["a", "b:3"]);
        assert_eq!((box_.keepalive.as_secs(), box_.keepalive_max), (20, 3));
        let own = SshAccess { user: Some("me".into()), port: Some(22), jump: Some("none".into()), ..access("box") };
        let own = Target::new("n", &own, &options).unwrap();
        assert_eq!((own.user.as_str(), own.known_as.as_str(), own.jump.len()), ("me", "box.example", 0));
        let other = Target::new("n", &access("other"), &options).unwrap();
        assert_eq!((other.user.as_str(), other.port, other.keys.len()), ("operator", 22, 3));
        assert_eq!(other.connect_timeout, CONNECT_TIMEOUT);
    }

    #[test]
    fn a_missing_key_of_project_yaml_is_an_error_at_once() {
        let (home, options) = options("");
        let access = SshAccess { key: Some("~/.ssh/nope".into()), ..access("box") };
        let error = Target::new("n", &access, &options).unwrap_err().to_string();
        let path = home.path().join(".ssh/nope");
        let expected = format!(
            "n: login failed: the key {} of project.yaml cannot be read: No such file or directory (os error 2)",
            path.display()
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn a_proxy_command_is_an_error_and_not_ignored() {
        let (_home, options) = options("Host box\n ProxyCommand nc %h %p\n");
        let error = Target::new("n", &access("box"), &options).unwrap_err().to_string();
        assert!(error.contains("ProxyCommand nc %h %p"), "{error}");
        let jump = SshAccess { jump: Some("gate".into()), ..access("box") };
        assert_eq!(Target::new("n", &jump, &options).unwrap().jump, ["gate"]);
    }

    #[test]
    fn a_jump_host_gets_the_key_but_never_the_password() {
        let (home, options) = options("Host gate\n User gk\n");
        std::fs::write(home.path().join("k"), "").unwrap();
        let access = SshAccess { key: Some("~/k".into()), password: Some(Secret::new("pass-word")), ..access("box") };
        let target = Target::new("n", &access, &options).unwrap();
        let hop = target.hop("gate:2222", &access, &options).unwrap();
        assert_eq!((hop.node.as_str(), hop.user.as_str(), hop.port), ("n (jump host gate)", "gk", 2222));
        assert!(hop.password.is_none());
        assert_eq!(hop.keys[0].path, home.path().join("k"));
    }

    #[test]
    fn jump_hosts_are_read() {
        let spec =
            |user: Option<&str>, host: &str, port| Some(Spec { user: user.map(Into::into), host: host.into(), port });
        assert_eq!(parse_spec("h"), spec(None, "h", None));
        assert_eq!(parse_spec("u@h:22"), spec(Some("u"), "h", Some(22)));
        assert_eq!(parse_spec("u@[::1]:22"), spec(Some("u"), "::1", Some(22)));
        assert_eq!(parse_spec("fe80::1"), spec(None, "fe80::1", None));
        assert_eq!(parse_spec("ssh://u@h"), spec(Some("u"), "h", None));
        assert_eq!((parse_spec("h:x"), parse_spec("@h"), parse_spec("")), (None, None, None));
    }
}
