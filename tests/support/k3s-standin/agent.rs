//! How a node joins: the server's authority is checked against the token, the node proves with its password that it is
//! the one that registered under its name, and gets a client certificate.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Certificate, Client, Identity, StatusCode};

use crate::config::Settings;
use crate::token::Token;
use crate::{log, node, notify_ready, server, token};

/// Where a node keeps the password of its name.
const NODE_PASSWORD: &str = "/etc/rancher/node/password";

/// Time between attempts.
const RETRY: Duration = Duration::from_secs(2);

/// Runs an agent until it is ended.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let url = settings.get("server").context("--server is required")?.trim_end_matches('/').to_owned();
    let token = settings.get("token").context("--token is required")?;
    let token = Token::parse(token)?;
    let api = join_until_it_works(&settings, &url, &token).await?;
    let node = node::register(&settings, &api).await?;
    notify_ready()?;
    node.keep_alive(&api).await
}

/// The cluster's API, as a node reaches it.
pub struct Api {
    /// Shows the node's certificate.
    pub client: Client,
    /// `https://<server>:6443`.
    pub url: String,
}

/// Joins; as the real one, an agent never gives up.
pub async fn join_until_it_works(settings: &Settings, url: &str, token: &Token) -> anyhow::Result<Api> {
    for folder in ["/etc/rancher/node", "/run/k3s", "/var/lib/kubelet"] {
        std::fs::create_dir_all(folder).with_context(|| folder.to_owned())?;
    }
    loop {
        match join(settings, url, token).await {
            Ok(api) => return Ok(api),
            Err(error) => log::line("error", &format!("{error:#}")),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn join(settings: &Settings, url: &str, token: &Token) -> anyhow::Result<Api> {
    let authority = authority(url, token).await?;
    let client = trusting(&authority)?.build()?;
    let name = settings.node_name()?;
    let answer = client
        .get(format!("{url}/v1-k3s/client-kubelet.crt"))
        .basic_auth("node", Some(&token.password))
        .header("k3s-Node-Name", &name)
        .header("k3s-Node-Password", node_password()?)
        .send()
        .await?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::FORBIDDEN => bail!(
            "Waiting to retrieve agent configuration; server is not ready: Node password rejected, duplicate hostname or \
             contents of '{NODE_PASSWORD}' may not match server node-passwd entry, try enabling a unique node name with \
             the --with-node-id flag"
        ),
        status => bail!("Waiting to retrieve agent configuration; server is not ready: {}: {status}", answer.url()),
    }
    let identity = answer.text().await?;
    let folder = settings.data().join("agent");
    std::fs::create_dir_all(&folder)?;
    server::write_secret(&folder.join("server-ca.crt"), authority.as_bytes(), 0o644)?;
    server::write_secret(&folder.join("client-kubelet.pem"), identity.as_bytes(), 0o600)?;
    let client = trusting(&authority)?.identity(Identity::from_pem(identity.as_bytes())?).build()?;
    Ok(Api { client, url: url.to_owned() })
}

/// A server's certificate authority, checked against the token.
pub async fn authority(url: &str, token: &Token) -> anyhow::Result<String> {
    if !url.starts_with("https://") {
        bail!("only https:// URLs are supported, invalid scheme: {url}");
    }
    // Whom this client talks to is not known yet: that is what the digest in the token is for.
    let blind = builder().tls_danger_accept_invalid_certs(true).build()?;
    let answer = blind.get(format!("{url}/cacerts")).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status).context("failed to get CA certs")?;
    let authority = answer.text().await?;
    token.verify(&authority)?;
    Ok(authority)
}

/// A client that trusts this authority alone.
pub fn trusting(authority: &str) -> anyhow::Result<reqwest::ClientBuilder> {
    Ok(builder().tls_certs_only([Certificate::from_pem(authority.as_bytes())?]))
}

fn builder() -> reqwest::ClientBuilder {
    Client::builder().no_proxy().http1_only().connect_timeout(Duration::from_secs(10))
}

fn node_password() -> anyhow::Result<String> {
    let path = Path::new(NODE_PASSWORD);
    if !path.exists() {
        server::write_secret(path, format!("{}\n", token::random(16)).as_bytes(), 0o600)?;
    }
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}
