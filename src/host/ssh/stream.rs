//! The streams of a channel, as its users see them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use russh::Channel;
use russh::client::Msg;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// How much of a channel's output may wait for its reader. One connection carries all channels: a slow reader must not
/// hold up the others before this much has piled up.
const MOST_WAITING: usize = 16 * 1024 * 1024;

type Piece = io::Result<(Bytes, OwnedSemaphorePermit)>;

/// Fills a [`Queue`].
pub(super) struct Sender {
    pub(super) queue: mpsc::UnboundedSender<Piece>,
    space: Arc<Semaphore>,
}

/// The output of a channel, for its reader.
pub(super) struct Queue {
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// What the reader is at, with the space it takes.
    current: Option<(Bytes, OwnedSemaphorePermit)>,
}

pub(super) fn queue() -> (Queue, Sender) {
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
pub(super) struct Input {
    inner: Pin<Box<dyn AsyncWrite + Send>>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Told when the channel is closed.
    pub(super) gone: CancellationToken,
}

impl Input {
    pub(super) fn new(channel: &Channel<Msg>, abandoned: &CancellationToken) -> Self {
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
pub(super) struct Tunnel {
    pub(super) output: Queue,
    pub(super) input: Input,
    /// Closes the channel.
    pub(super) _guard: DropGuard,
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

/// Hands data on; a reader that is gone does not want any.
pub(super) async fn send(to: &mut Option<Sender>, data: Bytes) {
    if data.is_empty() {
        return;
    }
    let Some(sender) = to else { return };
    let size = u32::try_from(data.len()).unwrap_or(u32::MAX).min(MOST_WAITING as u32);
    let Ok(space) = sender.space.clone().acquire_many_owned(size).await else { return };
    if sender.queue.send(Ok((data, space))).is_err() {
        *to = None;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

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
