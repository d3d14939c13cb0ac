//! Servers reached over SSH.
