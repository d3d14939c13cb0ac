//! The gate before a run: asks the hosts what the checks need to know, and lets the checks judge.

use async_trait::async_trait;
use futures::future::join_all;

use super::{check_across, check_host, judge_download, judge_reach, known, reach_targets, skip};
use crate::artifact::{Artifact, K3sArch, Store};
use crate::engine::event::CheckResult;
use crate::engine::preflight::Preflight;
use crate::engine::{StepError, World};
use crate::host::{Command, HostSeen, scripts};
use crate::project::Node;

/// How long a node tries to reach one port of another, in seconds.
const REACH_SECONDS: u64 = 5;

/// All checks, over all hosts of a project.
pub struct Gate {
    store: Store,
    skipped: Vec<String>,
}

impl Gate {
    /// A gate at which the named checks do not block. `store` tells what needs no download any more.
    ///
    /// # Errors
    /// A sentence that names a check that does not exist.
    pub fn new(store: Store, skipped: &[String]) -> Result<Self, String> {
        known(skipped)?;
        Ok(Self { store, skipped: skipped.to_vec() })
    }

    /// Whether the nodes of `hosts` reach each other, asked only where one of two does not run K3s yet.
    async fn reach(&self, world: &World, hosts: &[(Node, HostSeen)]) -> Result<Vec<CheckResult>, StepError> {
        let answers = reach_targets(world.project(), hosts).into_iter().map(|reach| async move {
            let host = world.host(&reach.from).await?;
            let seconds = REACH_SECONDS.to_string();
            let longest = REACH_SECONDS * (reach.targets.len() as u64 + 2);
            let command = Command::script(&scripts::REACH, std::iter::once(seconds).chain(reach.endpoints()))
                .timeout(std::time::Duration::from_secs(longest));
            Ok(judge_reach(&reach, &host.run(&command).await?))
        });
        join_all(answers).await.into_iter().collect()
    }

    /// Whether what has to be downloaded can be: asked for only where a node needs what the cache does not have.
    async fn download(&self, world: &World, hosts: &[(Node, HostSeen)]) -> Vec<CheckResult> {
        let project = world.project();
        let mut wanted: Vec<Artifact> = Vec::new();
        for (_, seen) in hosts.iter().filter(|(_, seen)| !has_k3s(seen)) {
            // An architecture that K3s is not released for has a check of its own.
            let Ok(arch) = K3sArch::from_uname(&seen.facts.arch) else { continue };
            let artifact = Artifact::k3s(&project.k3s.version.to_string(), arch, &project.k3s_mirror);
            if !wanted.contains(&artifact) && !self.store.path_of(&artifact).exists() {
                wanted.push(artifact);
            }
        }
        let asked = wanted.iter().map(|artifact| async {
            let url = artifact.checksums_url();
            let result = world.download().get(&url, 0).await.map(drop);
            judge_download(&url, &result)
        });
        join_all(asked).await
    }
}

fn has_k3s(seen: &HostSeen) -> bool {
    seen.units.contains_key("k3s.service") || seen.units.contains_key("k3s-agent.service")
}

#[async_trait]
impl Preflight for Gate {
    async fn check(&self, world: &World) -> Result<Vec<CheckResult>, StepError> {
        let mut hosts: Vec<(Node, HostSeen)> = Vec::new();
        let mut errors = Vec::new();
        for (node, seen) in world.survey_all(world.reachable()).await {
            match seen {
                Ok(seen) => hosts.push((node.clone(), seen.as_ref().clone())),
                Err(error) => errors.push(error),
            }
        }
        if let Some(error) = StepError::of_hosts(errors) {
            return Err(error);
        }
        let mut results: Vec<CheckResult> =
            hosts.iter().flat_map(|(node, seen)| check_host(world.project(), node, seen)).collect();
        results.extend(check_across(world.project(), &hosts));
        let (reached, downloads) = tokio::join!(self.reach(world, &hosts), self.download(world, &hosts));
        results.extend(reached?);
        results.extend(downloads);
        Ok(skip(results, &self.skipped))
    }
}
