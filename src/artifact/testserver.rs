//! A small HTTP server on loopback that answers as a test tells it to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// How one request is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The content, with ranges.
    Good,
    /// The whole content, whatever range was asked for.
    NoRanges,
    /// A status without content.
    Status(u16),
    /// The announced length is that of the content, but only so many bytes come before the connection closes.
    CutAfter(usize),
    /// So many bytes come, then nothing more ever.
    StallAfter(usize),
    /// Other content.
    Other(Vec<u8>),
}

#[derive(Default)]
struct State {
    files: Vec<(String, Vec<u8>)>,
    answers: Vec<(String, VecDeque<Answer>)>,
    log: Vec<String>,
}

/// The server; it ends with the runtime.
#[derive(Clone)]
pub struct TestServer {
    pub base: String,
    state: Arc<Mutex<State>>,
}

type Reply = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

impl TestServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { base, state: Arc::default() };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        server
    }

    /// Serves one connection, plain or over TLS.
    pub async fn serve(self, stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request| {
            let reply = self.reply(&request);
            async move { Ok::<_, Infallible>(reply) }
        });
        // A connection that is cut on purpose ends with an error here.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    /// Puts a file at a path (percent-encoding as it comes over the wire).
    pub fn put(&self, path: &str, content: &[u8]) {
        self.state.lock().unwrap().files.push((path.to_owned(), content.to_vec()));
    }

    /// The next answers for a path; afterwards it is served as it should be.
    pub fn answer(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().answers.push((path.to_owned(), answers.into_iter().collect()));
    }

    /// Every request so far: `GET <path>` with ` from <offset>` where a range was asked for.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    fn reply(&self, request: &Request<hyper::body::Incoming>) -> Reply {
        let mut state = self.state.lock().unwrap();
        // A proxy is asked for whole addresses.
        let path = request.uri().to_string();
        let range = request.headers().get("range").and_then(|v| v.to_str().ok());
        let offset = range.and_then(|v| v.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let suffix = offset.map(|o| format!(" from {o}")).unwrap_or_default();
        state.log.push(format!("{} {path}{suffix}", request.method()));
        let content = state.files.iter().rev().find(|f| f.0 == path).map(|f| f.1.clone());
        let answer = state.answers.iter_mut().find(|a| a.0 == path).and_then(|a| a.1.pop_front());
        match (answer.unwrap_or(Answer::Good), content) {
            (Answer::Status(status), _) => reply(status, None, 0, vec![], false),
            (Answer::Other(other), _) => reply(200, None, other.len(), vec![other], false),
            (_, None) => reply(404, None, 0, vec![], false),
            (Answer::Good, Some(content)) => match offset {
                Some(offset) if offset >= content.len() => reply(416, None, 0, vec![], false),
                Some(offset) => {
                    let range = format!("bytes {offset}-{}/{}", content.len() - 1, content.len());
                    reply(206, Some(range), content.len() - offset, vec![content[offset..].to_vec()], false)
                }
                None => reply(200, None, content.len(), vec![content], false),
            },
            (Answer::NoRanges, Some(content)) => reply(200, None, content.len(), vec![content], false),
            (Answer::CutAfter(bytes), Some(content)) => {
                reply(200, None, content.len(), vec![content[..bytes].to_vec()], false)
            }
            (Answer::StallAfter(bytes), Some(content)) => {
                reply(200, None, content.len(), vec![content[..bytes].to_vec()], true)
            }
        }
    }
}

fn reply(status: u16, range: Option<String>, length: usize, chunks: Vec<Vec<u8>>, stall: bool) -> Reply {
    let sent: usize = chunks.iter().map(Vec::len).sum();
    let frames = futures::stream::iter(chunks.into_iter().map(|c| Ok(Frame::data(Bytes::from(c)))));
    // What is missing is an error of the body: hyper closes the connection after what was sent.
    let end = futures::stream::once(async move {
        match (stall, sent < length) {
            (true, _) => std::future::pending().await,
            (false, true) => {
                // Time for what was sent to leave before the connection is dropped.
                tokio::task::yield_now().await;
                Some(Err(std::io::Error::other("cut on purpose")))
            }
            (false, false) => None,
        }
    })
    .filter_map(std::future::ready);
    let body = UnsyncBoxBody::new(StreamBody::new(frames.chain(end)));
    let mut builder = Response::builder().status(StatusCode::from_u16(status).unwrap());
    builder = builder.header("content-length", length);
    if let Some(range) = range {
        builder = builder.header("content-range", range);
    }
    builder.body(body).unwrap()
}
