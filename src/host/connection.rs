//! A server that is connected: programs, files and tunnels, over any [`Transport`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::scripts::Script;
use super::{HostError, HostSeen, Interest, Stream, Transport};
use crate::secret::Secret;

/// How a user becomes root on a server.
#[derive(Debug, Clone)]
pub enum Sudo {
    /// The login user is root already.
    NotNeeded,
    /// Through sudo; the password is given only if sudo asks for one, by standard input.
    Use {
        /// What to answer, where project.yaml has one.
        password: Option<Secret>,
    },
}

/// A program to run on a server, as root unless said otherwise.
#[derive(Debug, Clone)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What it reads from standard input.
    pub stdin: Vec<u8>,
    /// How long it may take.
    pub timeout: Duration,
    /// What a person reads in messages instead of the whole vector.
    pub label: String,
}

impl Command {
    /// A plain program.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let argv: Vec<String> = argv.into_iter().map(Into::into).collect();
        let label = argv.join(" ");
        Self { argv, stdin: Vec::new(), timeout: Duration::from_secs(60), label }
    }

    /// One of the fixed scripts with its arguments.
    pub fn script(script: &Script, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        let label = std::iter::once(script.name.to_owned()).chain(args.iter().cloned()).collect::<Vec<_>>().join(" ");
        let argv = ["sh", "-c", script.text, script.name].map(str::to_owned).into_iter().chain(args).collect();
        Self { argv, stdin: Vec::new(), timeout: Duration::from_secs(60), label }
    }

    /// Gives it something to read.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Lets it take longer, or less.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// How a program ended.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Where the content of a file comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Bytes in memory: small files.
    Bytes(Vec<u8>),
    /// A file on the operator's machine: streamed, and resumed where an earlier upload of the same digest stopped.
    Path(PathBuf),
}

/// A file as it has to be on a server.
#[derive(Debug, Clone)]
pub struct FileSpec {
    /// Absolute path there.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// `user:group`; `None`: root's.
    pub owner: Option<String>,
    /// SHA-256 of the content, in hexadecimal: checked at the other end before the file takes its place.
    pub sha256: String,
    /// The unit that reads this file and has to be restarted after a change.
    pub restarts: Option<String>,
}

/// A program that keeps running until this value is dropped, such as the holder of the run lock.
pub struct Held {
    /// Ends the task that keeps the program's standard input open.
    pub(super) _alive: tokio::task::JoinHandle<()>,
    /// Turns true when the program ended by itself (the connection died).
    pub lost: tokio::sync::watch::Receiver<bool>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self._alive.abort();
    }
}

/// A connected server. Cloning shares the connection.
#[derive(Clone)]
pub struct Host {
    name: String,
    transport: Arc<dyn Transport>,
    sudo: Sudo,
    round_trips: Arc<std::sync::atomic::AtomicU64>,
}

impl Host {
    /// Wraps a transport; `name` is the node's name, used in every message.
    pub fn new(name: impl Into<String>, transport: Arc<dyn Transport>, sudo: Sudo) -> Self {
        Self { name: name.into(), transport, sudo, round_trips: Arc::default() }
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many times something was asked of the server since it was connected.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Runs a program to its end, whatever its exit code. The time-out of the command applies.
    pub async fn exec(&self, _command: &Command) -> Result<Output, HostError> {
        todo!()
    }

    /// Runs a program and returns what it printed; another exit code than 0 is [`HostError::Failed`].
    pub async fn run(&self, _command: &Command) -> Result<String, HostError> {
        todo!()
    }

    /// Starts a program that keeps running, and waits for its first line of output.
    ///
    /// While the value lives a byte goes to the program's standard input every 15 seconds. Returns the program's first
    /// line with its handle, or its [`Output`] where it ended instead.
    pub async fn hold(&self, _command: &Command) -> Result<Result<(String, Held), Output>, HostError> {
        todo!()
    }

    /// Writes a file atomically. `progress` is told how many bytes have been sent in all.
    pub async fn put(
        &self,
        _file: &FileSpec,
        _source: &Source,
        _progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), HostError> {
        todo!()
    }

    /// Looks at the machine and everything in `interests`, in one round trip.
    pub async fn probe(&self, _interests: &BTreeSet<Interest>) -> Result<HostSeen, HostError> {
        todo!()
    }

    /// Opens a TCP connection from the server's side.
    pub async fn open_tcp(&self, _host: &str, _port: u16) -> Result<Box<dyn Stream>, HostError> {
        let _ = (&self.transport, &self.sudo);
        todo!()
    }
}
