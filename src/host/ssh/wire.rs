//! The bytes under an SSH connection: TCP, and an end to writes that nobody takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::target::Target;
use crate::host::{HostError, Stream};

/// Connects to the target's sshd, trying its addresses one after another within the time it has.
pub(super) async fn connect(target: &Target) -> Result<Box<dyn Stream>, HostError> {
    let end = Instant::now() + target.connect_timeout;
    let late =
        || target.broken(format!("{} did not answer within {} s", target.address(), target.connect_timeout.as_secs()));
    let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
    let addresses: Vec<_> = match tokio::time::timeout_at(end, lookup).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(e)) => return Err(target.broken(format!("the name {} does not resolve: {e}", target.host))),
        Err(_) => return Err(late()),
    };
    let mut left = addresses.len() as u32;
    let mut error = target.broken(format!("the name {} has no address", target.host));
    for address in addresses {
        // An address that swallows packets must not use up the time of the next one.
        let share = end.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Only costs latency where it fails.
                let _ = stream.set_nodelay(true);
                return Ok(Box::new(stream));
            }
            Ok(Err(e)) => error = target.broken(format!("{}: {}", target.address(), reason(&e))),
            Err(_) => error = late(),
        }
    }
    Err(error)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection is refused: nothing listens on that port".into(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "there is no route to that host".into(),
        _ => error.to_string(),
    }
}

/// A stream whose writes fail when the other end takes nothing for a while.
///
/// The protocol's own check for a dead connection cannot run while a write hangs.
pub(super) struct Impatient<S> {
    inner: S,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) fn new(inner: S, patience: Duration) -> Self {
        Self { inner, patience, waiting: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other end takes no data any more")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails() {
        let (ours, theirs) = tokio::io::duplex(8);
        let mut stream = Impatient::new(ours, Duration::from_secs(45));
        stream.write_all(b"fits").await.unwrap();
        let error = stream.write_all(b"does not fit").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }
}
