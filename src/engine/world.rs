//! What a run works on: the project's hosts and its cluster, connected when first needed, seen once until something
//! changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use kube::Client;
use tokio::sync::Mutex;

use super::error::StepError;
use super::module::AnyModule;
use crate::artifact::Download;
use crate::cluster::{self, NodesSeen};
use crate::host::{Host, HostError, HostSeen, Interest};
use crate::project::{Access, Node, Project, Role};
use crate::secret::{Redactor, Secret};

/// The real world, or a rehearsal's: how nodes are reached and where downloads come from.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Connects a node. Called once per node and run, and again after a connection broke.
    async fn connect(&self, node: &Node) -> Result<Host, HostError>;

    /// Where artifacts are downloaded from.
    fn download(&self) -> &dyn Download;
}

/// The path of the kubeconfig that K3s writes on every server.
pub const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";

struct Slot {
    node: Node,
    interests: BTreeSet<Interest>,
    host: Mutex<Option<Host>>,
    seen: Mutex<Option<Arc<HostSeen>>>,
}

/// The hosts and the cluster of one project during one run.
pub struct World {
    project: Project,
    backend: Arc<dyn Backend>,
    slots: BTreeMap<String, Slot>,
    client: Mutex<Option<Client>>,
    nodes: Mutex<Option<NodesSeen>>,
    fresh_token: Secret,
    redactor: Redactor,
}

impl World {
    /// A world in which nothing has been connected or seen yet.
    ///
    /// `fresh_token` becomes the join token if this run makes a new cluster and nobody chose one.
    pub fn new(
        project: Project,
        backend: Arc<dyn Backend>,
        modules: &[Box<dyn AnyModule>],
        fresh_token: Secret,
        redactor: Redactor,
    ) -> Self {
        redactor.learn(&fresh_token);
        let slots = project
            .nodes
            .iter()
            .map(|node| {
                let interests = modules.iter().flat_map(|m| m.interests(&project, node)).collect();
                let slot = Slot { node: node.clone(), interests, host: Mutex::default(), seen: Mutex::default() };
                (node.display_name().to_owned(), slot)
            })
            .collect();
        Self { project, backend, slots, client: Mutex::default(), nodes: Mutex::default(), fresh_token, redactor }
    }

    /// What is wanted.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Learns secrets that are found on the way.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The join token of a cluster that is made in this run.
    pub fn fresh_token(&self) -> &Secret {
        &self.fresh_token
    }

    /// Where artifacts are downloaded from.
    pub fn download(&self) -> &dyn Download {
        self.backend.download()
    }

    /// The nodes that xgenctl can reach.
    pub fn reachable(&self) -> impl Iterator<Item = &Node> {
        self.project.nodes.iter().filter(|n| !matches!(n.access, Access::Manual))
    }

    /// The server that holds the run lock: the first one of project.yaml.
    pub fn first_server(&self) -> Option<&Node> {
        self.reachable().find(|n| n.role == Role::Server)
    }

    fn slot(&self, node: &str) -> Result<&Slot, HostError> {
        self.slots.get(node).ok_or_else(|| HostError::Protocol {
            host: node.to_owned(),
            reason: "project.yaml has no node of that name".into(),
        })
    }

    /// The connection to a node, made now if there is none.
    pub async fn host(&self, node: &str) -> Result<Host, HostError> {
        let slot = self.slot(node)?;
        let mut guard = slot.host.lock().await;
        if let Some(host) = &*guard {
            return Ok(host.clone());
        }
        let host = self.backend.connect(&slot.node).await?;
        *guard = Some(host.clone());
        Ok(host)
    }

    /// Forgets a broken connection, so that the next use makes a new one.
    pub async fn disconnect(&self, node: &str) {
        if let Some(slot) = self.slots.get(node) {
            *slot.host.lock().await = None;
        }
        *self.client.lock().await = None;
    }

    /// What there is to see on a node: one probe, kept until something is done there.
    pub async fn survey(&self, node: &str) -> Result<Arc<HostSeen>, HostError> {
        let slot = self.slot(node)?;
        let mut guard = slot.seen.lock().await;
        if let Some(seen) = &*guard {
            return Ok(seen.clone());
        }
        let host = self.host(node).await?;
        let seen = Arc::new(host.probe(&slot.interests).await?);
        *guard = Some(seen.clone());
        Ok(seen)
    }

    /// Surveys several nodes at once.
    pub async fn survey_all<'a>(
        &self,
        nodes: impl IntoIterator<Item = &'a Node>,
    ) -> Vec<(&'a Node, Result<Arc<HostSeen>, HostError>)> {
        join_all(nodes.into_iter().map(|node| async move { (node, self.survey(node.display_name()).await) })).await
    }

    /// Forgets what was seen of a node and of the cluster: something was done there.
    pub async fn touched(&self, node: Option<&str>) {
        if let Some(slot) = node.and_then(|n| self.slots.get(n)) {
            *slot.seen.lock().await = None;
        }
        *self.nodes.lock().await = None;
    }

    /// A client for the API, through the first server that has a kubeconfig; `None` where no server has one.
    ///
    /// # Errors
    /// Where a server cannot be seen or its kubeconfig makes no sense.
    pub async fn client(&self) -> Result<Option<Client>, StepError> {
        let mut guard = self.client.lock().await;
        if let Some(client) = &*guard {
            return Ok(Some(client.clone()));
        }
        for node in self.reachable().filter(|n| n.role == Role::Server) {
            let seen = self.survey(node.display_name()).await?;
            let running = seen.units.get("k3s.service").is_some_and(|u| u.is_active());
            let kubeconfig = seen.files.get(KUBECONFIG).and_then(|f| f.content.as_ref());
            if let (true, Some(content)) = (running, kubeconfig) {
                let host = self.host(node.display_name()).await?;
                let client = cluster::connect(&host, &String::from_utf8_lossy(content)).await?;
                *guard = Some(client.clone());
                return Ok(Some(client));
            }
        }
        Ok(None)
    }

    /// What the API says of its nodes, kept until something is done.
    ///
    /// # Errors
    /// Where a server cannot be seen; an API that does not answer is [`NodesSeen::Unreachable`].
    pub async fn nodes(&self) -> Result<NodesSeen, StepError> {
        let mut guard = self.nodes.lock().await;
        if let Some(nodes) = &*guard {
            return Ok(nodes.clone());
        }
        let nodes = match self.client().await? {
            None => NodesSeen::NoCluster,
            Some(client) => match cluster::nodes::list(&client).await {
                Ok(nodes) => NodesSeen::Seen(nodes),
                Err(error) if error.transient => NodesSeen::Unreachable(error.reason),
                Err(error) => return Err(error.into()),
            },
        };
        *guard = Some(nodes.clone());
        Ok(nodes)
    }
}
