//! What the engine promises of cost and order, on rehearsed servers.

mod support;

use std::sync::Arc;

use support::{Job, Rehearsal, SITE};
use xgenctl::engine::Event;
use xgenctl::rehearsal::RehearsalBackend;
use xgenctl::rehearsal::faults::{Plan, Point};

/// The nodes of a site with one server and so many agents.
fn site_with_agents(number: usize) -> String {
    let agents: String =
        (1..=number).map(|i| format!("  - {{ name: a{i}, role: agent, host: 10.0.1.{i} }}\n")).collect();
    format!("project: {{ name: site }}\nnodes:\n  - {{ name: master, role: server, host: 10.0.0.10 }}\n{agents}")
}

#[test]
fn what_is_converged_costs_one_connection_and_at_most_three_round_trips_a_host() {
    let site = Rehearsal::new(SITE);
    assert!(site.run(Plan::none(), Job::default()).ok(), "{}", site.recorder.text());
    let runtime = xgenctl::rehearsal::runtime().unwrap();
    runtime.block_on(async {
        site.world.begin_run(Plan::none());
        let modules = xgenctl::modules::all();
        let world = site.engine_world_with(&modules, Arc::new(RehearsalBackend::new(site.world.clone())));
        let summary = site.session(world.clone(), &modules, Job::default()).await.unwrap();
        assert!(summary.ok() && summary.tally.changed == 0);
        for node in ["master", "a1", "a2"] {
            let trips = world.host(node).await.unwrap().round_trips();
            // The server: its lock, its probe, the tunnel to its API. An agent: its probe.
            let most = if node == "master" { 3 } else { 1 };
            assert_eq!(trips, most, "round trips to {node}: {:?}", site.world.trace());
        }
        assert_eq!(site.world.counts().of(Point::Connect), 3, "one connection a host");
        // One list of the nodes serves both modules.
        assert!(site.world.counts().of(Point::Api) <= 2, "{:?}", site.world.trace());
    });
}

/// How long the module `agents` took, in simulated milliseconds.
fn time_of_agents(number: usize) -> u64 {
    let site = Rehearsal::new(&site_with_agents(number));
    assert!(site.run(Plan::none(), Job::default()).ok(), "{}", site.recorder.text());
    let times: Vec<u64> = site
        .recorder
        .events()
        .iter()
        .filter_map(|e| match e {
            Event::ModuleFinished { module, ms, .. } if module == "agents" => Some(*ms),
            _ => None,
        })
        .collect();
    assert_eq!(times.len(), 1);
    times[0]
}

#[test]
fn eight_agents_join_as_fast_as_one() {
    let (one, eight) = (time_of_agents(1), time_of_agents(8));
    // Simulated time: the same on every machine.
    assert!(eight <= one + one / 10, "one agent takes {one} ms, eight take {eight} ms");
}

#[test]
fn a_dry_run_of_a_blank_site_plans_everything_and_touches_nothing() {
    let site = Rehearsal::new(SITE);
    let before = site.world.fingerprint();
    let job = Job { dry_run: true, ..Job::default() };
    let summary = site.run(Plan::none(), job).summary();
    assert!(summary.ok() && summary.tally.changed > 20, "{:?}", summary.tally);
    assert_eq!(site.world.fingerprint(), before);
}

#[test]
fn drift_restarts_only_what_reads_the_file() {
    let site = Rehearsal::new(SITE);
    assert!(site.run(Plan::none(), Job::default()).ok());
    let before = site.world.main_pids();
    site.world.tamper("a1", |host| {
        let config = host.files.get_mut("/etc/rancher/k3s/config.yaml").unwrap();
        config.content.extend_from_slice(b"kubelet-arg: [\"max-pods=9\"]\n");
    });
    let status = site.status();
    assert!(!status.converged);
    let shown = Rehearsal { recorder: Default::default(), ..site };
    let dry = shown.run(Plan::none(), Job { dry_run: true, ..Job::default() }).summary();
    // The file, the restart, the wait.
    assert_eq!(dry.tally.changed, 3, "{}", shown.recorder.text());
    assert!(shown.recorder.text().contains("-kubelet-arg: "), "{}", shown.recorder.text());
    assert!(shown.run(Plan::none(), Job::default()).ok());
    let after = shown.world.main_pids();
    let restarted: Vec<_> = before.iter().filter(|(unit, pid)| after.get(*unit) != Some(pid)).map(|(u, _)| u).collect();
    assert_eq!(restarted, ["a1/k3s-agent.service"]);
    assert!(shown.status().converged);
}
