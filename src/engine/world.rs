//! What a run works on: the project's hosts and cluster, connected when first needed.

use async_trait::async_trait;

use crate::artifact::Download;
use crate::host::{Host, HostError};
use crate::project::Node;

/// The real world, or a rehearsal's: how nodes are reached and where downloads come from.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Connects a node. Called once per node and run, and again after a connection broke.
    async fn connect(&self, node: &Node) -> Result<Host, HostError>;

    /// Where artifacts are downloaded from.
    fn download(&self) -> &dyn Download;
}
