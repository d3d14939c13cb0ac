//! Programs and tunnels: channels on one connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use russh::client::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, Sig};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::{Client, Shared};
use super::stream::{Input, Sender, Tunnel, queue, send};
use super::target::Target;
use super::wire::Impatient;
use super::{SshOptions, login};
use crate::host::{HostError, Process, Stream, Transport};

/// OpenSSH allows ten programs at a time on a connection (`MaxSessions`); one of them is kept for ending others.
const MOST_SESSIONS: usize = 9;
/// What is printed before a program starts, with the number of its process group, and taken out again on our side.
const GROUP: &[u8] = b"[xgenctl-group]";
/// The shell text that prints it; the program and its arguments follow as its own arguments.
const ENTER: &str = r#"printf '[xgenctl-group]%s\n' $$ >&2; exec "$@""#;
/// Servers that allow fewer are asked again when a program has ended, or after this time.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often they are asked.
const MOST_ASKED: usize = 120;
/// How long an abandoned program gets to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);

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
        let (inner, to) = (self.inner.clone(), host.to_owned());
        let open = async move { inner.handle.channel_open_direct_tcpip(to, u32::from(port), "127.0.0.1", 0).await };
        let channel = match open_fresh(open).await {
            Ok(fresh) => fresh.taken(),
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
        let Some(channel) = channel else { return Err(self.inner.failed(russh::Error::Disconnect).await) };
        let abandoned = CancellationToken::new();
        let (output, to_output) = queue();
        let guard = abandoned.clone().drop_guard();
        let input = Input::new(&channel, &abandoned);
        let closed = input.gone.clone();
        let work = Pump {
            channel,
            output: Some(to_output),
            errors: None,
            group: Group::None,
            abandoned,
            closed,
            inner: self.inner.clone(),
        };
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
    async fn session(self: &Arc<Self>) -> Result<(Fresh, OwnedSemaphorePermit), HostError> {
        let closed = |_| self.target.broken("the connection was closed");
        let permit = self.sessions.clone().acquire_owned().await.map_err(closed)?;
        for _ in 0..MOST_ASKED {
            let inner = self.clone();
            match open_fresh(async move { inner.handle.channel_open_session().await }).await {
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

/// A channel that was opened and is closed again where nobody takes it: SSH itself would leave it open, and the server
/// would count it.
struct Fresh(Option<Channel<Msg>>);

impl Fresh {
    fn taken(mut self) -> Option<Channel<Msg>> {
        self.0.take()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Without a runtime the connection is gone, and the channel with it.
        if let (Some(channel), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { channel.close().await });
        }
    }
}

/// Opens a channel. Goes on where the caller stops waiting, so that the server's answer always finds somebody.
async fn open_fresh(
    open: impl Future<Output = Result<Channel<Msg>, russh::Error>> + Send + 'static,
) -> Result<Fresh, russh::Error> {
    let task = tokio::spawn(async move { open.await.map(|channel| Fresh(Some(channel))) });
    task.await.unwrap_or(Err(russh::Error::Disconnect))
}

#[async_trait]
impl Transport for Connection {
    async fn spawn(&self, argv: &[String]) -> Result<Process, HostError> {
        let inner = &self.inner;
        let (fresh, permit) = inner.session().await?;
        if let Some(channel) = &fresh.0
            && let Err(error) = channel.exec(true, command_line(argv)).await
        {
            return Err(inner.failed(error).await);
        }
        let Some(channel) = fresh.taken() else { return Err(inner.failed(russh::Error::Disconnect).await) };
        let abandoned = CancellationToken::new();
        let guard = abandoned.clone().drop_guard();
        let (stdout, to_stdout) = queue();
        let (stderr, to_stderr) = queue();
        let (tell, ended) = oneshot::channel();
        let input = Input::new(&channel, &abandoned);
        let closed = input.gone.clone();
        let (output, errors) = (Some(to_stdout), Some(to_stderr));
        let work = Pump {
            channel,
            output,
            errors,
            group: Group::Awaited(Vec::new()),
            abandoned,
            closed,
            inner: inner.clone(),
        };
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

/// The command line for a program: the shell that `exec` starts in place of the login shell leads the process group that
/// sshd made, tells its number, and becomes the program.
fn command_line(argv: &[String]) -> String {
    let shell = ["sh", "-c", ENTER, "sh"].map(str::to_owned);
    format!("exec {}", shell_words(&[&shell, argv].concat()))
}

/// One command line that any login shell takes apart into exactly `argv` again: every word in single quotes. Quotes and
/// backslashes stand outside of them, where POSIX shells and fish agree on what they mean.
fn shell_words(argv: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\\', "\0").replace('\'', r"'\''").replace('\0', r"'\\'"));
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// The process group of a program.
enum Group {
    /// A tunnel has none.
    None,
    /// Not told yet; what standard error had until now.
    Awaited(Vec<u8>),
    /// Its number.
    Known(u32),
}

impl Group {
    /// Takes the number out of standard error; returns what is the program's own.
    fn take_from(&mut self, data: Bytes) -> Bytes {
        let Self::Awaited(early) = self else { return data };
        early.extend_from_slice(&data);
        let Some(at) = early.windows(GROUP.len()).position(|w| w == GROUP) else { return Bytes::new() };
        let number = at + GROUP.len();
        let Some(length) = early[number..].iter().position(|b| *b == b'\n') else { return Bytes::new() };
        let known = std::str::from_utf8(&early[number..number + length]).ok().and_then(|n| n.parse().ok());
        let mut rest = early[..at].to_vec();
        rest.extend_from_slice(&early[number + length + 1..]);
        *self = known.map_or(Self::None, Self::Known);
        rest.into()
    }

    /// What standard error had where the number never came.
    fn leftover(&mut self) -> Bytes {
        match self {
            Self::Awaited(early) => std::mem::take(early).into(),
            Self::None | Self::Known(_) => Bytes::new(),
        }
    }
}

/// Moves what arrives on a channel to its readers.
struct Pump {
    channel: Channel<Msg>,
    output: Option<Sender>,
    errors: Option<Sender>,
    group: Group,
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
                        self.end_program().await;
                    }
                    let _ = self.channel.close().await;
                    break;
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => send(&mut self.output, data).await,
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => {
                    let data = self.group.take_from(data);
                    send(&mut self.errors, data).await;
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => code = Some(exit_status as i32),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => code = Some(128 + number(&signal_name)),
                Some(ChannelMsg::Failure) => {
                    refused = true;
                    let _ = self.channel.close().await;
                    break;
                }
                Some(ChannelMsg::Eof) => {
                    send(&mut self.errors, self.group.leftover()).await;
                    (self.output, self.errors) = (None, None);
                }
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

impl Pump {
    /// Ends the program: no more input, then signals to its process group. They come from a program of their own, as sshd
    /// passes none on where root is logged in, and reach what the login user may end.
    async fn end_program(&mut self) {
        let _ = self.channel.eof().await;
        for signal in ["TERM", "KILL"] {
            // One that is just being started tells its group soon.
            if self.closes_or(|group| !matches!(group, Group::Awaited(_))).await {
                return;
            }
            if let Group::Known(group) = self.group {
                let order = shell_words(&["kill", "-s", signal, "--", &format!("-{group}")].map(str::to_owned));
                let inner = self.inner.clone();
                let open = open_fresh(async move { inner.handle.channel_open_session().await }).await;
                if let Ok(Fresh(Some(channel))) = &open {
                    let _ = channel.exec(false, order).await;
                }
                if self.closes_or(|_| false).await {
                    return;
                }
            }
        }
    }

    /// Reads on for a while, until the channel is closed (true) or `enough` is known of the group.
    async fn closes_or(&mut self, enough: impl Fn(&Group) -> bool) -> bool {
        let read = async {
            while !enough(&self.group) {
                match self.channel.wait().await {
                    Some(ChannelMsg::ExtendedData { data, ext: 1 }) => drop(self.group.take_from(data)),
                    Some(ChannelMsg::Close) | None => return true,
                    Some(_) => {}
                }
            }
            false
        };
        tokio::time::timeout(GRACE, read).await.unwrap_or(false)
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

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_number_of_the_group_is_taken_out_of_standard_error() {
        let mut group = Group::Awaited(Vec::new());
        assert_eq!(group.take_from(Bytes::from_static(b"motd\n[xgenctl-gr")), Bytes::new());
        assert_eq!(group.take_from(Bytes::from_static(b"oup]42\nown")), Bytes::from_static(b"motd\nown"));
        assert!(matches!(group, Group::Known(42)));
        assert_eq!(
            group.take_from(Bytes::from_static(b"[xgenctl-group]7\n")),
            Bytes::from_static(b"[xgenctl-group]7\n")
        );
        let mut group = Group::Awaited(b"no shell".to_vec());
        assert_eq!(group.leftover(), Bytes::from_static(b"no shell"));
    }
}
