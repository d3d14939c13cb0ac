//! The whole program from the outside: the real binary with a home, a working folder and an environment of its own.
//!
//! Servers are those of a rehearsal; the network is loopback at most. Where a fault cannot be produced from the command
//! line, a run is put together from the library as the command does it.

#[path = "cli/bad_input.rs"]
mod bad_input;
#[path = "cli/checks.rs"]
mod checks;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/downloads.rs"]
mod downloads;
#[path = "cli/drift.rs"]
mod drift;
#[path = "cli/engine.rs"]
mod engine;
#[path = "cli/init.rs"]
mod init;
#[path = "cli/interrupt.rs"]
mod interrupt;
#[path = "cli/json.rs"]
mod json;
#[path = "cli/mirror.rs"]
mod mirror;
#[path = "cli/nodes.rs"]
mod nodes;
#[path = "cli/rehearse.rs"]
mod rehearse;
#[path = "cli/site.rs"]
mod site;
#[path = "cli/terminal.rs"]
mod terminal;
