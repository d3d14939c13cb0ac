//! What is set up. Each module observes and plans; none of them acts or knows another.

pub mod k3s;
pub mod preflight;

use crate::engine::AnyModule;

/// Every module there is. Their order follows from what they require; among equals the order here counts.
pub fn all() -> Vec<Box<dyn AnyModule>> {
    vec![Box::new(k3s::Servers), Box::new(k3s::Agents)]
}
