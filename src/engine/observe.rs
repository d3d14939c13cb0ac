//! `status`: every module observed at the same time, nothing changed.

use futures::future::join_all;
use serde_json::json;

use super::module::{AnyModule, Intent};
use super::status::{ModuleState, ModuleStatus, StatusReport};
use super::world::World;

/// Observes the chosen modules. One that cannot be seen is `unknown`, with the reason in its details.
pub async fn observe(world: &World, modules: &[Box<dyn AnyModule>], chosen: &[usize]) -> StatusReport {
    // Hosts are looked at side by side before any module asks for one of them.
    world.survey_all(world.reachable()).await;
    let statuses = chosen.iter().map(|index| async {
        let module = &modules[*index];
        match module.assess(world, Intent::default()).await {
            Ok(assessment) => assessment.status,
            Err(error) => {
                let info = error.info();
                let mut status = ModuleStatus::new(module.name(), ModuleState::Unknown).detail("error", info.message);
                if let Some(hint) = info.hint {
                    status = status.detail("hint", json!(hint));
                }
                status
            }
        }
    });
    let modules = join_all(statuses).await;
    let converged = modules.iter().all(|m| m.state == ModuleState::Converged);
    StatusReport { project: world.project().name.clone(), converged, modules }
}
