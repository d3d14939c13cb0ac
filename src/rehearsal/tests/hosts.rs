use std::time::Duration;

use futures::StreamExt;

use super::*;
use crate::artifact::{Download, FetchError};
use crate::engine::Backend;

#[tokio::test(start_paused = true)]
async fn what_is_not_simulated_is_an_error_and_is_recorded() {
    let world = World::new(&two());
    let shell = Shell::to(&world, "master").await;
    let argv: Vec<String> = ["sh", "-c", "echo hello", "xgenctl-put"].map(str::to_owned).into();
    let ended = end(shell.0.spawn(&argv).await.unwrap()).await.unwrap();
    assert_eq!((ended.0, ended.2.as_str()), (127, "not simulated: sh -c echo hello xgenctl-put\n"));
    assert_eq!(world.not_simulated(), ["sh -c echo hello xgenctl-put"]);
    assert!(shell.0.open_tcp("127.0.0.1", 6443).await.is_err(), "nothing listens there yet");
}

#[tokio::test(start_paused = true)]
async fn files_are_put_whole_checked_and_owned() {
    let world = World::new(&two());
    let shell = Shell::to(&world, "master").await;
    let digest = hex(&Sha256::digest(b"hello"));
    let spec = ["/etc/new/folder/file", "640", "ops:adm", digest.as_str(), "k3s.service", ""];
    let mut process = shell.0.spawn(&argv(&scripts::PUT, &spec)).await.unwrap();
    process.stdin.write_all(b"hello").await.unwrap();
    assert_eq!(end(process).await.unwrap().0, 0);
    let file = world.host("master", |h| h.files["/etc/new/folder/file"].clone()).unwrap();
    assert_eq!(
        (file.content.as_slice(), file.mode, file.owner.as_str(), file.group.as_str()),
        (&b"hello"[..], 0o640, "ops", "adm")
    );
    assert!(world.host("master", |h| h.files.contains_key("/run/xgenctl/restart-k3s.service")).unwrap());

    // Something else arrives than was announced: nothing changes, nothing is left.
    let mut process = shell.0.spawn(&argv(&scripts::PUT, &spec)).await.unwrap();
    process.stdin.write_all(b"hell").await.unwrap();
    let ended = end(process).await.unwrap();
    assert_eq!(ended.0, 65);
    assert!(ended.2.contains(&format!("expected {digest}")), "{}", ended.2);
    assert_eq!(world.host("master", |h| h.read_text("/etc/new/folder/file")).flatten().unwrap(), "hello");
    assert!(world.leftovers().is_empty());

    let linked = shell.run(&scripts::LINK, &["file", "/etc/new/folder/link"]).await.unwrap();
    assert_eq!(linked.0, 0);
    assert_eq!(world.host("master", |h| h.read_text("/etc/new/folder/link")).flatten().unwrap(), "hello");
    assert_eq!(shell.run(&scripts::LINK, &["x", "/etc/new/other/link"]).await.unwrap().0, 0);
    assert_eq!(shell.run(&scripts::LINK, &["x", "/etc/new/other"]).await.unwrap().0, 1);
    let folder = shell.put_with("/etc/new/other", "600", b"x", "", "").await.unwrap();
    assert_eq!((folder.0, folder.2.as_str()), (73, "/etc/new/other: Is a directory\n"));
    shell.run(&scripts::REMOVE, &["/etc/new", "/not/there"]).await.unwrap();
    assert!(world.host("master", |h| !h.files.keys().any(|p| p.starts_with("/etc/new"))).unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_upload_resumes_where_it_stopped() {
    let world = World::new(&two());
    let shell = Shell::to(&world, "master").await;
    let content = b"0123456789";
    let digest = hex(&Sha256::digest(content));
    world.begin_run(faults::Plan::none().at(faults::Point::Stdin, 1, faults::Fault::ConnectionLost));
    let shell_two = Shell::to(&world, "master").await;
    let lost = shell_two.put_with("/opt/big", "755", content, "", "0").await;
    assert!(matches!(lost, Err(HostError::Connection { .. })), "{lost:?}");
    assert_eq!(world.leftovers().len(), 1);
    drop(shell);

    let shell = Shell::to(&world, "master").await;
    let there = shell.run(&scripts::PART, &["/opt/big", &digest]).await.unwrap().1;
    assert_eq!(there, "5\n");
    assert_eq!(shell.run(&scripts::PART, &["/opt/big", &"0".repeat(64)]).await.unwrap().1, "0\n");
    assert_eq!(shell.put_with("/opt/big", "755", content, "", there.trim()).await.unwrap().0, 0);
    assert_eq!(world.host("master", |h| h.read("/opt/big").map(<[u8]>::to_vec)).flatten().unwrap(), content);
    assert!(world.leftovers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_run_lock_excludes_names_its_holder_and_is_freed_with_its_connection() {
    let world = World::new(&two());
    let first = Shell::to(&world, "master").await;
    let mut held = first.0.spawn(&argv(&scripts::LOCK, &["ops@laptop: setup"])).await.unwrap();
    let mut said = [0; 7];
    held.stdout.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"locked\n");

    let second = Shell::to(&world, "master").await;
    assert_eq!(second.run(&scripts::LOCK, &["other"]).await.unwrap(), (75, "ops@laptop: setup".into(), String::new()));
    // It is kept as long as bytes come, and another host has a lock of its own.
    for _ in 0..5 {
        held.stdin.write_all(b".").await.unwrap();
        tokio::time::sleep(Duration::from_secs(50)).await;
    }
    assert_eq!(second.run(&scripts::LOCK, &["other"]).await.unwrap().0, 75);
    let worker = Shell::to(&world, "worker").await;
    assert_eq!(worker.run(&scripts::LOCK, &["other"]).await.unwrap().1, "locked\n");

    drop(first);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(second.run(&scripts::LOCK, &["other"]).await.unwrap().1, "locked\n");
    assert!(world.host("master", |h| !h.files.contains_key("/run/xgenctl/holder")).unwrap());

    // A connection that sends nothing any more loses it after a minute.
    let mut silent = second.0.spawn(&argv(&scripts::LOCK, &["silent"])).await.unwrap();
    silent.stdout.read_exact(&mut said).await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(second.run(&scripts::LOCK, &["other"]).await.unwrap().1, "locked\n");
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_open_refused_filtered_or_unresolved() {
    let world = World::new(&two());
    let shell = Shell::to(&world, "worker").await;
    let asked = ["3", "10.0.0.10:22", "master:6443", "10.9.9.9:22", "nowhere:22", "github.com:443"];
    let said = shell.run(&scripts::REACH, &asked).await.unwrap().1;
    assert_eq!(
        said,
        "10.0.0.10:22 open\nmaster:6443 refused\nnowhere:22 unresolved\ngithub.com:443 open\n10.9.9.9:22 filtered\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_shows_what_it_was_asked_for() {
    let world = World::new(&two());
    let shell = Shell::to(&world, "master").await;
    shell.start("k3s.service", SERVER_UNIT, "token: correct-horse\n").await;
    let interests = [
        "file:/etc/rancher/k3s/config.yaml",
        "stat:/usr/local/bin/k3s",
        "unit:k3s.service",
        "unit:x.service",
        "version:/usr/local/bin/k3s",
        "file:/missing",
        "file:/var/lib/rancher/k3s/server/node-token",
    ];
    let seen = look::probe(&world, "master", &interests.map(str::to_owned)).unwrap();
    assert_eq!(seen.facts.hostname, "master");
    assert_eq!(seen.files["/etc/rancher/k3s/config.yaml"].content.as_deref(), Some(&b"token: correct-horse\n"[..]));
    assert!(seen.files["/usr/local/bin/k3s"].content.is_none());
    assert_eq!(
        seen.files["/var/lib/rancher/k3s/server/node-token"].target.as_deref(),
        Some("/var/lib/rancher/k3s/server/token")
    );
    assert_eq!(seen.files.len(), 3);
    assert_eq!(seen.units.len(), 1);
    let unit = &seen.units["k3s.service"];
    assert_eq!((unit.active.as_str(), unit.enabled.as_str(), unit.needs_reload), ("active", "enabled", false));
    assert!(seen.versions["/usr/local/bin/k3s"].starts_with("k3s version v1.36.5+k3s1 ("));
    assert!(seen.facts.listening.iter().any(|l| l.port == 6443));
    assert!(look::probe(&world, "master", &["nonsense".to_owned()]).is_err());

    world.tamper("master", |h| h.write("/etc/systemd/system/k3s.service", 0o644, "[Service]\n"));
    let seen = look::probe(&world, "master", &["unit:k3s.service".to_owned()]).unwrap();
    assert!(seen.units["k3s.service"].needs_reload);
}

#[tokio::test(start_paused = true)]
async fn downloads_have_the_upstream_layout_and_honour_ranges() {
    let world = World::new(&two());
    let mirror = SimDownload::new(world.clone());
    async fn read(mirror: &SimDownload, url: &str, offset: u64) -> Result<Vec<u8>, FetchError> {
        let mut body = mirror.get(url, offset).await?;
        let mut all = Vec::new();
        while let Some(piece) = body.stream.next().await {
            all.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(body.length, Some(all.len() as u64));
        Ok(all)
    }
    let base = "https://mirror.example/k3s/v1.36.5%2Bk3s1";
    let binary = read(&mirror, &format!("{base}/k3s-arm64"), 0).await.unwrap();
    assert_eq!(binary, b"xgenctl simulated k3s v1.36.5+k3s1 arm64\n");
    assert_eq!(read(&mirror, &format!("{base}/k3s-arm64"), 8).await.unwrap(), &binary[8..]);
    let list = String::from_utf8(read(&mirror, &format!("{base}/sha256sum-arm64.txt"), 0).await.unwrap()).unwrap();
    assert!(list.lines().any(|l| l == format!("{}  k3s-arm64", hex(&Sha256::digest(&binary)))), "{list}");
    for missing in [format!("{base}/k3s-riscv"), "https://mirror.example/k3s/latest/k3s".to_owned()] {
        assert!(matches!(read(&mirror, &missing, 0).await, Err(FetchError::Status { status: 404, .. })), "{missing}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_by_hand_exists_but_cannot_be_reached() {
    let mut project = two();
    project.nodes[1].access = Access::Manual;
    let world = World::new(&project);
    let backend = RehearsalBackend::new(world.clone());
    assert_eq!(backend.connect(&project.nodes[0]).await.unwrap().name(), "master");
    let refused = backend.connect(&project.nodes[1]).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&refused, HostError::Connection { reason, .. } if reason == "connect: no route to host"),
        "{refused}"
    );
}

#[test]
fn a_world_is_kept_in_its_folder_for_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("world");
    let fingerprint = runtime().unwrap().block_on(async {
        let world = World::open(&two(), &path).unwrap();
        assert!(matches!(World::open(&two(), &path), Err(StateError::Busy { .. })));
        let shell = Shell::to(&world, "master").await;
        assert_eq!(shell.start("k3s.service", SERVER_UNIT, "token: correct-horse\n").await.0, 0);
        tokio::time::sleep(Duration::from_secs(20)).await;
        // A world that cannot be kept any more says so instead of going on.
        let away = folder.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        shell.run(&scripts::REMOVE, &["/not/there"]).await.unwrap();
        let refused = shell.run(&scripts::REMOVE, &["/not/there"]).await.unwrap_err();
        assert!(
            refused.to_string().starts_with(&format!("master: {}", path.join("state.json").display())),
            "{refused}"
        );
        std::fs::rename(&away, &path).unwrap();
        world.fingerprint()
    });
    let pid = runtime().unwrap().block_on(async {
        let world = World::open(&two(), &path).unwrap();
        world.begin_run(faults::Plan::none());
        assert_eq!(world.fingerprint(), fingerprint);
        assert!(world.now_ms() > state::EPOCH_MS + 10_000, "the clock goes on where it stood");
        let shell = Shell::to(&world, "master").await;
        let kube = client(&world, &shell, "master").await;
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(kube);
        assert_eq!(nodes.get("master").await.unwrap().metadata.name.as_deref(), Some("master"));
        world.main_pids()["master/k3s.service"]
    });
    assert_ne!(pid, 0);

    let file = path.join("state.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    let error = World::open(&two(), &path).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("{}: not the state of a rehearsal: EOF", file.display())),
        "{error}"
    );
    std::fs::write(&file, text.replacen("\"format\":1", "\"format\":99", 1)).unwrap();
    let error = World::open(&two(), &path).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: the state has format 99, but this version of xgenctl reads format 1", file.display())
    );
}
