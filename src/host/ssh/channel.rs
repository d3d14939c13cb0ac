//! Programs and tunnels: channels on one connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::FutureExt;
use russh::client::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, Sig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::client::{Client, Shared};
use super::target::Target;
use super::wire::Impatient;
use super::{SshOptions, login};
use crate::host::{HostError, Process, Stream, Transport};

/// OpenSSH allows ten programs at a time on a connection (`MaxSessions`).
const MOST_SESSIONS: usize = 10;
/// Servers that allow fewer are asked again when a program has ended, or after this time.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often they are asked.
const MOST_ASKED: usize = 120;
/// How much of a channel's output may wait for its reader. One connection carries all channels: a slow reader must not
/// hold up the others before this much has piled up.
const MOST_WAITING: usize = 16 * 1024 * 1024;

/// An authenticated connection. Programs and tunnels keep it alive.
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    handle: Handle<Client>,
    target: Target,
    shared: Arc<Shared>,
    sessions: Arc<Semaphore>,
    ended: Arc<Notify>,
    /// The jump host's connection, which carries this one.
    _via: Option<Connection>,
}

impl Connection {
    /// Speaks SSH over `stream`: exchanges keys, verifies the server, logs in.
    pub(super) async fn open(
        target: Target,
        stream: Box<dyn Stream>,
        via: Option<Connection>,
        options: &SshOptions,
    ) -> Result<Self, HostError> {
        let shared = Arc::new(Shared::default());
        let config = Arc::new(Client::config(&target));
        let stream = Impatient::new(stream, target.keepalive * (target.keepalive_max as u32 + 1));
        let client = Client::new(target.clone(), options.clone(), shared.clone());
        let greeting = russh::client::connect_stream(config, stream, client);
        let mut handle = match shared.within(target.connect_timeout, greeting).await {
            Some(Ok(handle)) => handle,
            Some(Err(error)) => return Err(shared.refused().unwrap_or_else(|| no_ssh(&target, &error))),
            None => {
                let limit = target.connect_timeout.as_secs();
                let reason = format!("{} does not speak SSH, or not within {limit} s", target.address());
                return Err(target.broken(reason));
            }
        };
        login::login(&mut handle, &target, options, &shared).await?;
        let sessions = Arc::new(Semaphore::new(MOST_SESSIONS));
        let inner = Inner { handle, target, shared, sessions, ended: Arc::default(), _via: via };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A TCP connection made by the server.
    pub(super) async fn tunnel(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, HostError> {
        let opened = self.inner.handle.channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0).await;
        let channel = match opened {
            Ok(channel) => channel,
            Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited)) => {
                return Err(HostError::Protocol {
                    host: self.inner.target.node.clone(),
                    reason: "its sshd forbids tunnels (`AllowTcpForwarding` in sshd_config)".into(),
                });
            }
            Err(russh::Error::ChannelOpenFailure(_)) => {
                return Err(self.inner.target.broken(format!("nothing answers the server at {host}:{port}")));
            }
            Err(error) => return Err(self.inner.failed(error).await),
        };
        let abandoned = CancellationToken::new();
        let (output, to_output) = queue();
        let guard = abandoned.clone().drop_guard();
        let input = Input::new(&channel, &abandoned);
        let closed = input.gone.clone();
        let work =
            Pump { channel, output: Some(to_output), errors: None, abandoned, closed, inner: self.inner.clone() };
        tokio::spawn(work.run(None));
        Ok(Box::new(Tunnel { output, input, _guard: guard }))
    }
}

/// Why no SSH connection came about, where it is not the host key.
fn no_ssh(target: &Target, error: &russh::Error) -> HostError {
    let address = target.address();
    target.broken(match error {
        russh::Error::NoCommonAlgo { kind, theirs, .. } => {
            format!("{address}: no {kind:?} algorithm in common; the server has {}", theirs.join(", "))
        }
        russh::Error::Version | russh::Error::Disconnect | russh::Error::HUP | russh::Error::IO(_) => {
            format!("{address} does not speak SSH, or closed the connection at once ({error}): is that sshd's port?")
        }
        error => format!("{address}: {error}"),
    })
}

impl Inner {
    async fn failed(&self, error: russh::Error) -> HostError {
        match error {
            russh::Error::SendError | russh::Error::Disconnect | russh::Error::RecvError => {
                self.target.broken(self.shared.loss().await)
            }
            error => self.target.broken(error.to_string()),
        }
    }

    /// Opens a channel for a program, as soon as the server lets us have one more.
    async fn session(&self) -> Result<(Channel<Msg>, OwnedSemaphorePermit), HostError> {
        let closed = |_| self.target.broken("the connection was closed");
        let permit = self.sessions.clone().acquire_owned().await.map_err(closed)?;
        for _ in 0..MOST_ASKED {
            match self.handle.channel_open_session().await {
                Ok(channel) => return Ok((channel, permit)),
                Err(russh::Error::ChannelOpenFailure(_)) => {
                    // Time passing is as good as a program ending: its end may have been told already.
                    let _ = tokio::time::timeout(ASK_AGAIN, self.ended.notified()).await;
                }
                Err(error) => return Err(self.failed(error).await),
            }
        }
        Err(HostError::Protocol {
            host: self.target.node.clone(),
            reason: "its sshd lets no program run (`MaxSessions` in sshd_config)".into(),
        })
    }
}

#[async_trait]
impl Transport for Connection {
    async fn spawn(&self, argv: &[String]) -> Result<Process, HostError> {
        let inner = &self.inner;
        let (channel, permit) = inner.session().await?;
        if let Err(error) = channel.exec(true, shell_words(argv)).await {
            return Err(inner.failed(error).await);
        }
        let abandoned = CancellationToken::new();
        let guard = abandoned.clone().drop_guard();
        let (stdout, to_stdout) = queue();
        let (stderr, to_stderr) = queue();
        let (tell, ended) = oneshot::channel();
        let input = Input::new(&channel, &abandoned);
        let closed = input.gone.clone();
        let (output, errors) = (Some(to_stdout), Some(to_stderr));
        let work = Pump { channel, output, errors, abandoned, closed, inner: inner.clone() };
        tokio::spawn(async move {
            let inner = work.inner.clone();
            let _permit = permit;
            work.run(Some(tell)).await;
            inner.ended.notify_one();
        });
        let broken = inner.target.broken("the connection was closed");
        let status = async move {
            let _alive: DropGuard = guard;
            ended.await.unwrap_or(Err(broken))
        };
        Ok(Process {
            stdin: Box::new(input),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            status: status.boxed(),
        })
    }

    async fn open_tcp(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, HostError> {
        self.tunnel(host, port).await
    }
}

/// One command line that any login shell takes apart into exactly `argv` again: every word in single quotes. Quotes and
/// backslashes stand outside of them, where POSIX shells and fish agree on what they mean.
fn shell_words(argv: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\\', "\0").replace('\'', r"'\''").replace('\0', r"'\\'"));
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Moves what arrives on a channel to its readers.
struct Pump {
    channel: Channel<Msg>,
    output: Option<Sender>,
    errors: Option<Sender>,
    /// Told when nobody wants the program or tunnel any more.
    abandoned: CancellationToken,
    /// Told when the channel is closed.
    closed: CancellationToken,
    inner: Arc<Inner>,
}

impl Pump {
    async fn run(mut self, tell: Option<oneshot::Sender<Result<i32, HostError>>>) {
        let is_program = tell.is_some();
        let mut code = None;
        let mut refused = false;
        loop {
            let message = tokio::select! {
                message = self.channel.wait() => message,
                () = self.abandoned.cancelled() => {
                    if is_program {
                        // Best effort: it also loses its standard input, and sshd may not pass signals on.
                        let _ = self.channel.signal(Sig::TERM).await;
                    }
                    let _ = self.channel.close().await;
                    break;
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => send(&mut self.output, data).await,
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => send(&mut self.errors, data).await,
                Some(ChannelMsg::ExitStatus { exit_status }) => code = Some(exit_status as i32),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => code = Some(128 + number(&signal_name)),
                Some(ChannelMsg::Failure) => {
                    refused = true;
                    let _ = self.channel.close().await;
                    break;
                }
                Some(ChannelMsg::Eof) => (self.output, self.errors) = (None, None),
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            }
        }
        self.closed.cancel();
        let lost = self.inner.shared.is_lost();
        if lost && code.is_none() {
            let reason = self.inner.shared.loss().await;
            for sender in [&mut self.output, &mut self.errors].into_iter().flatten() {
                let error = io::Error::new(io::ErrorKind::ConnectionReset, reason.clone());
                let _ = sender.queue.send(Err(error));
            }
        }
        let Some(tell) = tell else { return };
        let target = &self.inner.target;
        let end = match code {
            Some(code) => Ok(code),
            None if refused => Err(HostError::Protocol {
                host: target.node.clone(),
                reason: "its sshd refuses to run programs".into(),
            }),
            None if lost => Err(target.broken(self.inner.shared.loss().await)),
            None => Err(target.broken("the server ended a program without saying how it ended")),
        };
        // The receiver may be gone: then nobody asks.
        let _ = tell.send(end);
    }
}

/// Hands data on; a reader that is gone does not want any.
async fn send(to: &mut Option<Sender>, data: Bytes) {
    let Some(sender) = to else { return };
    let size = u32::try_from(data.len()).unwrap_or(u32::MAX).min(MOST_WAITING as u32);
    let Ok(space) = sender.space.clone().acquire_many_owned(size).await else { return };
    if sender.queue.send(Ok((data, space))).is_err() {
        *to = None;
    }
}

/// The number of a signal, as shells add it to 128.
fn number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(_) => 0,
    }
}

type Piece = io::Result<(Bytes, OwnedSemaphorePermit)>;

struct Sender {
    queue: mpsc::UnboundedSender<Piece>,
    space: Arc<Semaphore>,
}

/// The output of a channel, for its reader.
struct Queue {
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// What the reader is at, with the space it takes.
    current: Option<(Bytes, OwnedSemaphorePermit)>,
}

fn queue() -> (Queue, Sender) {
    let (sender, pieces) = mpsc::unbounded_channel();
    let space = Arc::new(Semaphore::new(MOST_WAITING));
    (Queue { pieces, current: None }, Sender { queue: sender, space })
}

impl AsyncRead for Queue {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some((bytes, _)) = &mut self.current {
                let size = bytes.len().min(buf.remaining());
                if size > 0 || buf.remaining() == 0 {
                    buf.put_slice(&bytes.split_to(size));
                    if !bytes.has_remaining() {
                        self.current = None;
                    }
                    return Poll::Ready(Ok(()));
                }
                self.current = None;
            }
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Ok(piece)) => self.current = Some(piece),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// The input of a channel. Writing fails as soon as the channel is closed: SSH itself would wait for a window for ever.
struct Input {
    inner: Pin<Box<dyn AsyncWrite + Send>>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    gone: CancellationToken,
}

impl Input {
    fn new(channel: &Channel<Msg>, abandoned: &CancellationToken) -> Self {
        let gone = abandoned.child_token();
        Self { inner: Box::pin(channel.make_writer()), closed: Box::pin(gone.clone().cancelled_owned()), gone }
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.inner.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.inner.as_mut().poll_shutdown(cx)
    }
}

/// A TCP connection on the server's side.
struct Tunnel {
    output: Queue,
    input: Input,
    _guard: DropGuard,
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn command_lines_survive_a_shell() {
        let argv = ["printf", "%s|", "it's", r"a\b\\c'\n", "two\nlines", "$HOME `id` \"x\"", "", "*", "한글"];
        let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
        for shell in ["sh", "bash"] {
            let output = std::process::Command::new(shell).arg("-c").arg(shell_words(&argv)).output().unwrap();
            let expected: String = argv[2..].iter().map(|a| format!("{a}|")).collect();
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        }
    }

    #[tokio::test]
    async fn a_queue_gives_space_back_when_it_is_read() {
        let (mut queue, sender) = queue();
        let space = sender.space.clone();
        let mut to = Some(sender);
        send(&mut to, Bytes::from_static(b"hello ")).await;
        send(&mut to, Bytes::from_static(b"world")).await;
        assert_eq!(space.available_permits(), MOST_WAITING - 11);
        drop(to);
        let mut text = String::new();
        queue.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), space.available_permits()), ("hello world", MOST_WAITING));
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_costs_nothing() {
        let (queue, sender) = queue();
        let mut to = Some(sender);
        drop(queue);
        send(&mut to, Bytes::from_static(b"x")).await;
        assert!(to.is_none());
    }
}
