//! A server that is connected: programs, files and tunnels, over any [`Transport`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::sync::{oneshot, watch};

use super::running::{self, Running};
use super::scripts::{self, Script};
use super::{HostError, HostSeen, Interest, Stream, Transport, probe};
use crate::secret::Secret;

/// How often a held program hears that xgenctl is still there.
const BEAT: Duration = Duration::from_secs(15);
/// A program that prints a line and ends within this time has ended: it holds nothing.
const SETTLE: Duration = Duration::from_millis(20);
/// How long the server may take to open a TCP connection.
const TUNNEL: Duration = Duration::from_secs(20);
/// How many lines of output a failure carries.
const TAIL_LINES: usize = 20;

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
    /// Owns the program: keeps its standard input open and tells it that xgenctl is there.
    pub(super) _alive: tokio::task::JoinHandle<()>,
    /// Turns true when the program ended by itself (the connection died).
    pub lost: watch::Receiver<bool>,
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
    round_trips: Arc<AtomicU64>,
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
        self.round_trips.load(Ordering::Relaxed)
    }

    /// Runs a program to its end, whatever its exit code. The time-out of the command applies.
    ///
    /// # Errors
    /// [`HostError::TimedOut`], [`HostError::Sudo`], [`HostError::Connection`], and [`HostError::Protocol`] where it
    /// printed more than anything asked of a server prints (32 MiB).
    pub async fn exec(&self, command: &Command) -> Result<Output, HostError> {
        let mut input = command.stdin.as_slice();
        self.in_time(command, async {
            self.count();
            let running = self.start(&command.argv, Some(command.timeout)).await?;
            running.finish(&self.name, &command.label, &mut input, &|_| ()).await
        })
        .await
    }

    /// Runs a program and returns what it printed; another exit code than 0 is [`HostError::Failed`].
    ///
    /// # Errors
    /// As [`Host::exec`], and [`HostError::Failed`].
    pub async fn run(&self, command: &Command) -> Result<String, HostError> {
        let output = self.exec(command).await?;
        self.succeeded(command, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a program that keeps running, and waits for its first line of output.
    ///
    /// While the value lives a byte goes to the program's standard input every 15 seconds. Returns the program's first
    /// line with its handle, or its [`Output`] where it ended instead. The time-out of the command is for the first line.
    ///
    /// # Errors
    /// As [`Host::exec`].
    pub async fn hold(&self, command: &Command) -> Result<Result<(String, Held), Output>, HostError> {
        self.in_time(command, async {
            self.count();
            let running = self.start(&command.argv, None).await?;
            let (line_tx, line_rx) = oneshot::channel();
            let (end_tx, mut end_rx) = oneshot::channel();
            let (lost_tx, lost) = watch::channel(false);
            let input = command.stdin.clone();
            let task = tokio::spawn(async move {
                let end = keep(running, input, line_tx).await;
                // Whoever asked may have gone: then nobody wants to know.
                let _ = end_tx.send(end);
                let _ = lost_tx.send(true);
            });
            // Dropped before it is returned, the value ends the program.
            let held = Held { _alive: task, lost };
            let gone = || HostError::Connection { host: self.name.clone(), reason: "a program was abandoned".into() };
            match line_rx.await {
                Ok(line) => match tokio::time::timeout(SETTLE, &mut end_rx).await {
                    Err(_) => Ok(Ok((line, held))),
                    Ok(end) => end.map_err(|_| gone())?.map(Err),
                },
                Err(_) => end_rx.await.map_err(|_| gone())?.map(Err),
            }
        })
        .await
    }

    /// Looks at the machine and everything in `interests`, in one round trip.
    ///
    /// # Errors
    /// As [`Host::run`], and [`HostError::Protocol`] where the answer cannot be understood.
    pub async fn probe(&self, interests: &BTreeSet<Interest>) -> Result<HostSeen, HostError> {
        let args = interests.iter().map(|interest| match interest {
            Interest::File(path) => format!("file:{path}"),
            Interest::Stat(path) => format!("stat:{path}"),
            Interest::Unit(name) => format!("unit:{name}"),
            Interest::Version(path) => format!("version:{path}"),
        });
        let mut command = Command::script(&scripts::PROBE, args);
        command.label = scripts::PROBE.name.to_owned();
        let before = now_ms();
        let output = self.exec(&command).await?;
        let after = now_ms();
        self.succeeded(&command, &output)?;
        let mut seen =
            probe::parse(&output.stdout).map_err(|reason| HostError::Protocol { host: self.name.clone(), reason })?;
        seen.facts.operator_clock_ms = before + (after - before) / 2;
        Ok(seen)
    }

    /// Opens a TCP connection from the server's side.
    ///
    /// # Errors
    /// [`HostError::Connection`] where nothing answers there, or the way to the server is broken.
    pub async fn open_tcp(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, HostError> {
        self.count();
        match tokio::time::timeout(TUNNEL, self.transport.open_tcp(host, port)).await {
            Ok(opened) => opened,
            Err(_) => Err(HostError::Connection {
                host: self.name.clone(),
                reason: format!("{host}:{port} did not answer the server within {} s", TUNNEL.as_secs()),
            }),
        }
    }

    /// Runs a program to its end with `input`, without a limit to its time.
    pub(super) async fn conduct(
        &self,
        argv: &[String],
        label: &str,
        input: &mut (dyn AsyncRead + Send + Unpin),
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Output, HostError> {
        self.count();
        self.start(argv, None).await?.finish(&self.name, label, input, sent).await
    }

    async fn start(&self, argv: &[String], limit: Option<Duration>) -> Result<Running, HostError> {
        running::start(&self.name, self.transport.as_ref(), &self.sudo, argv, limit).await
    }

    fn count(&self) {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the work, and with it the program, when the command's time is over.
    async fn in_time<T>(
        &self,
        command: &Command,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, HostError> {
        match tokio::time::timeout(command.timeout, work).await {
            Ok(done) => done,
            Err(_) => Err(HostError::TimedOut {
                host: self.name.clone(),
                command: command.label.clone(),
                after: command.timeout,
            }),
        }
    }

    fn succeeded(&self, command: &Command, output: &Output) -> Result<(), HostError> {
        if output.code == 0 {
            return Ok(());
        }
        Err(HostError::Failed {
            host: self.name.clone(),
            command: command.label.clone(),
            code: output.code,
            tail: output.tail(),
        })
    }
}

impl Output {
    /// The last lines of what was written: of standard error, or of standard output where that is empty.
    fn tail(&self) -> String {
        let stderr = String::from_utf8_lossy(&self.stderr);
        let stdout = String::from_utf8_lossy(&self.stdout);
        let text = if stderr.trim().is_empty() { stdout } else { stderr };
        let lines: Vec<&str> = text.trim_end().lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

/// Keeps a program running and tells its first whole line; returns how it ended.
async fn keep(running: Running, input: Vec<u8>, line_tx: oneshot::Sender<String>) -> Result<Output, HostError> {
    let Running { mut stdin, stdout, stderr, status } = running;
    let talk = async {
        // Once the program is gone nothing can be written, and its end is told by its status.
        let mut open = stdin.write_all(&input).await.is_ok() && stdin.flush().await.is_ok();
        loop {
            tokio::time::sleep(BEAT).await;
            open = open && stdin.write_all(b".").await.is_ok() && stdin.flush().await.is_ok();
        }
    };
    let listen = async {
        let mut out = BufReader::new(stdout);
        let mut line = Vec::new();
        // An unreadable stream ends the program's talk; its status says why.
        let _ = out.read_until(b'\n', &mut line).await;
        if line.ends_with(b"\n") {
            let _ = line_tx.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        line.extend(running::last(out, 64 * 1024).await.unwrap_or_default());
        line
    };
    let end = async { tokio::join!(listen, running::last(stderr, 64 * 1024), status) };
    let (stdout, stderr, code) = tokio::select! {
        end = end => end,
        never = talk => never,
    };
    Ok(Output { code: code?, stdout, stderr: stderr.unwrap_or_default() })
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::Process;
    use super::*;

    /// Notes what it is asked to start; every program ends with `code`.
    struct Fake {
        code: i32,
        started: Mutex<Vec<Vec<String>>>,
    }

    #[async_trait::async_trait]
    impl Transport for Fake {
        async fn spawn(&self, argv: &[String]) -> Result<Process, HostError> {
            self.started.lock().unwrap().push(argv.to_vec());
            Ok(Process {
                stdin: Box::new(tokio::io::sink()),
                stdout: Box::new(tokio::io::empty()),
                stderr: Box::new(std::io::Cursor::new(b"no\nluck\n".to_vec())),
                status: Box::pin(futures::future::ready(Ok(self.code))),
            })
        }

        async fn open_tcp(&self, _host: &str, _port: u16) -> Result<Box<dyn Stream>, HostError> {
            futures::future::pending().await
        }
    }

    fn host(code: i32) -> (Arc<Fake>, Host) {
        let fake = Arc::new(Fake { code, started: Mutex::default() });
        (fake.clone(), Host::new("box", fake, Sudo::NotNeeded))
    }

    #[tokio::test]
    async fn a_probe_asks_for_everything_in_one_go_and_fails_loudly() {
        let (fake, host) = host(3);
        let interests = [
            Interest::File("/etc/a b".into()),
            Interest::Stat("/bin".into()),
            Interest::Unit("k3s.service".into()),
            Interest::Version("/usr/local/bin/k3s".into()),
        ];
        let error = host.probe(&interests.into_iter().collect()).await.unwrap_err();
        assert_eq!(error.to_string(), "box: `xgenctl-probe` ended with code 3");
        assert_eq!(error.tail(), Some("no\nluck"));
        let started = fake.started.lock().unwrap();
        let args = ["file:/etc/a b", "stat:/bin", "unit:k3s.service", "version:/usr/local/bin/k3s"];
        assert_eq!((started.len(), &started[0][4..]), (1, &args.map(str::to_owned)[..]));
        assert_eq!(host.round_trips(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_without_end() {
        let (_, host) = host(0);
        let Err(error) = host.open_tcp("10.0.0.1", 6443).await else { panic!("nothing answers") };
        assert_eq!(error.to_string(), "box: 10.0.0.1:6443 did not answer the server within 20 s");
    }
}
