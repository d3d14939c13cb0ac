//! `xgenctl` turns fresh Linux servers into a running platform.
//!
//! The map, in the order a run goes through it:
//!
//! * [`cli`]: one file per subcommand: parse, call, nothing else.
//! * [`project`]: project.yaml and secrets: raw text to validated types.
//! * [`engine`]: modules, plans, actions, the one executor, events, journal, lock.
//! * [`modules`]: what is set up: each observes and plans, none of them acts.
//! * [`host`]: how a server is reached and what was seen on it.
//! * [`cluster`]: the Kubernetes API through a host's transport.
//! * [`artifact`]: download, verify, cache.
//! * [`rehearsal`]: servers and a cluster that exist only in memory.
//! * [`report`]: terminal, plain text, JSON, run log, diagnostics.

// Nothing but `report` writes to the streams, and it goes through `io::Write`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![warn(missing_docs)]

pub mod artifact;
pub mod cli;
pub mod cluster;
pub mod engine;
pub mod host;
pub mod modules;
pub mod project;
pub mod rehearsal;
pub mod report;
pub mod secret;
