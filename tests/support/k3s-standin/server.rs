//! The control plane: certificates, token and kubeconfig on disk, the API and the supervisor's endpoints on one port.

use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Authority, Purpose};
use crate::cluster::Cluster;
use crate::config::Settings;
use crate::token::{self, Token};
use crate::{agent, log, node, notify_ready};

/// An answer; watches stream theirs.
pub type Answer = Response<xgenctl::rehearsal::api::Body>;

/// What every connection needs.
struct Supervisor {
    authority: Authority,
    password: String,
    cluster: Cluster,
}

/// Runs a server until it is ended.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let data = settings.data().join("server");
    let tls = data.join("tls");
    let joins = settings.get("server").map(|url| url.trim_end_matches('/').to_owned());
    let given = settings.get("token").map(Token::parse).transpose()?;
    let authority = match (Authority::load(&tls)?, &joins) {
        (Some(authority), _) => authority,
        (None, None) => Authority::generate()?,
        (None, Some(url)) => {
            let token = given.as_ref().context("--token is required to join a cluster")?;
            bootstrap(url, token).await.context("preparing server: failed to bootstrap cluster data")?
        }
    };
    authority.save(&tls)?;
    let password = password(&data, given)?;
    let whole = token::full(&authority.certificate, &password);
    write_secret(&data.join("token"), format!("{whole}\n").as_bytes(), 0o600)?;
    let _ = fs::remove_file(data.join("node-token"));
    std::os::unix::fs::symlink("token", data.join("node-token"))?;

    let port: u16 = settings.get("https-listen-port").unwrap_or("6443").parse().context("https-listen-port")?;
    let admin = authority.sign("system:admin", Purpose::Client("system:masters"))?;
    let kubeconfig = kubeconfig(port, &authority.certificate, &admin.certificate, &admin.key)?;
    let path = settings.get("write-kubeconfig").unwrap_or("/etc/rancher/k3s/k3s.yaml");
    let mode = u32::from_str_radix(settings.get("write-kubeconfig-mode").unwrap_or("0600"), 8);
    write_secret(Path::new(path), kubeconfig.as_bytes(), mode.context("write-kubeconfig-mode")?)?;

    let cluster = match &joins {
        None => Cluster::own(&data.join("db/state.json"), &crate::version()?)?,
        Some(url) => Cluster::of(url, &authority)?,
    };
    let mut names = vec![settings.node_name()?, node::address(&settings)?.to_string()];
    names.extend(["localhost", "127.0.0.1", "kubernetes", "kubernetes.default.svc", "10.43.0.1"].map(str::to_owned));
    names.extend(settings.all("tls-san").map(str::to_owned));
    let acceptor = acceptor(&authority, names)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.with_context(|| format!("port {port}"))?;
    let supervisor = Arc::new(Supervisor { authority, password: password.clone(), cluster });
    let serving = tokio::spawn(serve(listener, acceptor, supervisor.clone()));

    // A server is a node too, and joins itself as agents join it.
    let myself = Token::parse(&whole)?;
    let api = agent::join_until_it_works(&settings, &format!("https://127.0.0.1:{port}"), &myself).await?;
    let node = node::register(&settings, &api).await?;
    notify_ready()?;
    tokio::select! {
        ended = serving => ended?,
        ended = node.keep_alive(&api) => ended,
        ended = supervisor.cluster.look_after() => ended,
    }
}

/// The password of an earlier start, which a configured one must equal, else the configured one, else a new one.
fn password(data: &Path, given: Option<Token>) -> anyhow::Result<String> {
    let path = data.join("token");
    let kept = if path.exists() { Some(Token::parse(fs::read_to_string(path)?.trim())?.password) } else { None };
    match (kept, given.map(|token| token.password)) {
        (Some(kept), Some(given)) if kept != given => {
            bail!(
                "starting kubernetes: preparing server: bootstrap data already found and encrypted with different token"
            )
        }
        (Some(password), _) | (None, Some(password)) => Ok(password),
        (None, None) => Ok(token::random(16)),
    }
}

/// Gets the certificate authority from the server that is joined.
async fn bootstrap(url: &str, token: &Token) -> anyhow::Result<Authority> {
    let certificate = agent::authority(url, token).await?;
    let client = agent::trusting(&certificate)?.build()?;
    let request = client.get(format!("{url}/v1-k3s/server-bootstrap")).basic_auth("server", Some(&token.password));
    let answer = request.send().await?.error_for_status()?;
    Ok(serde_json::from_slice(&answer.bytes().await?)?)
}

fn kubeconfig(port: u16, authority: &str, certificate: &str, key: &str) -> anyhow::Result<String> {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    Ok(serde_yaml::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "default", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": base64(authority),
        }}],
        "users": [{ "name": "default", "user": {
            "client-certificate-data": base64(certificate),
            "client-key-data": base64(key),
        }}],
        "contexts": [{ "name": "default", "context": { "cluster": "default", "user": "default" } }],
        "current-context": "default",
        "preferences": {},
    }))?)
}

/// Writes a file that must never be seen half-written or by others.
pub fn write_secret(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::io::Write as _;
    let folder = path.parent().context("a path with a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let part = path.with_extension("part");
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
        file.write_all(content)?;
        fs::set_permissions(&part, fs::Permissions::from_mode(mode))?;
        fs::rename(&part, path)
    };
    write().with_context(|| path.display().to_string())
}

fn acceptor(authority: &Authority, names: Vec<String>) -> anyhow::Result<TlsAcceptor> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes())?)?;
    // Agents have no certificate yet when they join: they show the token.
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build()?;
    let signed = authority.sign("k3s", Purpose::Serving(names))?;
    let mut config = rustls::ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(
        vec![CertificateDer::from_pem_slice(signed.certificate.as_bytes())?],
        PrivateKeyDer::from_pem_slice(signed.key.as_bytes())?,
    )?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, supervisor: Arc<Supervisor>) -> anyhow::Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        let (acceptor, supervisor) = (acceptor.clone(), supervisor.clone());
        tokio::spawn(async move {
            let connection = match acceptor.accept(connection).await {
                Ok(connection) => connection,
                // Port checks connect and say nothing.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return,
                Err(error) => return log::line("info", &format!("http: TLS handshake error: {error}")),
            };
            let known = connection.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let supervisor = supervisor.clone();
                async move {
                    let (head, body) = request.into_parts();
                    Ok::<_, Infallible>(match body.collect().await {
                        Ok(body) => supervisor.answer(Request::from_parts(head, body.to_bytes()), known).await,
                        Err(error) => failure(StatusCode::BAD_REQUEST, "BadRequest", &error.to_string()),
                    })
                }
            });
            // A client may go away at any time; watches end that way.
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

impl Supervisor {
    /// `known`: the client showed a certificate of this cluster.
    async fn answer(&self, request: Request<Bytes>, known: bool) -> Answer {
        match request.uri().path() {
            "/ping" => text(StatusCode::OK, "pong"),
            "/cacerts" => text(StatusCode::OK, &self.authority.certificate),
            "/v1-k3s/server-bootstrap" if self.may(&request, &["server"]) => {
                text(StatusCode::OK, &serde_json::to_string(&self.authority).unwrap_or_default())
            }
            "/v1-k3s/client-kubelet.crt" if self.may(&request, &["server", "node"]) => {
                self.admit(&request).await.unwrap_or_else(|error| {
                    log::line("error", &format!("{error:#}"));
                    text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
                })
            }
            path if path.starts_with("/v1-k3s/") => text(StatusCode::UNAUTHORIZED, "not authorized"),
            _ if known => self.cluster.handle(request).await,
            _ => failure(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"),
        }
    }

    /// Whether the request shows the token as one of these users.
    fn may(&self, request: &Request<Bytes>, users: &[&str]) -> bool {
        let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        users.iter().any(|user| {
            let credentials = format!("{user}:{}", self.password);
            let expected = base64::engine::general_purpose::STANDARD.encode(credentials);
            shown.and_then(|shown| shown.strip_prefix("Basic ")) == Some(expected.as_str())
        })
    }

    /// Lets a node in whose password is the one that its name was first used with.
    async fn admit(&self, request: &Request<Bytes>) -> anyhow::Result<Answer> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let (Some(name), Some(password)) = (header("k3s-Node-Name"), header("k3s-Node-Password")) else {
            return Ok(text(StatusCode::BAD_REQUEST, "node name or password missing"));
        };
        let hash = base64::engine::general_purpose::STANDARD.encode(token::hex(&Sha256::digest(password)));
        let folder = "/api/v1/namespaces/kube-system/secrets";
        let secret = format!("{name}.node-password.k3s");
        let (status, kept) = self.ask(Method::GET, &format!("{folder}/{secret}"), None).await?;
        match status {
            StatusCode::OK if kept["data"]["hash"] == json!(hash) => {}
            StatusCode::OK => {
                log::line("error", &format!("unable to verify hash for node '{name}': hash does not match"));
                return Ok(text(StatusCode::FORBIDDEN, "Node password rejected"));
            }
            StatusCode::NOT_FOUND => {
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
                    "metadata": { "name": secret, "namespace": "kube-system" }, "data": { "hash": hash },
                });
                let (status, answer) = self.ask(Method::POST, folder, Some(secret)).await?;
                if !status.is_success() {
                    bail!("secret of node {name}: {answer}");
                }
            }
            _ => bail!("secret of node {name}: {kept}"),
        }
        let signed = self.authority.sign(&format!("system:node:{name}"), Purpose::Client("system:nodes"))?;
        Ok(text(StatusCode::OK, &(signed.certificate + &signed.key)))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<(StatusCode, Value)> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let answer = self.cluster.handle(request.body(Bytes::from(body))?).await;
        let status = answer.status();
        Ok((status, serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?))
    }
}

/// A plain answer.
pub fn text(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// A failure as the API words it.
pub fn failure(status: StatusCode, reason: &str, message: &str) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16(),
    });
    let mut answer = text(status, &body.to_string());
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}
