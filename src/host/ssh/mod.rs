//! Servers reached over SSH.
pub mod config;
pub mod known_hosts;
