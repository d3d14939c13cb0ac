//! Every default of project.yaml, once. The JSON Schema and the reference page show these same values.

use super::model::{ImageMode, IngressKind};

/// `k3s.version`.
pub const K3S_VERSION: &str = "v1.36.5+k3s1";
/// `mirrors.k3s`.
pub const K3S_MIRROR: &str = "https://github.com/k3s-io/k3s/releases/download";
/// `project.name` where there is no project.yaml at all.
pub const PROJECT_NAME: &str = "xgen";
/// `env`.
pub const ENV: &str = "dev";
/// `site`.
pub const SITE: &str = "main";
/// `source.targetRevision`.
pub const TARGET_REVISION: &str = "main";
/// `destinations.<env>.server`: the cluster itself.
pub const DESTINATION_SERVER: &str = "https://kubernetes.default.svc";
/// `ingress.type`.
pub const INGRESS: IngressKind = IngressKind::Istio;
/// `ingress.nodePorts.status`.
pub const PORT_STATUS: u16 = 30021;
/// `ingress.nodePorts.http`.
pub const PORT_HTTP: u16 = 30080;
/// `ingress.nodePorts.https`.
pub const PORT_HTTPS: u16 = 30443;
/// `registry.nodePort`.
pub const PORT_REGISTRY: u16 = 30500;
/// `registry.storage`.
pub const REGISTRY_STORAGE: &str = "20Gi";
/// `images.mode`.
pub const IMAGE_MODE: ImageMode = ImageMode::Jenkins;
/// Kubernetes' default range of node ports; `service-node-port-range` in `k3s.config` changes it.
pub const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
/// SSH's own default port, for telling whether two nodes are the same machine.
pub const SSH_PORT: u16 = 22;
