//! The real world: this machine, servers over SSH, downloads over HTTP.

use async_trait::async_trait;

use super::world::Backend;
use crate::artifact::{Download, HttpDownload};
use crate::host::{Host, HostError, local, ssh};
use crate::project::{Access, Node};

/// Real hosts and a real download.
pub struct LiveBackend {
    options: ssh::SshOptions,
    download: HttpDownload,
}

impl LiveBackend {
    /// A backend that connects with these settings.
    pub fn new(options: ssh::SshOptions, download: HttpDownload) -> Self {
        Self { options, download }
    }
}

#[async_trait]
impl Backend for LiveBackend {
    async fn connect(&self, node: &Node) -> Result<Host, HostError> {
        let name = node.display_name();
        match &node.access {
            Access::Local { sudo_password } => Ok(local::connect_local(name, sudo_password.clone())),
            Access::Ssh(access) => ssh::connect_ssh(name, access, &self.options).await,
            Access::Manual => Err(HostError::Login {
                host: name.to_owned(),
                reason: "project.yaml says `join: manual`: xgenctl does not log in there".into(),
            }),
        }
    }

    fn download(&self) -> &dyn Download {
        &self.download
    }
}
