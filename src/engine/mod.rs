//! How a run works: modules observe and plan, one executor acts, one stream of events tells.

pub mod action;
pub mod event;
pub mod status;
pub mod world;

pub use action::{Action, Content, Disruption, Operation, Plan, Reason, Stage};
pub use event::{Event, EventSink, Outcome};
pub use world::Backend;
