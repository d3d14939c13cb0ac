//! K3s: the servers (module `k3s`) and the agents (module `agents`).
//!
//! Both install a node in the same way ([`node`]); they differ in what configures it ([`config`]) and in their order:
//! servers join one at a time, agents all at once. A K3s that somebody else installed is taken as it is ([`adopt`]).

mod adopt;
mod agents;
mod config;
mod inventory;
mod labels;
mod layout;
mod node;
mod removal;
mod report;
mod servers;
#[cfg(test)]
mod tests;

pub use agents::Agents;
pub use inventory::{NodeRow, inventory};
pub use layout::{AGENT_UNIT, SERVER_UNIT, unit_of};
pub use removal::removal;
pub use servers::{Servers, kubeconfig};

/// How long a server may take until its unit is active, in seconds: it may have to unpack images first.
const UNIT_TIMEOUT_SECS: u64 = 300;
/// How long a node may take to become Ready, in seconds: the first start pulls the pause and network images.
const READY_TIMEOUT_SECS: u64 = 300;
