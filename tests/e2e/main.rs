//! Whole runs of xgenctl on fresh Debian servers with systemd and sshd, against K3s or its stand-in.
//!
//! They need root, Docker Engine and debootstrap, so they run only where `XGENCTL_REAL=1` is set, and say so otherwise.
//! `XGENCTL_E2E_K3S` names a real K3s binary; without it the stand-in of the test tree takes its place.

#[path = "../support/servers/mod.rs"]
mod servers;

mod adoption;
mod cluster;
mod contract;
mod control_plane;
mod downloads;
mod fresh;
mod interruption;
mod local;

/// The program under test.
const XGENCTL: &str = env!("CARGO_BIN_EXE_xgenctl");
