//! modules

pub mod preflight;
