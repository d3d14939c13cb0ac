use std::time::Duration;

use super::*;
use crate::rehearsal::faults::{Counts, Fault, Plan, Point};

/// What a careful operator would do: everything again from the start until it works.
async fn install(world: &World) -> Result<(), HostError> {
    let shell = Shell(Arc::new(SimTransport::connect(world, "master").await?));
    let binary = format!("xgenctl simulated k3s {VERSION} amd64\n");
    let digest = hex(&Sha256::digest(&binary));
    let failed = |ended: &Ended| HostError::Failed {
        host: "master".into(),
        command: String::new(),
        code: ended.0,
        tail: ended.2.clone(),
    };
    let good = |ended: Ended| if ended.0 == 0 { Ok(ended) } else { Err(failed(&ended)) };
    let part = good(shell.run(&scripts::PART, &["/usr/local/bin/k3s", &digest]).await?)?;
    let offset = part.1.trim().to_owned();
    good(shell.put_with("/usr/local/bin/k3s", "755", binary.as_bytes(), "", &offset).await?)?;
    good(shell.put_with("/etc/rancher/k3s/config.yaml", "600", b"token: correct-horse\n", "k3s.service", "").await?)?;
    good(shell.put_with("/etc/systemd/system/k3s.service", "644", SERVER_UNIT.as_bytes(), "", "").await?)?;
    good(shell.run(&scripts::UNIT, &["start", "k3s.service"]).await?)?;
    good(shell.run(&scripts::WAIT_UNIT, &["k3s.service", "60"]).await?)?;
    let kube = client(world, &shell, "master").await;
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(kube);
    for _ in 0..40 {
        let list = nodes.list(&Default::default()).await;
        let list = list.map_err(|e| HostError::Connection { host: "master".into(), reason: e.to_string() })?;
        if list.items.iter().any(|n| format!("{:?}", n.status).contains("KubeletReady")) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("the node does not become Ready");
}

/// One run that is given up after five minutes or when it is killed.
async fn run(world: &World) -> Option<Result<(), HostError>> {
    tokio::select! {
        ended = tokio::time::timeout(Duration::from_secs(300), install(world)) => ended.ok(),
        () = world.killed() => None,
    }
}

/// The first place where two values differ.
fn difference(found: &serde_json::Value, wanted: &serde_json::Value) -> String {
    match (found, wanted) {
        (serde_json::Value::Object(a), serde_json::Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let null = serde_json::Value::Null;
            let of =
                |map: &serde_json::Map<String, serde_json::Value>, key: &String| map.get(key).unwrap_or(&null).clone();
            keys.iter()
                .find(|key| of(a, key) != of(b, key))
                .map(|key| format!("{key} > {}", difference(&of(a, key), &of(b, key))))
                .unwrap_or_default()
        }
        _ => format!("{found} instead of {wanted}"),
    }
}

fn in_world<T>(world: &World, plan: Plan, work: impl AsyncFnOnce(&World) -> T) -> T {
    runtime().unwrap().block_on(async {
        world.begin_run(plan);
        work(world).await
    })
}

fn fault_free() -> (Counts, serde_json::Value) {
    let world = World::new(&two());
    in_world(&world, Plan::none(), async |world| {
        assert!(run(world).await.unwrap().is_ok());
        (world.counts(), world.fingerprint())
    })
}

#[test]
fn whatever_goes_wrong_a_later_run_ends_in_the_same_state() {
    let (counts, wanted) = fault_free();
    assert!(counts.of(Point::Spawn) > 5 && counts.of(Point::Api) > 1 && counts.of(Point::Stdin) == 3, "{counts:?}");
    for seed in 0..150 {
        let plan = Plan::from_seed(seed, &counts);
        let world = World::new(&two());
        in_world(&world, plan.clone(), run);
        for _ in 0..4 {
            if in_world(&world, Plan::none(), run).is_some_and(|ended| ended.is_ok()) {
                break;
            }
        }
        let (found, left) = in_world(&world, Plan::none(), async |world| (world.fingerprint(), world.leftovers()));
        assert!(found == wanted, "seed {seed}: {:?}: {}", plan.faults(), difference(&found, &wanted));
        assert!(left.is_empty(), "seed {seed}: {left:?}");
        assert!(world.not_simulated().is_empty(), "seed {seed}");
    }
}

#[test]
fn the_same_seed_twice_takes_the_same_way() {
    let (counts, _) = fault_free();
    for seed in [3, 17, 40, 99] {
        let traces: Vec<Vec<String>> = (0..2)
            .map(|_| {
                let world = World::new(&two());
                in_world(&world, Plan::from_seed(seed, &counts), async |world| {
                    run(world).await;
                    world.trace()
                })
            })
            .collect();
        assert_eq!(traces[0], traces[1], "seed {seed}");
        assert!(traces[0].iter().any(|line| line.contains('!')), "seed {seed} injects nothing: {:?}", traces[0]);
    }
}

#[test]
fn each_fault_leaves_what_it_would_leave_in_reality() {
    let world = World::new(&two());
    // Killed on the server while it writes: nothing cleans up.
    in_world(&world, Plan::none().at(Point::Stdin, 1, Fault::ScriptKilled), async |world| {
        let shell = Shell::to(world, "master").await;
        assert_eq!(shell.put_with("/etc/a", "600", b"0123456789", "", "").await.unwrap().0, 137);
        assert_eq!(world.leftovers(), ["master:/etc/.a.xgenctl-tmp"]);
        shell.put("/etc/a", "600", "good").await;
        assert!(world.leftovers().is_empty());
    });
    // No space, no permission: told, and the file is as it was.
    let full = Plan::none().at(Point::Spawn, 1, Fault::DiskFull).at(Point::Spawn, 2, Fault::WriteRefused);
    in_world(&world, full, async |world| {
        let shell = Shell::to(world, "master").await;
        let ended = shell.put_with("/etc/a", "600", b"0123456789", "", "").await.unwrap();
        assert_eq!((ended.0, ended.2.as_str()), (1, "cat: write error: No space left on device\n"));
        let ended = shell.put_with("/etc/a", "600", b"0123456789", "", "").await.unwrap();
        assert!(ended.2.contains("Read-only file system"), "{}", ended.2);
        assert_eq!(world.host("master", |h| h.read_text("/etc/a")).flatten().unwrap(), "good");
        assert!(world.leftovers().is_empty());
    });
    // It was done, but nobody hears of it; the host stays away for a while.
    let plan = Plan::none().at(Point::Spawn, 1, Fault::AnswerLost).at(Point::Spawn, 2, Fault::Unreachable(4_000));
    in_world(&world, plan, async |world| {
        let shell = Shell::to(world, "master").await;
        assert!(shell.put_with("/etc/a", "600", b"better", "", "").await.is_err());
        assert_eq!(world.host("master", |h| h.read_text("/etc/a")).flatten().unwrap(), "better");
        assert!(shell.0.spawn(&argv(&scripts::PROBE, &[])).await.is_err(), "the connection is gone for good");
        let shell = Shell::to(world, "master").await;
        assert!(shell.run(&scripts::PART, &["/x", "0"]).await.is_err());
        assert!(SimTransport::connect(world, "master").await.is_err());
        tokio::time::sleep(Duration::from_secs(5)).await;
        Shell::to(world, "master").await;
    });
    // A killed process does nothing any more.
    in_world(&world, Plan::none().at(Point::Spawn, 2, Fault::Killed), async |world| {
        let shell = Shell::to(world, "master").await;
        assert!(shell.run(&scripts::PART, &["/x", "0"]).await.is_ok());
        assert!(shell.run(&scripts::PART, &["/x", "0"]).await.is_err());
        world.killed().await;
        assert!(SimTransport::connect(world, "master").await.is_err());
    });
    in_world(&world, Plan::none(), async |world| {
        assert!(!world.is_killed());
        Shell::to(world, "master").await;
    });
}

#[test]
fn no_secret_is_in_arguments_journals_requests_or_errors() {
    let world = World::new(&two());
    in_world(&world, Plan::none(), async |world| {
        assert!(run(world).await.unwrap().is_ok());
        let secrets = world.secrets();
        assert!(secrets.contains(&"correct-horse".to_owned()) && secrets.len() == 3, "{secrets:?}");
        for record in world.records().iter().filter(|r| r.kept != Kept::Stdout) {
            for secret in &secrets {
                assert!(!record.text.contains(secret.as_str()), "{record:?}");
            }
        }
        assert!(world.records().iter().any(|r| r.kept == Kept::Api));
        assert!(world.records().iter().any(|r| r.kept == Kept::Journal));
    });
}
