//! Servers and a cluster that exist only in memory, and behave as the real ones were seen to behave.
//!
//! * [`World`]: hosts, clusters, the simulated clock, faults; kept in a folder where one is given.
//! * [`SimTransport`], [`SimDownload`], [`RehearsalBackend`]: how a run reaches it, in place of SSH and HTTP.
//! * [`api`]: the simulated Kubernetes API, which also stands alone.
//! * [`faults`]: what goes wrong, at which point.
//!
//! What is simulated is exactly the scripts of [`host::scripts`](crate::host::scripts), K3s as systemd runs it, and the
//! API. Anything else is an error and is recorded ([`World::not_simulated`]), never a silent success.
//!
//! Time is tokio's: in a runtime with a paused clock ([`runtime`]) a set-up of minutes takes milliseconds, and the same
//! plan of faults always meets the same state.

pub mod api;
mod artifact;
mod backend;
mod disk;
mod download;
pub mod faults;
mod inspect;
mod k3s;
mod look;
mod machine;
mod persist;
mod scripts;
pub mod state;
mod systemd;
#[cfg(test)]
mod tests;
mod transport;
mod world;

pub use backend::RehearsalBackend;
pub use download::SimDownload;
pub use k3s::node::{NodeInfo, admit_node, register_node, set_ready};
pub use persist::StateError;
pub use transport::SimTransport;
pub use world::{Kept, Record, World};

/// A runtime for rehearsals: one thread, and a clock that jumps to the next thing that waits.
///
/// # Errors
/// Where the operating system refuses what a runtime needs.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
}
