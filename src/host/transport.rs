//! The narrow waist between xgenctl and a server: start a program, open a TCP connection, nothing else.
//!
//! Everything richer (sudo, atomic writes, time-outs) is built once, on top, in [`Host`](super::Host). Local shell, SSH
//! and rehearsal therefore share all of it.

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use super::HostError;

/// A two-way byte stream, such as a TCP connection made on the server's side.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A program that was started on a server.
///
/// Dropping the whole value ends the program: its standard input closes and, where the transport can, it is signalled.
pub struct Process {
    /// Standard input; shutting it down sends end-of-file.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// The exit code once the program ended (128 + signal number when a signal ended it).
    pub status: BoxFuture<'static, Result<i32, HostError>>,
}

/// One authenticated way to a server. Implementations: local, SSH, rehearsal.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Starts a program from its argument vector. No value in `argv` is ever interpreted by a shell.
    ///
    /// # Errors
    /// [`HostError::Connection`] where the way to the server is broken.
    async fn spawn(&self, argv: &[String]) -> Result<Process, HostError>;

    /// Opens a TCP connection from the server to `host:port`, as seen from the server.
    async fn open_tcp(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, HostError>;
}
