//! The simulated world as a run meets it: through transports, downloads, and a kube client.

mod hosts;
mod k3s;
mod mishaps;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Map;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::engine::action::hex;
use crate::host::scripts::{self, Script};
use crate::host::{HostError, Process, Transport};
use crate::project::{
    Access, ImageMode, Images, Ingress, IngressKind, K3s, K3sVersion, Node, Project, Registry, Role, SshAccess,
};

pub const VERSION: &str = "v1.36.5+k3s1";
pub const SERVER_UNIT: &str = "[Unit]\nDescription=Lightweight Kubernetes\n[Service]\nType=notify\nKillMode=process\n\
    ExecStart=/usr/local/bin/k3s server\nRestart=always\nRestartSec=5s\n[Install]\nWantedBy=multi-user.target\n";
pub const AGENT_UNIT: &str =
    "[Service]\nType=notify\nExecStart=/usr/local/bin/k3s agent\nRestart=always\nRestartSec=5s\n";

pub fn node(name: &str, role: Role, host: &str) -> Node {
    Node {
        name: Some(name.into()),
        role,
        access: Access::Ssh(SshAccess { host: host.into(), ..SshAccess::default() }),
        address: None,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        config: Map::new(),
    }
}

pub fn project(nodes: Vec<Node>) -> Project {
    Project {
        file: Some(PathBuf::from("project.yaml")),
        name: "site".into(),
        description: String::new(),
        namespace: "site".into(),
        source: None,
        env: "dev".into(),
        domain: None,
        site: "main".into(),
        nodes,
        k3s: K3s {
            version: K3sVersion { major: 1, minor: 36, patch: 5, suffix: "+k3s1".into() },
            config: Map::new(),
            token: None,
        },
        proxy: None,
        k3s_mirror: "https://mirror.example/k3s".into(),
        ingress: Ingress { kind: IngressKind::None, status_port: 30021, http_port: 30080, https_port: 30443 },
        registry: Registry { node_port: 30500, storage: "20Gi".into() },
        images: Images { mode: ImageMode::Manual, registries: Vec::new() },
        services: Vec::new(),
        extra_apps: Vec::new(),
        destinations: BTreeMap::new(),
        vars: BTreeMap::new(),
        environments: BTreeMap::new(),
    }
}

/// One server and one agent.
pub fn two() -> Project {
    project(vec![node("master", Role::Server, "10.0.0.10"), node("worker", Role::Agent, "10.0.0.11")])
}

/// How a program ended: code, standard output, standard error.
pub type Ended = (i32, String, String);

pub async fn end(mut process: Process) -> Result<Ended, HostError> {
    process.stdin.shutdown().await.ok();
    let (mut out, mut err) = (String::new(), String::new());
    process.stdout.read_to_string(&mut out).await.ok();
    process.stderr.read_to_string(&mut err).await.ok();
    let code = process.status.await?;
    Ok((code, out, err))
}

pub fn argv(script: &Script, args: &[&str]) -> Vec<String> {
    ["sh", "-c", script.text, script.name].iter().chain(args).map(|s| (*s).to_owned()).collect()
}

/// A connection with shorthands.
pub struct Shell(pub Arc<SimTransport>);

impl Shell {
    pub async fn to(world: &World, host: &str) -> Self {
        Self(Arc::new(SimTransport::connect(world, host).await.unwrap()))
    }

    pub async fn run(&self, script: &Script, args: &[&str]) -> Result<Ended, HostError> {
        end(self.0.spawn(&argv(script, args)).await?).await
    }

    pub async fn put_with(
        &self,
        path: &str,
        mode: &str,
        content: &[u8],
        unit: &str,
        offset: &str,
    ) -> Result<Ended, HostError> {
        let digest = hex(&Sha256::digest(content));
        let mut process = self.0.spawn(&argv(&scripts::PUT, &[path, mode, "", &digest, unit, offset])).await?;
        let skip = offset.parse::<usize>().unwrap_or(0);
        process.stdin.write_all(&content[skip..]).await.ok();
        end(process).await
    }

    pub async fn put(&self, path: &str, mode: &str, content: &str) {
        let ended = self.put_with(path, mode, content.as_bytes(), "", "").await.unwrap();
        assert_eq!(ended.0, 0, "{}", ended.2);
    }

    /// Installs K3s with a unit and a configuration, and starts it.
    pub async fn start(&self, unit: &str, text: &str, config: &str) -> Ended {
        self.put("/usr/local/bin/k3s", "755", &format!("xgenctl simulated k3s {VERSION} amd64\n")).await;
        self.put("/etc/rancher/k3s/config.yaml", "600", config).await;
        self.put(&format!("/etc/systemd/system/{unit}"), "644", text).await;
        let started = self.run(&scripts::UNIT, &["start", unit]).await.unwrap();
        assert_eq!(started.0, 0, "{}", started.2);
        self.run(&scripts::WAIT_UNIT, &[unit, "60"]).await.unwrap()
    }

    pub async fn journal(&self, unit: &str) -> String {
        self.run(&scripts::JOURNAL, &[unit, "100"]).await.unwrap().1
    }
}

/// A tunnel as a connection of hyper's client.
struct Tunnel(hyper_util::rt::TokioIo<Box<dyn crate::host::Stream>>);

impl hyper_util::client::legacy::connect::Connection for Tunnel {
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        hyper_util::client::legacy::connect::Connected::new()
    }
}

impl hyper::rt::Read for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A kube client through the tunnel of a server, with the kubeconfig that K3s wrote there.
pub async fn client(world: &World, shell: &Shell, host: &str) -> kube::Client {
    let text = world.host(host, |h| h.read_text("/etc/rancher/k3s/k3s.yaml")).flatten().unwrap();
    let config = Kubeconfig::from_yaml(&text).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let transport = shell.0.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let transport = transport.clone();
        Box::pin(async move {
            let stream = transport.open_tcp("127.0.0.1", 6443).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(Tunnel(hyper_util::rt::TokioIo::new(stream)))
        })
    });
    let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build(connector);
    let http = tower::util::MapErr::new(http, tower::BoxError::from);
    let auth = config.auth_layer().unwrap().unwrap();
    kube::client::ClientBuilder::new(http, "default").with_layer(&auth).with_layer(&config.base_uri_layer()).build()
}
