//! Servers: how one is reached ([`transport`]), what is done there ([`Host`]), what was seen there ([`seen`]).

pub mod error;
pub mod local;
pub mod probe;
pub mod scripts;
pub mod seen;
pub mod ssh;
pub mod transport;

mod connection;
mod running;
mod upload;

pub use connection::{Command, FileSpec, Held, Host, Output, Source, Sudo};
pub use error::HostError;
pub use local::connect_local;
pub use seen::{Facts, FileKind, FileSeen, HostSeen, Interest, UnitSeen};
pub use ssh::{SshOptions, connect_ssh};
pub use transport::{Process, Stream, Transport};
