//! The rehearsed world as a run's backend.

use std::sync::Arc;

use async_trait::async_trait;

use super::download::SimDownload;
use super::transport::SimTransport;
use super::world::World;
use crate::artifact::Download;
use crate::engine::Backend;
use crate::host::{Host, HostError, Sudo};
use crate::project::Node;

/// Connects to simulated servers.
pub struct RehearsalBackend {
    world: World,
    download: SimDownload,
}

impl RehearsalBackend {
    /// A backend on a world.
    pub fn new(world: World) -> Self {
        Self { download: SimDownload::new(world.clone()), world }
    }

    /// The world behind it.
    pub fn world(&self) -> &World {
        &self.world
    }
}

#[async_trait]
impl Backend for RehearsalBackend {
    async fn connect(&self, node: &Node) -> Result<Host, HostError> {
        let name = node.display_name();
        let transport = SimTransport::connect(&self.world, name).await?;
        Ok(Host::new(name, Arc::new(transport), Sudo::NotNeeded))
    }

    fn download(&self) -> &dyn Download {
        &self.download
    }
}
