//! Command line, configuration files and environment, read as K3s reads them.
//!
//! Keys of the configuration become flags in front of those of the command line, so the command line wins, and lists of
//! both are joined. A server skips keys of the file that it does not know with a warning; an agent fails on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_yaml::Value;

/// What this process is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Control plane.
    Server,
    /// Worker.
    Agent,
}

/// Flags by name, with all their values in order.
pub struct Settings {
    role: Role,
    values: BTreeMap<String, Vec<String>>,
}

/// Flags of servers and agents.
const COMMON: &str = "config debug v vmodule log alsologtostderr token token-file server data-dir node-name with-node-id \
    node-label node-taint image-credential-provider-bin-dir image-credential-provider-config selinux lb-server-port \
    protect-kernel-defaults container-runtime-endpoint default-runtime image-service-endpoint \
    disable-default-registry-endpoint nonroot-devices pause-image snapshotter private-registry node-ip node-external-ip \
    node-internal-dns node-external-dns bind-address resolv-conf flannel-iface flannel-conf flannel-cni-conf vpn-auth \
    vpn-auth-file kubelet-arg kube-proxy-arg enable-pprof rootless prefer-bundled-bin docker";

/// Flags of agents alone.
const AGENT: &str = "disable-apiserver-lb airgap-extra-registry";

/// Flags of servers alone.
const SERVER: &str = "https-listen-port supervisor-port apiserver-port advertise-address advertise-port tls-san \
    tls-san-security cluster-cidr service-cidr service-node-port-range cluster-dns cluster-domain flannel-backend \
    flannel-ipv6-masq flannel-external-ip egress-selector-mode servicelb-namespace write-kubeconfig \
    write-kubeconfig-mode write-kubeconfig-group helm-job-image agent-token agent-token-file cluster-init cluster-reset \
    cluster-reset-restore-path kube-apiserver-arg etcd-arg kube-controller-manager-arg kube-scheduler-arg \
    kube-cloud-controller-manager-arg datastore-endpoint datastore-cafile datastore-certfile datastore-keyfile kine-tls \
    etcd-expose-metrics etcd-disable-snapshots etcd-snapshot-name etcd-snapshot-schedule-cron \
    etcd-snapshot-reconcile-interval etcd-snapshot-retention etcd-snapshot-dir etcd-snapshot-compress etcd-s3 \
    etcd-s3-endpoint etcd-s3-endpoint-ca etcd-s3-skip-ssl-verify etcd-s3-access-key etcd-s3-secret-key etcd-s3-bucket \
    etcd-s3-region etcd-s3-folder etcd-s3-insecure etcd-s3-timeout etcd-s3-config-secret etcd-s3-proxy \
    default-local-storage-path disable disable-scheduler disable-cloud-controller disable-kube-proxy \
    disable-network-policy disable-helm-controller disable-apiserver disable-controller-manager disable-etcd \
    embedded-registry supervisor-metrics secrets-encryption secrets-encryption-provider system-default-registry \
    datastore-metrics";

/// Flags that take no value on the command line.
const SWITCHES: &str = "debug alsologtostderr with-node-id selinux protect-kernel-defaults \
    disable-default-registry-endpoint nonroot-devices enable-pprof rootless prefer-bundled-bin docker \
    disable-apiserver-lb tls-san-security flannel-ipv6-masq flannel-external-ip cluster-init cluster-reset kine-tls \
    etcd-expose-metrics etcd-disable-snapshots etcd-snapshot-compress etcd-s3 etcd-s3-skip-ssl-verify etcd-s3-insecure \
    disable-scheduler disable-cloud-controller disable-kube-proxy disable-network-policy disable-helm-controller \
    disable-apiserver disable-controller-manager disable-etcd embedded-registry supervisor-metrics secrets-encryption";

/// One-letter names.
const ALIASES: [(&str, &str); 7] = [
    ("c", "config"),
    ("t", "token"),
    ("s", "server"),
    ("d", "data-dir"),
    ("i", "node-ip"),
    ("o", "write-kubeconfig"),
    ("l", "log"),
];

/// Variables that stand for a flag which is not given.
const VARIABLES: [(&str, &str); 10] = [
    ("K3S_TOKEN", "token"),
    ("K3S_TOKEN_FILE", "token-file"),
    ("K3S_URL", "server"),
    ("K3S_NODE_NAME", "node-name"),
    ("K3S_DATA_DIR", "data-dir"),
    ("K3S_AGENT_TOKEN", "agent-token"),
    ("K3S_CLUSTER_INIT", "cluster-init"),
    ("K3S_KUBECONFIG_OUTPUT", "write-kubeconfig"),
    ("K3S_KUBECONFIG_MODE", "write-kubeconfig-mode"),
    ("K3S_RESOLV_CONF", "resolv-conf"),
];

impl Settings {
    /// Reads everything; `args` is what follows `server` or `agent`.
    pub fn load(role: Role, args: &[String]) -> anyhow::Result<Self> {
        let given = flags(role, args)?;
        let named = given.iter().rfind(|(name, _)| name == "config").map(|(_, path)| path.clone());
        let named = named.or_else(|| std::env::var("K3S_CONFIG_FILE").ok());
        let path = PathBuf::from(named.as_deref().unwrap_or("/etc/rancher/k3s/config.yaml"));
        let mut settings = Self { role, values: BTreeMap::new() };
        for (name, values) in files(&path, named.is_some())? {
            if !is_known(role, &name) {
                match role {
                    Role::Server => {
                        crate::log::line("warning", &format!("Unknown flag --{name} found in config.yaml, skipping\n"));
                        continue;
                    }
                    Role::Agent => bail!("flag provided but not defined: -{name}"),
                }
            }
            settings.values.entry(long(&name)).or_default().extend(values);
        }
        for (name, value) in given {
            settings.values.entry(name).or_default().push(value);
        }
        for (variable, name) in VARIABLES {
            if let Ok(value) = std::env::var(variable)
                && !value.is_empty()
                && is_known(role, name)
            {
                settings.values.entry(name.to_owned()).or_insert_with(|| vec![value]);
            }
        }
        if let Some(path) = settings.get("token-file").map(str::to_owned) {
            let token = std::fs::read_to_string(&path).with_context(|| path)?;
            settings.values.entry("token".to_owned()).or_insert_with(|| vec![token.trim().to_owned()]);
        }
        Ok(settings)
    }

    /// What this process is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The last value of a flag, if it is given and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All values of a flag; one value may hold several, separated by commas.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values.get(name).into_iter().flatten().flat_map(|value| value.split(',')).filter(|value| !value.is_empty())
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        Path::new(self.get("data-dir").unwrap_or("/var/lib/rancher/k3s"))
    }

    /// The name of this node.
    pub fn node_name(&self) -> anyhow::Result<String> {
        let name = match self.get("node-name") {
            Some(name) => name.to_owned(),
            None => std::fs::read_to_string("/proc/sys/kernel/hostname")?,
        };
        Ok(name.trim().to_lowercase())
    }
}

fn long(name: &str) -> String {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, long)| long).to_owned()
}

fn is_known(role: Role, name: &str) -> bool {
    let name = long(name);
    let own = if role == Role::Server { SERVER } else { AGENT };
    COMMON.split_whitespace().chain(own.split_whitespace()).any(|known| known == name)
}

/// Flags of the command line.
fn flags(role: Role, args: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            bail!("flag provided but not defined: {arg}");
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if !is_known(role, name) {
            bail!("flag provided but not defined: -{name}");
        }
        let name = long(name);
        let value = match value {
            Some(value) => value,
            None if SWITCHES.split_whitespace().any(|switch| switch == name) => "true".to_owned(),
            None => args.next().with_context(|| format!("flag needs an argument: -{name}"))?.clone(),
        };
        found.push((name, value));
    }
    Ok(found)
}

/// The configuration file and those in the folder beside it (`config.yaml.d`), later ones over earlier ones; a key that
/// ends with `+` adds to what there is.
fn files(path: &Path, required: bool) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut paths = Vec::new();
    if required || path.exists() {
        paths.push(path.to_owned());
    }
    if let Ok(entries) = std::fs::read_dir(path.with_extension("yaml.d")) {
        let mut more = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        more.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
        more.sort();
        paths.extend(more);
    }
    let mut merged: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let content: Option<BTreeMap<String, Value>> =
            serde_yaml::from_str(&text).with_context(|| path.display().to_string())?;
        for (key, value) in content.unwrap_or_default() {
            let values = match value {
                Value::Sequence(list) => list.iter().map(scalar).collect::<anyhow::Result<_>>()?,
                single => vec![scalar(&single)?],
            };
            match key.strip_suffix('+') {
                Some(key) => merged.entry(key.to_owned()).or_default().extend(values),
                None => {
                    merged.insert(key, values);
                }
            }
        }
    }
    Ok(merged)
}

fn scalar(value: &Value) -> anyhow::Result<String> {
    Ok(match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => value.clone(),
        other => bail!("invalid configuration value: {other:?}"),
    })
}
