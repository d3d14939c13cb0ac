//! `xgenctl schema`: prints the JSON Schema of project.yaml.

use std::io::{self, Write};

use clap::Args;

use crate::project::schema;

/// Options of `xgenctl schema`: none.
#[derive(Debug, Clone, Default, Args)]
pub struct SchemaArgs {}

/// Prints the schema as JSON with a newline at its end.
///
/// # Errors
/// `out` cannot be written.
pub async fn run(_args: SchemaArgs, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(schema::text().as_bytes())
}
