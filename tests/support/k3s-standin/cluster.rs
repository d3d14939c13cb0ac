//! The Kubernetes API behind a server: the simulated cluster, or the one of the server that was joined.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use reqwest::{Client, Identity};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use xgenctl::rehearsal::api::{Api, Store};

use crate::certificates::{Authority, Purpose};
use crate::server::{Answer, failure, write_secret};
use crate::{agent, log, node};

/// A node that gave no sign of life for this long is not ready. A real controller waits forty seconds.
const GRACE_MS: i64 = 10_000;

/// The cluster that a server serves.
pub enum Cluster {
    /// This server holds it.
    Own(Own),
    /// Another server holds it; this one passes everything on.
    Of {
        /// Shows this server's certificate.
        client: Client,
        /// Address of the other server.
        url: String,
    },
}

/// The simulated cluster and the file it is kept in.
pub struct Own {
    api: Api,
    file: PathBuf,
}

impl Cluster {
    /// The cluster that is kept in a file, or a new one.
    pub fn own(file: &Path, version: &str) -> anyhow::Result<Self> {
        let clock = Arc::new(|| Timestamp::now().as_millisecond());
        let api = if file.exists() {
            let kept = fs::read(file).with_context(|| file.display().to_string())?;
            let mut store: Store = serde_json::from_slice(&kept).with_context(|| file.display().to_string())?;
            store.version = version.to_owned();
            Api::restore(store, clock)
        } else {
            Api::new(version, clock)
        };
        let own = Own { api, file: file.to_owned() };
        own.save()?;
        Ok(Self::Own(own))
    }

    /// The cluster of another server, which trusts the same authority.
    pub fn of(url: &str, authority: &Authority) -> anyhow::Result<Self> {
        let admin = authority.sign("system:k3s-supervisor", Purpose::Client("system:masters"))?;
        let identity = Identity::from_pem((admin.certificate + &admin.key).as_bytes())?;
        let client = agent::trusting(&authority.certificate)?.identity(identity).build()?;
        Ok(Self::Of { client, url: url.to_owned() })
    }

    /// Answers a request to the API.
    pub async fn handle(&self, request: Request<Bytes>) -> Answer {
        match self {
            Self::Own(own) => own.api.handle(request).await,
            Self::Of { client, url } => pass_on(client, url, request).await.unwrap_or_else(|error| {
                let message = format!("the first server does not answer: {error:#}");
                failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &message)
            }),
        }
    }

    /// Keeps what changes, and finds nodes that fell silent; never ends by itself.
    pub async fn look_after(&self) -> anyhow::Result<()> {
        let Self::Own(own) = self else { return std::future::pending().await };
        let mut changes = own.api.changes();
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ready = BTreeSet::new();
        loop {
            ticks.tick().await;
            own.silence();
            let now_ready = own.ready_nodes();
            if now_ready != ready {
                ready = now_ready;
                own.api.nodes_changed();
            }
            if changes.has_changed()? {
                changes.mark_unchanged();
                own.save()?;
            }
        }
    }
}

impl Own {
    fn save(&self) -> anyhow::Result<()> {
        write_secret(&self.file, &serde_json::to_vec(&self.api.snapshot())?, 0o600)
    }

    fn nodes(&self) -> Vec<Value> {
        self.api.look(|store| store.list("/nodes").cloned().collect())
    }

    fn ready_nodes(&self) -> BTreeSet<String> {
        let nodes = self.nodes().into_iter().filter(|node| condition(node).is_some_and(|c| c["status"] == "True"));
        nodes.filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// Marks nodes whose last sign of life is too old, in the words of the real controller.
    fn silence(&self) {
        let now = Timestamp::now();
        for node in self.nodes() {
            let last = condition(&node).filter(|ready| ready["status"] == "True");
            let last = last.and_then(|ready| ready["lastHeartbeatTime"].as_str()?.parse::<Timestamp>().ok());
            let Some(last) = last else { continue };
            if now.as_millisecond() - last.as_millisecond() < GRACE_MS {
                continue;
            }
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            log::line("info", &format!("Node {name} stopped posting status"));
            self.api.modify_as("kube-controller-manager", "/nodes", name, |node| {
                for condition in node["status"]["conditions"].as_array_mut().into_iter().flatten() {
                    condition["status"] = json!("Unknown");
                    condition["reason"] = json!("NodeStatusUnknown");
                    condition["message"] = json!("Kubelet stopped posting node status.");
                    condition["lastTransitionTime"] = json!(node::now());
                }
            });
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = self.save() {
            log::line("error", &format!("the cluster's state is lost: {error:#}"));
        }
    }
}

/// The Ready condition of a node.
fn condition(node: &Value) -> Option<&Value> {
    node["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")
}

async fn pass_on(client: &Client, url: &str, request: Request<Bytes>) -> anyhow::Result<Answer> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut passed = client.request(head.method, format!("{url}{path}")).body(body);
    for name in [header::CONTENT_TYPE, header::ACCEPT, header::USER_AGENT] {
        if let Some(value) = head.headers.get(&name) {
            passed = passed.header(name, value);
        }
    }
    let answer = passed.send().await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(kind) = answer.headers().get(header::CONTENT_TYPE) {
        response = response.header(header::CONTENT_TYPE, kind);
    }
    // A watch whose other end broke simply ends; its client starts another one.
    let frames = answer.bytes_stream().take_while(|part| std::future::ready(part.is_ok()));
    let frames = frames.filter_map(|part| std::future::ready(part.ok().map(|bytes| Ok(Frame::data(bytes)))));
    Ok(response.body(StreamBody::new(frames).boxed_unsync())?)
}
