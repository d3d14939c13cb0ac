//! The way to a simulated server: programs that are simulated, tunnels that end at the simulated API.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;

use super::api::{Body, json_response};
use super::faults::{Fault, Point};
use super::scripts::{Program, recognise};
use super::systemd::served_api;
use super::world::{Kept, Line, World};
use crate::host::{HostError, Process, Stream, Transport};

/// How long a connection attempt waits for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a round trip to a server takes.
const ROUND_TRIP: Duration = Duration::from_millis(2);
/// How long the API takes to answer.
const API_ANSWER: Duration = Duration::from_millis(3);
/// How much a pipe holds.
const PIPE: usize = 64 << 10;

/// One connection to a simulated server.
pub struct SimTransport {
    world: World,
    host: String,
    line: Arc<Line>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for SimTransport {
    fn drop(&mut self) {
        self.line.send_replace(true);
        self.driver.abort();
    }
}

impl SimTransport {
    /// Connects to a simulated server.
    ///
    /// # Errors
    /// [`HostError::Connection`] where it cannot be reached now.
    pub async fn connect(world: &World, host: &str) -> Result<Self, HostError> {
        let refused = |reason: &str| HostError::Connection { host: host.to_owned(), reason: reason.to_owned() };
        let fault = world.pass(Point::Connect, host, "connect");
        tokio::time::sleep(ROUND_TRIP * 3).await;
        match fault {
            // SSH gives up by itself.
            Some(Fault::Hang) => {
                tokio::time::sleep(CONNECT_TIMEOUT).await;
                return Err(refused("no answer within 10 s"));
            }
            Some(Fault::Killed) => return Err(refused("the rehearsed process was killed")),
            Some(_) => return Err(refused("connection reset by peer")),
            None => {}
        }
        let now = world.now_ms();
        match world.host(host, |h| (h.reachable, h.down_until_ms)) {
            None => return Err(refused("no such host in this rehearsal")),
            Some((false, _)) => return Err(refused("connect: no route to host")),
            Some((true, until)) if until > now => return Err(refused("connect: connection timed out")),
            Some(_) => {}
        }
        let line = Arc::new(watch::Sender::new(false));
        world.add_line(host, &line);
        Ok(Self { world: world.clone(), host: host.to_owned(), line, driver: tokio::spawn(world.clone().drive()) })
    }

    fn broken(&self) -> HostError {
        HostError::Connection { host: self.host.clone(), reason: "the connection is broken".into() }
    }

    /// Passes a point and does to the connection what goes wrong there.
    fn pass(&self, what: &str) -> Result<Option<Fault>, HostError> {
        if *self.line.borrow() {
            return Err(self.broken());
        }
        // A rehearsal that cannot keep its world must not go on as if it did.
        if let Some((path, reason)) = self.world.save_error() {
            return Err(HostError::File { host: self.host.clone(), path, reason });
        }
        let fault = self.world.pass(Point::Spawn, &self.host, what);
        match fault {
            Some(Fault::ConnectionLost | Fault::Unreachable(_) | Fault::Killed) => {
                self.line.send_replace(true);
                Err(self.broken())
            }
            other => Ok(other),
        }
    }
}

#[async_trait]
impl Transport for SimTransport {
    async fn spawn(&self, argv: &[String]) -> Result<Process, HostError> {
        let recognised = recognise(argv);
        let label = match &recognised {
            Some((script, args)) => format!("{} {}", script.name, args.join(" ")),
            None => argv.join(" "),
        };
        self.world.record(Kept::Argv, &self.host, argv.join(" "));
        let fault = self.pass(&label)?;
        tokio::time::sleep(ROUND_TRIP).await;
        if *self.line.borrow() {
            return Err(self.broken());
        }
        let (stdin, program_stdin) = tokio::io::duplex(PIPE);
        let (program_stdout, stdout) = tokio::io::duplex(PIPE);
        let (program_stderr, stderr) = tokio::io::duplex(PIPE);
        let (done, mut ended) = watch::channel(None);
        let mut program = Program {
            world: self.world.clone(),
            host: self.host.clone(),
            args: Vec::new(),
            stdin: program_stdin,
            stdout: program_stdout,
            stderr: program_stderr,
            fault,
            dead: self.line.subscribe(),
            number: self.world.with(|state| state.number()),
        };
        let line = self.line.clone();
        match recognised {
            Some((script, args)) => {
                program.args = args;
                tokio::spawn(async move {
                    let code = program.run(script).await;
                    if fault == Some(Fault::AnswerLost) {
                        line.send_replace(true);
                    }
                    done.send_replace(Some(code));
                });
            }
            None => {
                self.world.record(Kept::NotSimulated, &self.host, label.clone());
                tokio::spawn(async move {
                    use tokio::io::AsyncWriteExt;
                    let text = format!("not simulated: {label}\n");
                    // The reader may have gone away.
                    let _ = program.stderr.write_all(text.as_bytes()).await;
                    done.send_replace(Some(127));
                });
            }
        }
        let (mut dead, broken) = (self.line.subscribe(), self.broken());
        let status = async move {
            tokio::select! {
                biased;
                _ = dead.wait_for(|dead| *dead) => Err(broken),
                ended = ended.wait_for(Option::is_some) => match ended {
                    Ok(code) => Ok(code.unwrap_or_default()),
                    Err(_) => Err(broken),
                },
            }
        };
        Ok(Process {
            stdin: Box::new(OnLine::new(stdin, vec![self.line.subscribe()])),
            stdout: Box::new(OnLine::new(stdout, vec![self.line.subscribe()])),
            stderr: Box::new(OnLine::new(stderr, vec![self.line.subscribe()])),
            status: Box::pin(status),
        })
    }

    async fn open_tcp(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, HostError> {
        let fault = self.pass(&format!("tcp {host}:{port}"))?;
        tokio::time::sleep(ROUND_TRIP).await;
        if matches!(fault, Some(Fault::Hang)) {
            let mut dead = self.line.subscribe();
            // Ends with the connection, if ever.
            let _ = dead.wait_for(|dead| *dead).await;
        }
        if *self.line.borrow() || fault.is_some() {
            self.line.send_replace(true);
            return Err(self.broken());
        }
        let target = self.world.see(|state| {
            let target = state.resolve(&self.host, host)?;
            (port == 6443 && served_api(&self.world, state, target).is_some()).then(|| target.to_owned())
        });
        let Some(target) = target else {
            let reason = format!("connect to {host}:{port}: connection refused");
            return Err(HostError::Connection { host: self.host.clone(), reason });
        };
        let (client, server) = tokio::io::duplex(PIPE);
        let tunnel = Arc::new(watch::Sender::new(false));
        self.world.add_tunnel(&target, &tunnel);
        let lines = vec![self.line.subscribe(), tunnel.subscribe()];
        tokio::spawn(serve(self.world.clone(), target, server, tunnel, self.line.clone()));
        Ok(Box::new(OnLine::new(client, lines)))
    }
}

/// Serves the API of a host on one connection, until that breaks.
async fn serve(world: World, host: String, stream: DuplexStream, tunnel: Arc<Line>, line: Arc<Line>) {
    let (mut broken, mut dead) = (tunnel.subscribe(), line.subscribe());
    let service = hyper::service::service_fn(|request| {
        let (world, host, tunnel) = (world.clone(), host.clone(), tunnel.clone());
        async move { Ok::<_, Infallible>(answer(&world, &host, &tunnel, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a connection ended is the client's to judge.
        _ = connection => {}
        _ = broken.wait_for(|b| *b) => {}
        _ = dead.wait_for(|d| *d) => {}
    }
}

async fn answer(world: &World, host: &str, tunnel: &Arc<Line>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let what = format!("{} {}", parts.method, parts.uri);
    world.record(Kept::Api, host, what.as_str());
    let fault = world.pass(Point::Api, host, &what);
    tokio::time::sleep(API_ANSWER).await;
    let broken = || async {
        tunnel.send_replace(true);
        std::future::pending::<Response<Body>>().await
    };
    match fault {
        Some(Fault::Hang) => return std::future::pending().await,
        Some(Fault::ApiError(code)) => return api_error(code),
        None | Some(Fault::AnswerLost) => {}
        Some(_) => return broken().await,
    }
    let Some((cluster, api)) = world.see(|state| served_api(world, state, host)) else {
        return broken().await;
    };
    let allowed = world.see(|state| {
        let wanted = state.clusters.get(&cluster).map(|c| format!("Bearer {}", c.admin_token));
        parts.headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok()).map(str::to_owned) == wanted
    });
    if !allowed {
        return api_error(401);
    }
    let before = api.look(|store| store.resource_version());
    let response = api.handle(Request::from_parts(parts, Bytes::clone(&body))).await;
    if api.look(|store| store.resource_version()) != before {
        world.save();
    }
    if fault == Some(Fault::AnswerLost) {
        return broken().await;
    }
    response
}

fn api_error(code: u16) -> Response<Body> {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        409 => (
            "Conflict",
            "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again",
        ),
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        _ => ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    };
    let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                       "reason": reason, "code": code });
    json_response(code, &body)
}

/// A stream that ends with an error as soon as one of the lines it runs over breaks.
struct OnLine {
    inner: DuplexStream,
    broken: BoxFuture<'static, ()>,
    is_broken: bool,
}

impl OnLine {
    fn new(inner: DuplexStream, lines: Vec<watch::Receiver<bool>>) -> Self {
        let broken = async move {
            let waits = lines.into_iter().map(|mut line| {
                Box::pin(async move {
                    // An error means that the sender is gone, and with it the connection.
                    let _ = line.wait_for(|broken| *broken).await;
                })
            });
            futures::future::select_all(waits).await;
        };
        Self { inner, broken: Box::pin(broken), is_broken: false }
    }

    fn check(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        self.is_broken = self.is_broken || self.broken.as_mut().poll(context).is_ready();
        if self.is_broken { Err(std::io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for OnLine {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let filled = buffer.filled().len();
        // What arrived before the line broke is still read.
        match Pin::new(&mut self.inner).poll_read(context, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() > filled => Poll::Ready(Ok(())),
            ended => {
                self.check(context)?;
                ended
            }
        }
    }
}

impl AsyncWrite for OnLine {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
