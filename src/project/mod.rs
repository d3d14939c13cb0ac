//! project.yaml and secrets: raw text is validated once into the types of [`model`]; nobody checks them twice.
//!
//! The way of a file: [`yaml`] (text to a tree with positions, within limits), [`schema`] (unknown keys and wrong types,
//! by the published JSON Schema of [`raw`]), then validation into [`Project`]. Everything that is wrong comes back as one
//! [`ProjectError`].

pub mod defaults;
pub mod edit;
pub mod error;
pub mod init;
mod load;
pub mod model;
pub mod raw;
pub mod rules;
pub mod schema;
pub mod secrets;
mod validate;
pub mod yaml;

pub use error::ProjectError;
pub use load::find;
pub use model::*;
pub use secrets::{Mode, SecretsStore};
