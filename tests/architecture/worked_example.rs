//! The module of docs/architecture.md is one: it sets up, and the second run finds nothing to do.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use xgenctl::artifact::Store;
use xgenctl::engine::journal::Journal;
use xgenctl::engine::run::{RunOptions, Summary};
use xgenctl::engine::{AnyModule, EventSink, ModuleState, Session, World, observe};
use xgenctl::modules::preflight::Gate;
use xgenctl::project::{Mode, Project, SecretsStore};
use xgenctl::rehearsal::{self, RehearsalBackend};
use xgenctl::secret::{Redactor, Secret};

use super::example::Motd;
use super::read;

const SITE: &str = "project: { name: xgen }
nodes:
  - { name: a, role: server, host: 10.0.0.1 }
  - { name: b, role: agent, host: 10.0.0.2 }
";

struct Ground {
    project: Project,
    servers: rehearsal::World,
    modules: Vec<Box<dyn AnyModule>>,
    store: Store,
}

impl Ground {
    fn world(&self) -> Arc<World> {
        let backend = Arc::new(RehearsalBackend::new(self.servers.clone()));
        let token = Secret::new("token-of-the-example");
        Arc::new(World::new(self.project.clone(), backend, &self.modules, token, Redactor::default()))
    }

    async fn set_up(&self) -> Summary {
        let session = Session {
            world: self.world(),
            store: self.store.clone(),
            journal: Journal::none(),
            events: EventSink::new(Vec::new(), Redactor::default()),
            cancel: CancellationToken::new(),
            run: "1".into(),
            command: "setup motd".into(),
            holder: "a test".into(),
            rehearsal: true,
        };
        let gate = Gate::new(self.store.clone(), &[]).unwrap();
        let options = RunOptions { chosen: vec![0], force: false, dry_run: false, jobs: 1, wait_for_manual: false };
        session.setup(&self.modules, &gate, options).await.unwrap()
    }
}

#[test]
fn the_worked_example_works() {
    let cache = tempfile::tempdir().unwrap();
    let redactor = Redactor::default();
    let mut secrets = SecretsStore::without_file(Mode::Rehearsal, &redactor).unwrap();
    let project = Project::parse(Path::new("project.yaml"), SITE, &mut secrets, &redactor, Mode::Rehearsal).unwrap();
    rehearsal::runtime().unwrap().block_on(async {
        let servers = rehearsal::World::new(&project);
        let modules: Vec<Box<dyn AnyModule>> = vec![Box::new(Motd)];
        let ground = Ground { project, servers, modules, store: Store::new(cache.path()) };
        let first = ground.set_up().await;
        assert!(first.ok() && first.tally.changed == 2, "{first:?}");
        let second = ground.set_up().await;
        assert!(second.ok() && second.tally.changed == 0 && second.tally.unchanged == 2, "{second:?}");
        let status = observe(&ground.world(), &ground.modules, &[0]).await;
        assert_eq!(status.modules[0].state, ModuleState::Converged);
    });
}

#[test]
fn the_document_shows_the_module_that_is_tested() {
    // Inside the crate it is the same text with `crate` for the crate's name.
    let module = read("tests/architecture/example.rs").replace("xgenctl::", "crate::");
    assert!(
        read("docs/architecture.md").contains(&format!("```rust\n{module}```\n")),
        "docs/architecture.md has another module `motd` than tests/architecture/example.rs"
    );
}
