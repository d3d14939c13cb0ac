//! The validated types: what every other part of the program works with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::secret::Secret;

/// A whole customer site, validated.
#[derive(Debug, Clone)]
pub struct Project {
    /// The file it was read from; `None` where it was made from `--server` or defaults.
    pub file: Option<PathBuf>,
    /// `project.name`.
    pub name: String,
    /// `project.description`.
    pub description: String,
    /// `project.namespace`, by default the name.
    pub namespace: String,
    /// `source`: the GitOps repository.
    pub source: Option<GitSource>,
    /// `env`: dev, stg, prd and the like.
    pub env: String,
    /// `domain`, or where that is empty `destinations.<env>.domain`.
    pub domain: Option<String>,
    /// `site`.
    pub site: String,
    /// `nodes`, never empty: without the section, this machine is the only server. Servers first, file order kept.
    pub nodes: Vec<Node>,
    /// `k3s`.
    pub k3s: K3s,
    /// `proxy`: for downloads of K3s and its containers on the servers.
    pub proxy: Option<Proxy>,
    /// `mirrors.k3s`: base address, without a slash at its end; `<base>/<version>/<asset>`.
    pub k3s_mirror: String,
    /// `ingress`.
    pub ingress: Ingress,
    /// `registry`.
    pub registry: Registry,
    /// `images`.
    pub images: Images,
    /// `services`.
    pub services: Vec<Service>,
    /// `extraApps`.
    pub extra_apps: Vec<ExtraApp>,
    /// `destinations`, by environment.
    pub destinations: BTreeMap<String, Destination>,
    /// `vars`.
    pub vars: BTreeMap<String, Value>,
    /// `environments`, by name: overrides.
    pub environments: BTreeMap<String, Map<String, Value>>,
}

/// `source`: where the GitOps repository is.
#[derive(Debug, Clone, PartialEq)]
pub struct GitSource {
    /// `repoURL`.
    pub repo_url: String,
    /// `targetRevision`, by default main.
    pub target_revision: String,
}

/// What a node does in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Control plane.
    Server,
    /// Worker.
    Agent,
}

/// One machine of the cluster.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique, a valid RFC 1123 host name; the name of the Kubernetes node. `None` only for the one server of a project
    /// without `nodes:` (this machine, or the one of `--server`), whose own hostname it then is.
    pub name: Option<String>,
    /// Server or agent.
    pub role: Role,
    /// How xgenctl reaches it.
    pub access: Access,
    /// `address`: where other nodes reach it, when that differs from `host`; becomes node-ip if it is an IP address.
    pub address: Option<String>,
    /// Kubernetes labels.
    pub labels: BTreeMap<String, String>,
    /// Kubernetes taints.
    pub taints: Vec<Taint>,
    /// `config`: K3s configuration of this node alone, over `k3s.config`.
    pub config: Map<String, Value>,
}

impl Node {
    /// The name for messages: the node's own, else the address it was given by, else `localhost`.
    pub fn display_name(&self) -> &str {
        match (&self.name, &self.access) {
            (Some(name), _) => name,
            (None, Access::Ssh(ssh)) => &ssh.host,
            (None, _) => "localhost",
        }
    }
}

/// How a node is reached.
#[derive(Debug, Clone)]
pub enum Access {
    /// This machine.
    Local {
        /// Password for sudo, where this user needs one.
        sudo_password: Option<Secret>,
    },
    /// Over SSH.
    Ssh(SshAccess),
    /// Not at all (`join: manual`): somebody runs the printed join command there.
    Manual,
}

/// SSH settings of a node. What is `None` comes from `~/.ssh/config`, then from SSH's defaults.
#[derive(Debug, Clone, Default)]
pub struct SshAccess {
    /// `host`: a name, an address or an alias of `~/.ssh/config`.
    pub host: String,
    /// `ssh.port`.
    pub port: Option<u16>,
    /// `ssh.user`.
    pub user: Option<String>,
    /// `ssh.key`: private key file; `~` is expanded.
    pub key: Option<PathBuf>,
    /// `ssh.passphrase` of that key.
    pub passphrase: Option<Secret>,
    /// `ssh.password`.
    pub password: Option<Secret>,
    /// `ssh.sudoPassword`; by default `ssh.password`.
    pub sudo_password: Option<Secret>,
    /// `ssh.jump`: `[user@]host[:port]` or an alias of `~/.ssh/config`.
    pub jump: Option<String>,
}

/// A Kubernetes taint.
#[derive(serde::Serialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, possibly empty.
    pub value: String,
    /// NoSchedule, PreferNoSchedule or NoExecute.
    pub effect: String,
}

impl std::fmt::Display for Taint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.value.is_empty() {
            write!(f, "{}:{}", self.key, self.effect)
        } else {
            write!(f, "{}={}:{}", self.key, self.value, self.effect)
        }
    }
}

/// `k3s`.
#[derive(Debug, Clone)]
pub struct K3s {
    /// `version`, such as `v1.36.5+k3s1`.
    pub version: K3sVersion,
    /// `config`: K3s configuration of every node; server-only keys go to servers only.
    pub config: Map<String, Value>,
    /// `K3S_TOKEN` of the secrets: a join token that a person chose for a new cluster.
    pub token: Option<Secret>,
}

/// A K3s version: `v1.36.5+k3s1`, with an optional `-rc1` and the like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct K3sVersion {
    /// Kubernetes' major version.
    pub major: u32,
    /// Kubernetes' minor version.
    pub minor: u32,
    /// Kubernetes' patch version.
    pub patch: u32,
    /// What follows: `-rc1+k3s1`, `+k3s1`.
    pub suffix: String,
}

impl std::fmt::Display for K3sVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{}.{}.{}{}", self.major, self.minor, self.patch, self.suffix)
    }
}

/// `proxy`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proxy {
    /// `http`: HTTP_PROXY. May carry credentials.
    pub http: Option<Secret>,
    /// `https`: HTTPS_PROXY.
    pub https: Option<Secret>,
    /// `noProxy`: more entries for NO_PROXY; the cluster's own networks and nodes are always there.
    pub no_proxy: Vec<String>,
}

/// `ingress`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingress {
    /// `type`: istio, traefik or none.
    pub kind: IngressKind,
    /// `nodePorts.status`.
    pub status_port: u16,
    /// `nodePorts.http`.
    pub http_port: u16,
    /// `nodePorts.https`.
    pub https_port: u16,
}

/// Which ingress is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IngressKind {
    /// Istio.
    Istio,
    /// Traefik.
    Traefik,
    /// None.
    None,
}

/// `registry`.
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    /// `nodePort`.
    pub node_port: u16,
    /// `storage`, a Kubernetes quantity.
    pub storage: String,
}

/// `images`.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// `mode`: jenkins, manual or airgapped.
    pub mode: ImageMode,
    /// `registries`, first choice first.
    pub registries: Vec<String>,
}

/// Who builds the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageMode {
    /// Jenkins in the cluster.
    Jenkins,
    /// The operator.
    Manual,
    /// Somebody elsewhere; they come as files.
    Airgapped,
}

/// One entry of `services`.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// `name`, unique.
    pub name: String,
    /// `valuesFile`, by default `<name>.yaml`.
    pub values_file: String,
    /// `hasDomain`.
    pub has_domain: bool,
}

/// One entry of `extraApps`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtraApp {
    /// `name`, unique.
    pub name: String,
    /// `path` in the repository.
    pub path: String,
    /// `namespace`.
    pub namespace: String,
}

/// One entry of `destinations`.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// `server`: API address, by default the cluster itself.
    pub server: String,
    /// `domain`.
    pub domain: String,
}
