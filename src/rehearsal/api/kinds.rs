//! Which kinds the simulated API knows: a fixed table of what a K3s cluster has, plus what CustomResourceDefinitions add.

use serde_json::Value;

use super::store::Store;

/// One kind of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for core.
    pub group: String,
    /// Versions served, the preferred one first.
    pub versions: Vec<String>,
    /// `kind`.
    pub kind: String,
    /// Plural, as in paths.
    pub plural: String,
    /// Singular, lower case.
    pub singular: String,
    /// Short names.
    pub short: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether it has a status subresource.
    pub status: bool,
    /// Whether it comes from a CustomResourceDefinition or K3s' own ones: no schema is known, so lists are atomic.
    pub custom: bool,
}

impl Kind {
    /// The key its objects are stored under: `group/plural`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.group, self.plural)
    }

    /// `group/version`, or the version alone for core.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// `plural.group`, or the plural alone for core: how the server's messages name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// group, versions, kind, plural, short names, namespaced, status, custom.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, bool, bool, bool);

/// What every cluster has. Versions and short names are separated by commas.
const TABLE: &[Row] = &[
    ("", "v1", "Namespace", "namespaces", "ns", false, true, false),
    ("", "v1", "Node", "nodes", "no", false, true, false),
    ("", "v1", "PersistentVolume", "persistentvolumes", "pv", false, true, false),
    ("", "v1", "Pod", "pods", "po", true, true, false),
    ("", "v1", "Service", "services", "svc", true, true, false),
    ("", "v1", "ConfigMap", "configmaps", "cm", true, false, false),
    ("", "v1", "Secret", "secrets", "", true, false, false),
    ("", "v1", "ServiceAccount", "serviceaccounts", "sa", true, false, false),
    ("", "v1", "Endpoints", "endpoints", "ep", true, false, false),
    ("", "v1", "Event", "events", "ev", true, false, false),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", true, true, false),
    ("", "v1", "ReplicationController", "replicationcontrollers", "rc", true, true, false),
    ("", "v1", "ResourceQuota", "resourcequotas", "quota", true, true, false),
    ("", "v1", "LimitRange", "limitranges", "limits", true, false, false),
    ("apps", "v1", "Deployment", "deployments", "deploy", true, true, false),
    ("apps", "v1", "DaemonSet", "daemonsets", "ds", true, true, false),
    ("apps", "v1", "StatefulSet", "statefulsets", "sts", true, true, false),
    ("apps", "v1", "ReplicaSet", "replicasets", "rs", true, true, false),
    ("apps", "v1", "ControllerRevision", "controllerrevisions", "", true, false, false),
    ("batch", "v1", "Job", "jobs", "", true, true, false),
    ("batch", "v1", "CronJob", "cronjobs", "cj", true, true, false),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", "", true, false, false),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "", true, false, false),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "", false, false, false),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "", false, false, false),
    ("autoscaling", "v2,v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", true, true, false),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", true, true, false),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", "ing", true, true, false),
    ("networking.k8s.io", "v1", "IngressClass", "ingressclasses", "", false, false, false),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "netpol", true, false, false),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "", true, false, false),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", "sc", false, false, false),
    ("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "", false, false, false),
    ("coordination.k8s.io", "v1", "Lease", "leases", "", true, false, false),
    ("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "pc", false, false, false),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "crd,crds",
        false,
        true,
        false,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        "",
        false,
        false,
        false,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        "",
        false,
        false,
        false,
    ),
    ("apiregistration.k8s.io", "v1", "APIService", "apiservices", "", false, true, false),
    ("helm.cattle.io", "v1", "HelmChart", "helmcharts", "", true, true, true),
    ("helm.cattle.io", "v1", "HelmChartConfig", "helmchartconfigs", "", true, false, true),
    ("k3s.cattle.io", "v1", "Addon", "addons", "", true, false, true),
    ("k3s.cattle.io", "v1", "ETCDSnapshotFile", "etcdsnapshotfiles", "", false, true, true),
];

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

fn from_row(row: &Row) -> Kind {
    let (group, versions, kind, plural, short, namespaced, status, custom) = *row;
    Kind {
        group: group.to_owned(),
        versions: list(versions),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        short: list(short),
        namespaced,
        status,
        custom,
    }
}

/// Reads a CustomResourceDefinition; `None` where it lacks what a real server requires.
fn from_crd(crd: &Value) -> Option<Kind> {
    let spec = crd.get("spec")?;
    let names = spec.get("names")?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let kind = text(names, "kind")?;
    let versions = spec.get("versions")?.as_array()?;
    let mut served: Vec<&Value> = versions.iter().filter(|v| v["served"] != Value::Bool(false)).collect();
    served.sort_by_key(|v| v["storage"] != Value::Bool(true));
    Some(Kind {
        group: text(spec, "group")?,
        versions: served.iter().filter_map(|v| text(v, "name")).collect(),
        plural: text(names, "plural")?,
        singular: text(names, "singular").unwrap_or_else(|| kind.to_lowercase()),
        short: names["shortNames"]
            .as_array()
            .map(|a| a.iter().filter_map(|s| s.as_str().map(str::to_owned)).collect())
            .unwrap_or_default(),
        namespaced: text(spec, "scope")? == "Namespaced",
        status: served.iter().any(|v| v["subresources"]["status"].is_object()),
        custom: true,
        kind,
    })
}

/// Every kind that is served now.
pub fn all(store: &Store) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = TABLE.iter().map(from_row).collect();
    for crd in store.list("apiextensions.k8s.io/customresourcedefinitions") {
        if let Some(kind) = from_crd(crd)
            && !kinds.iter().any(|k| k.group == kind.group && k.plural == kind.plural)
        {
            kinds.push(kind);
        }
    }
    kinds
}

/// The kind that a path names.
pub fn find(store: &Store, group: &str, version: &str, plural: &str) -> Option<Kind> {
    let served =
        |kind: &Kind| kind.group == group && kind.plural == plural && kind.versions.iter().any(|v| v == version);
    if let Some(kind) = TABLE.iter().filter(|r| r.0 == group && r.3 == plural).map(from_row).find(|k| served(k)) {
        return Some(kind);
    }
    store.list("apiextensions.k8s.io/customresourcedefinitions").filter_map(from_crd).find(|k| served(k))
}
