//! An HTTP server that serves K3s as its releases lay it out, and fails on demand.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

/// What goes wrong with the binary; the list of checksums stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is not there.
    NotFound,
    /// The server is broken.
    ServerError,
    /// The connection ends halfway.
    Truncated,
    /// Other bytes than the list of checksums says, of the same length.
    WrongDigest,
}

struct State {
    files: BTreeMap<String, Bytes>,
    fault: Option<Fault>,
    requests: Vec<String>,
}

/// A running mirror; ends with the value.
pub struct Mirror {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

impl Mirror {
    /// Serves `k3s` of a version for this machine's architecture on an address of this machine.
    pub fn new(address: &str, version: &str, k3s: Bytes) -> Self {
        let asset = if cfg!(target_arch = "aarch64") { "k3s-arm64" } else { "k3s" };
        let list = if cfg!(target_arch = "aarch64") { "sha256sum-arm64.txt" } else { "sha256sum-amd64.txt" };
        let digest = Sha256::digest(&k3s).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let images = "0".repeat(64);
        let checksums = format!("{images}  k3s-airgap-images.tar.zst\n{digest}  {asset}\n");
        let files = BTreeMap::from([
            (format!("/{version}/{asset}"), k3s),
            (format!("/{version}/{list}"), Bytes::from(checksums)),
        ]);
        let state = Arc::new(Mutex::new(State { files, fault: None, requests: Vec::new() }));

        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((address, 0))).expect("a listening socket");
        let address = listener.local_addr().expect("its address");
        let shared = state.clone();
        runtime.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let answer = answer(&request, &state);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    // A client that goes away is no concern of the mirror.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(connection), service)
                        .await;
                });
            }
        });
        Self { address, state, _runtime: runtime }
    }

    /// What `mirrors.k3s` takes.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets what goes wrong from now on.
    pub fn fail(&self, fault: Option<Fault>) {
        self.state.lock().expect("the state").fault = fault;
    }

    /// What was asked for since the last call: method and path.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("the state").requests)
    }
}

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

fn answer(request: &Request<Incoming>, state: &Mutex<State>) -> Answer {
    let path = request.uri().path().replace("%2B", "+").replace("%2b", "+");
    let mut state = state.lock().expect("the state");
    state.requests.push(format!("{} {path}", request.method()));
    let Some(content) = state.files.get(&path) else { return plain(StatusCode::NOT_FOUND, "Not Found") };
    let is_list = path.ends_with(".txt");
    match state.fault.filter(|_| !is_list) {
        Some(Fault::NotFound) => plain(StatusCode::NOT_FOUND, "Not Found"),
        Some(Fault::ServerError) => plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        Some(Fault::Truncated) => part(content, from(request), true),
        Some(Fault::WrongDigest) => {
            let mut other = content.to_vec();
            if let Some(byte) = other.last_mut() {
                *byte ^= 1;
            }
            part(&Bytes::from(other), from(request), false)
        }
        None => part(content, from(request), false),
    }
}

/// Where a `Range: bytes=N-` starts.
fn from(request: &Request<Incoming>) -> Option<usize> {
    let range = request.headers().get(header::RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).expect("an answer")
}

fn part(content: &Bytes, from: Option<usize>, broken: bool) -> Answer {
    let start = from.unwrap_or(0);
    if start > 0 && start >= content.len() {
        return plain(StatusCode::RANGE_NOT_SATISFIABLE, "Range Not Satisfiable");
    }
    let rest = content.slice(start..);
    let mut answer = Response::builder().status(StatusCode::OK);
    if from.is_some() {
        let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
        answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    let body = if broken {
        Broken { announced: rest.len() as u64, half: Some(rest.slice(..rest.len() / 2)) }.boxed()
    } else {
        Full::new(rest).map_err(|never| match never {}).boxed()
    };
    answer.body(body).expect("an answer")
}

/// A body that announces more than it sends before the connection ends.
struct Broken {
    announced: u64,
    half: Option<Bytes>,
}

impl Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(Some(match self.half.take() {
            Some(bytes) => Ok(Frame::data(bytes)),
            None => Err(std::io::Error::other("the mirror was told to break off")),
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
