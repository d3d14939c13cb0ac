//! One run at a time per cluster: a lock held on the first server by a program that ends with the connection.

use tokio::sync::Mutex;

use super::error::StepError;
use super::world::World;
use crate::host::{Command, Held, HostError, scripts};

/// Exit code of the lock script where another run holds the lock.
const HELD_BY_ANOTHER: i32 = 75;

/// The run lock, held for as long as this value lives and its connection does.
pub struct RunLock {
    node: String,
    holder: String,
    held: Mutex<Option<Held>>,
}

impl RunLock {
    /// Takes the lock on a server. `holder` tells others who runs what since when.
    ///
    /// # Errors
    /// [`StepError::Locked`] where another run has it.
    pub async fn acquire(world: &World, node: &str, holder: String) -> Result<Self, StepError> {
        let held = take(world, node, &holder).await?;
        Ok(Self { node: node.to_owned(), holder, held: Mutex::new(Some(held)) })
    }

    /// Takes the lock again if the connection that held it broke.
    ///
    /// # Errors
    /// [`StepError::Locked`] where another run took it meanwhile: this one must stop.
    pub async fn ensure(&self, world: &World) -> Result<(), StepError> {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|h| !*h.lost.borrow()) {
            return Ok(());
        }
        // The old holder is let go first, or it would exclude its own successor.
        *held = None;
        world.disconnect(&self.node).await;
        *held = Some(take(world, &self.node, &self.holder).await?);
        Ok(())
    }
}

async fn take(world: &World, node: &str, holder: &str) -> Result<Held, StepError> {
    let host = world.host(node).await?;
    match host.hold(&Command::script(&scripts::LOCK, [holder])).await? {
        Ok((line, held)) if line.trim() == "locked" => Ok(held),
        Ok((line, _)) => Err(HostError::Protocol {
            host: node.to_owned(),
            reason: format!("the lock program said {line:?} instead of \"locked\""),
        }
        .into()),
        Err(output) if output.code == HELD_BY_ANOTHER => Err(StepError::Locked {
            host: node.to_owned(),
            holder: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        }),
        Err(output) => Err(HostError::Failed {
            host: node.to_owned(),
            command: "take the run lock".into(),
            code: output.code,
            tail: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }
        .into()),
    }
}
