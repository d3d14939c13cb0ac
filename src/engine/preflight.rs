//! The gate before a run: checks that must not block.

use async_trait::async_trait;

use super::error::StepError;
use super::event::{CheckLevel, CheckResult};
use super::world::World;

/// The name the gate goes by in events.
pub const NAME: &str = "preflight";

/// Something that looks at all hosts before anything is touched.
#[async_trait]
pub trait Preflight: Send + Sync {
    /// Runs every check.
    ///
    /// # Errors
    /// Where a host cannot be seen.
    async fn check(&self, world: &World) -> Result<Vec<CheckResult>, StepError>;
}

/// Whether a run may go on with these results.
pub fn blocks(results: &[CheckResult]) -> bool {
    results.iter().any(|r| r.level == CheckLevel::Block)
}
