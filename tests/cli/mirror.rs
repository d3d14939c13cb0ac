//! A mirror on loopback that misbehaves as it is told, and a backend whose downloads come from there over real HTTP.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use xgenctl::artifact::{Body, Download, FetchError, HttpDownload, Limits};
use xgenctl::engine::{Backend, action::hex};
use xgenctl::host::{Host, HostError};
use xgenctl::project::Node;
use xgenctl::rehearsal::{RehearsalBackend, World};

/// The version that the mirror has.
const VERSION: &str = "v1.36.5+k3s1";

/// How a request is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// As it should be, ranges included.
    Good,
    /// With a status and nothing else.
    Status(u16),
    /// With the length of the content, but the connection closes after so many bytes.
    CutAfter(usize),
    /// With the length of the content, but after so many bytes nothing more comes.
    StallAfter(usize),
    /// With other content.
    Other(&'static str),
}

#[derive(Default)]
struct State {
    /// The next answers of a file; the last one is for ever.
    answers: BTreeMap<String, VecDeque<Answer>>,
    log: Vec<String>,
    /// Connections that stall are kept open.
    stalled: Vec<TcpStream>,
}

/// The mirror. It ends with the test program.
pub struct Mirror {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Mirror {
    /// A mirror that does everything right.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mirror = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&mirror.state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&state);
                // A client that goes away is not the mirror's trouble.
                thread::spawn(move || stream.and_then(|stream| serve(stream, &state)));
            }
        });
        mirror
    }

    /// What `mirrors.k3s` names.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on a file is answered so; the last answer is for ever.
    pub fn answer(&self, file: &str, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().answers.insert(file.to_owned(), answers.into_iter().collect());
    }

    /// The files that were asked for, in order; with ` from <offset>` where a range was.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    /// Servers of a rehearsal, and downloads from wherever the project says.
    pub fn backend(rehearsal: &World, stall: Duration) -> Arc<dyn Backend> {
        let limits = Limits { stall, ..Limits::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let download = RealClock { download: Arc::new(HttpDownload::direct(limits).unwrap()), runtime: Some(runtime) };
        Arc::new(MirrorBackend { hosts: RehearsalBackend::new(rehearsal.clone()), download })
    }
}

/// The file as the mirror has it.
fn content(file: &str) -> Option<Vec<u8>> {
    let binary = format!("xgenctl simulated k3s {VERSION} amd64\n").into_bytes();
    match file {
        "k3s" => Some(binary),
        "sha256sum-amd64.txt" => Some(format!("{}  k3s\n", hex(&Sha256::digest(binary))).into_bytes()),
        _ => None,
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut offset = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            offset = range.trim_end_matches('-').parse().unwrap_or(0);
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let file = path.strip_prefix("/v1.36.5%2Bk3s1/").unwrap_or(path);
    let answer = {
        let mut state = state.lock().unwrap();
        state.log.push(if offset > 0 { format!("{file} from {offset}") } else { file.to_owned() });
        match state.answers.get_mut(file) {
            Some(answers) if answers.len() > 1 => answers.pop_front(),
            Some(answers) => answers.front().cloned(),
            None => None,
        }
    };
    let (status, body, sent, stalls) = match (answer.unwrap_or(Answer::Good), content(file)) {
        (Answer::Status(status), _) => (status, Vec::new(), usize::MAX, false),
        (Answer::Other(text), _) => (200, text.as_bytes().to_vec(), usize::MAX, false),
        (_, None) => (404, Vec::new(), usize::MAX, false),
        (_, Some(all)) if offset >= all.len() => (416, Vec::new(), usize::MAX, false),
        (answer, Some(mut all)) => {
            let rest = all.split_off(offset);
            let status = if offset > 0 { 206 } else { 200 };
            match answer {
                Answer::CutAfter(bytes) => (status, rest, bytes, false),
                Answer::StallAfter(bytes) => (status, rest, bytes, true),
                _ => (status, rest, usize::MAX, false),
            }
        }
    };
    let range = match status {
        206 => format!("content-range: bytes {offset}-{}/{}\r\n", offset + body.len() - 1, offset + body.len()),
        _ => String::new(),
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{range}connection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body[..sent.min(body.len())])?;
    if stalls {
        state.lock().unwrap().stalled.push(stream);
    }
    Ok(())
}

/// The real download, on a runtime whose clock is the real one. The clock of the rehearsal stands still meanwhile: it
/// does not jump while a task that blocks is at work.
struct RealClock {
    download: Arc<HttpDownload>,
    runtime: Option<Runtime>,
}

impl Drop for RealClock {
    fn drop(&mut self) {
        // A runtime must not wait for its end inside another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl Download for RealClock {
    async fn get(&self, url: &str, offset: u64) -> Result<Body, FetchError> {
        let (download, url) = (Arc::clone(&self.download), url.to_owned());
        let handle = self.runtime.as_ref().unwrap().handle().clone();
        let whole = move || {
            handle.block_on(async move {
                let Body { length, stream } = download.get(&url, offset).await?;
                let pieces: Vec<Result<Bytes, String>> = stream.collect().await;
                Ok(Body { length, stream: Box::pin(futures::stream::iter(pieces)) })
            })
        };
        tokio::task::spawn_blocking(whole).await.unwrap()
    }
}

struct MirrorBackend {
    hosts: RehearsalBackend,
    download: RealClock,
}

#[async_trait]
impl Backend for MirrorBackend {
    async fn connect(&self, node: &Node) -> Result<Host, HostError> {
        self.hosts.connect(node).await
    }

    fn download(&self) -> &dyn Download {
        &self.download
    }
}
