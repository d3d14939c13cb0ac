//! project.yaml as it is written: the shape of the file, from which the JSON Schema is made.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::defaults;
use super::model::{ImageMode, IngressKind, Role};

/// One customer site: what xgenctl sets up, and on which servers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "project.yaml of xgenctl")]
pub struct RawProject {
    /// Name and namespace of the project.
    pub project: RawMeta,
    /// The Git repository that Argo CD deploys from.
    #[serde(default)]
    pub source: Option<RawSource>,
    /// The environment this site is: dev, stg, prd and the like. Selects the entry of `destinations` and `environments`.
    #[serde(default = "env")]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub env: String,
    /// DNS name under which the platform is reached. Empty: `destinations.<env>.domain`.
    #[serde(default)]
    pub domain: String,
    /// Name of the place, for sites that have several.
    #[serde(default = "site")]
    pub site: String,
    /// The services that are deployed, one Argo CD Application each.
    #[serde(default)]
    pub services: Vec<RawService>,
    /// More Argo CD Applications, such as the observability stack.
    #[serde(default)]
    pub extra_apps: Vec<RawExtraApp>,
    /// Where each environment runs, by the name of the environment.
    #[serde(default)]
    pub destinations: BTreeMap<String, RawDestination>,
    /// Chart values by environment, then by service: over the services' values files.
    #[serde(default)]
    pub environments: BTreeMap<String, Map<String, Value>>,
    /// Project variables: the strongest override of chart values.
    #[serde(default)]
    pub vars: BTreeMap<String, Value>,
    /// The servers of the cluster. Left out: this machine is the only server.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub nodes: Option<Vec<RawNode>>,
    /// Version and configuration of K3s.
    #[serde(default)]
    pub k3s: RawK3s,
    /// HTTP proxy that the servers use.
    #[serde(default)]
    pub proxy: Option<RawProxy>,
    /// How requests come into the cluster.
    #[serde(default)]
    pub ingress: RawIngress,
    /// The container registry inside the cluster.
    #[serde(default)]
    pub registry: RawRegistry,
    /// Where the services' container images come from.
    #[serde(default)]
    pub images: RawImages,
    /// Where downloads come from, for sites with an own mirror.
    #[serde(default)]
    pub mirrors: RawMirrors,
}

/// `project`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawMeta {
    /// Name of the project: lower-case letters, digits and `-`.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Kubernetes namespace of the services. By default the name of the project.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub namespace: Option<String>,
}

/// `source`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawSource {
    /// Address of the repository, without user and password: the token is the secret `GIT_TOKEN`.
    #[serde(rename = "repoURL")]
    #[schemars(extend("examples" = ["https://git.example/xgen-infra.git"]))]
    pub repo_url: String,
    /// Branch, tag or commit.
    #[serde(default = "target_revision")]
    pub target_revision: String,
}

/// One entry of `services`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawService {
    /// Name of the service, unique among services and extra apps.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Its values file in the repository. By default `<name>.yaml`.
    #[serde(default)]
    pub values_file: Option<String>,
    /// Whether it is exposed under the domain.
    #[serde(default)]
    pub has_domain: bool,
}

/// One entry of `extraApps`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawExtraApp {
    /// Name of the application, unique among services and extra apps.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Folder in the repository.
    #[schemars(extend("examples" = ["k3s/observability"]))]
    pub path: String,
    /// Its Kubernetes namespace. By default its name.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub namespace: Option<String>,
}

/// One entry of `destinations`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawDestination {
    /// Address of the Kubernetes API as Argo CD reaches it.
    #[serde(default = "destination_server")]
    pub server: String,
    /// DNS name of the platform there.
    #[serde(default)]
    pub domain: String,
}

/// How a node becomes part of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// xgenctl reaches it over SSH and does everything.
    Ssh,
    /// Somebody runs the printed join command there.
    Manual,
}

/// One entry of `nodes`, as it is written: secrets are references.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawNode {
    /// Name of the Kubernetes node, unique: lower-case letters, digits, `-` and `.`.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"))]
    pub name: String,
    /// server (control plane) or agent (worker). May be left out where there is just one node, which is the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Name, IP address or alias of `~/.ssh/config` by which SSH reaches it. `localhost` is this machine, without SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Where the other nodes reach it, if that is not `host`. An IP address becomes the node's IP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// ssh, or manual for an agent that xgenctl cannot reach: the command to run there is printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Kubernetes labels of the node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("examples" = [{"gpu": "true"}]))]
    pub labels: BTreeMap<String, String>,
    /// Kubernetes taints: `key=value:Effect` or `key:Effect`; NoSchedule, PreferNoSchedule or NoExecute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = r"^[^:=\s]+(=[^:=\s]*)?:(NoSchedule|PreferNoSchedule|NoExecute)$")))]
    #[schemars(extend("examples" = [["gpu=true:NoSchedule"]]))]
    pub taints: Vec<String>,
    /// K3s configuration of this node alone, over `k3s.config`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// How SSH logs in. What is left out comes from `~/.ssh/config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<RawSsh>,
}

/// `ssh` of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawSsh {
    /// Login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Private key file. `~` is the home folder; a relative path begins at the folder of project.yaml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["~/.ssh/id_ed25519"]))]
    pub key: Option<String>,
    /// Port of sshd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Jump host: `[user@]host[:port]` or an alias of `~/.ssh/config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["ops@bastion.example:22"]))]
    pub jump: Option<String>,
    /// Password of the user: `${secret:NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\$\{secret:[A-Z][A-Z0-9_]*\}$"))]
    pub password: Option<String>,
    /// Passphrase of the key: `${secret:NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\$\{secret:[A-Z][A-Z0-9_]*\}$"))]
    pub passphrase: Option<String>,
    /// What sudo asks for: `${secret:NAME}`. By default the value of `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\$\{secret:[A-Z][A-Z0-9_]*\}$"))]
    pub sudo_password: Option<String>,
}

/// `k3s`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawK3s {
    /// Exact version. `setup` never changes the version of a running cluster, `upgrade` does.
    #[schemars(regex(pattern = r"^v[0-9]+\.[0-9]+\.[0-9]+(-rc[0-9]+)?\+k3s[0-9]+$"))]
    pub version: String,
    /// Any key of K3s' configuration file, for every node; keys that only servers know go to servers only.
    #[schemars(extend("examples" = [{"secrets-encryption": true}]))]
    pub config: Map<String, Value>,
}

impl Default for RawK3s {
    fn default() -> Self {
        Self { version: defaults::K3S_VERSION.into(), config: Map::new() }
    }
}

/// `proxy`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawProxy {
    /// HTTP_PROXY of K3s and its containers. A password in it is `${secret:NAME}`.
    #[schemars(extend("examples" = ["http://proxy.example:3128", "http://ops:${secret:PROXY_PASSWORD}@proxy.example:3128"]))]
    pub http: Option<String>,
    /// HTTPS_PROXY, the same way.
    #[schemars(extend("examples" = ["http://proxy.example:3128"]))]
    pub https: Option<String>,
    /// More entries for NO_PROXY. The cluster's own networks and nodes are always there.
    #[schemars(extend("examples" = [["nexus.example", ".corp.example"]]))]
    pub no_proxy: Vec<String>,
}

/// `ingress`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawIngress {
    /// istio, traefik or none.
    #[serde(rename = "type")]
    pub kind: IngressKind,
    /// The ports on every node.
    pub node_ports: RawNodePorts,
}

impl Default for RawIngress {
    fn default() -> Self {
        Self { kind: defaults::INGRESS, node_ports: RawNodePorts::default() }
    }
}

/// `ingress.nodePorts`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawNodePorts {
    /// Health of the gateway (15021 in the cluster).
    #[schemars(range(min = 1, max = 65535))]
    pub status: u16,
    /// HTTP (80 in the cluster).
    #[schemars(range(min = 1, max = 65535))]
    pub http: u16,
    /// HTTPS (443 in the cluster).
    #[schemars(range(min = 1, max = 65535))]
    pub https: u16,
}

impl Default for RawNodePorts {
    fn default() -> Self {
        Self { status: defaults::PORT_STATUS, http: defaults::PORT_HTTP, https: defaults::PORT_HTTPS }
    }
}

/// `registry`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawRegistry {
    /// Its port on every node: images are `localhost:<port>/...`.
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: u16,
    /// Size of its volume, as a Kubernetes quantity.
    #[schemars(regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$"))]
    pub storage: String,
}

impl Default for RawRegistry {
    fn default() -> Self {
        Self { node_port: defaults::PORT_REGISTRY, storage: defaults::REGISTRY_STORAGE.into() }
    }
}

/// `images`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawImages {
    /// Who builds the images: jenkins (in the cluster), manual (the operator) or airgapped (elsewhere; they come as files).
    pub mode: ImageMode,
    /// Registries to look for the images in, first choice first. By default the cluster's own.
    #[schemars(extend("examples" = [["localhost:30500", "nexus.example"]]))]
    pub registries: Option<Vec<String>>,
}

impl Default for RawImages {
    fn default() -> Self {
        Self { mode: defaults::IMAGE_MODE, registries: None }
    }
}

/// `mirrors`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawMirrors {
    /// Base address of K3s' releases; files are at `<base>/<version>/<asset>`, as upstream lays them out.
    #[schemars(regex(pattern = r"^https?://\S+$"))]
    pub k3s: String,
}

impl Default for RawMirrors {
    fn default() -> Self {
        Self { k3s: defaults::K3S_MIRROR.into() }
    }
}

fn env() -> String {
    defaults::ENV.into()
}

fn site() -> String {
    defaults::SITE.into()
}

fn target_revision() -> String {
    defaults::TARGET_REVISION.into()
}

fn destination_server() -> String {
    defaults::DESTINATION_SERVER.into()
}
