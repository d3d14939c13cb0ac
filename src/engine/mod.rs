//! How a run works: modules observe and plan, one executor acts, one stream of events tells.

pub mod action;
pub mod diff;
pub mod error;
pub mod event;
pub mod executor;
pub mod identity;
pub mod journal;
pub mod live;
pub mod lock;
pub mod module;
pub mod observe;
pub mod order;
pub mod preflight;
pub mod run;
pub mod session;
pub mod status;
pub mod world;

pub use action::{Action, Content, Disruption, Operation, Plan, Reason, Stage};
pub use error::StepError;
pub use event::{Event, EventSink, Outcome};
pub use module::{AnyModule, Assessment, Intent, Module};
pub use observe::observe;
pub use session::Session;
pub use status::{ModuleState, ModuleStatus, StatusReport};
pub use world::{Backend, World};
