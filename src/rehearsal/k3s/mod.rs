//! K3s as a simulated server runs it: its configuration, how it starts, and how its node joins.

pub mod config;
pub mod flags;
pub mod node;
pub mod start;
