//! Programs, files and tunnels over a real SSH connection.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xgenctl::host::{Command, HostError, Source, scripts};

use super::fixture::{Operator, Relay, Sshd, connected, real, until};
use super::local::{big_file, digest, only, spec};

#[tokio::test]
async fn programs_run_over_one_connection() {
    if !real("programs_run_over_one_connection") {
        return;
    }
    let (_operator, sshd, host) = connected("").await;
    let output = host.exec(&Command::new(["sh", "-c", "cat; printf e >&2; exit 7"]).stdin("in")).await.unwrap();
    assert_eq!((output.code, output.stdout.as_slice(), output.stderr.as_slice()), (7, &b"in"[..], &b"e"[..]));
    let value = "$(id) ; ' \" \\ \n * \\\\' 한글";
    assert_eq!(host.run(&Command::new(["printf", "%s", value])).await.unwrap(), value);
    assert_eq!(host.exec(&Command::new(["sh", "-c", "kill -TERM $$"])).await.unwrap().code, 143);
    assert_eq!(host.exec(&Command::new(["/no/such/program"])).await.unwrap().code, 127);
    assert_eq!((host.round_trips(), sshd.connections()), (4, 1));
}

#[tokio::test]
async fn twenty_programs_at_once_share_the_connection() {
    if !real("twenty_programs_at_once_share_the_connection") {
        return;
    }
    for config in ["", "MaxSessions 2"] {
        let (_operator, sshd, host) = connected(config).await;
        let run = async |i: usize| {
            let script = format!("sleep 0.1; head -c 300000 /dev/zero; echo {i}");
            host.run(&Command::new(["sh", "-c", &script])).await.unwrap()
        };
        let all = futures::future::join_all((0..20).map(run)).await;
        for (i, text) in all.iter().enumerate() {
            assert_eq!(text.trim_start_matches('\0').trim(), i.to_string());
        }
        assert_eq!(sshd.connections(), 1, "with {config:?}");
    }
}

#[tokio::test]
async fn much_in_and_out_at_the_same_time_does_not_block() {
    if !real("much_in_and_out_at_the_same_time_does_not_block") {
        return;
    }
    let (_operator, _sshd, host) = connected("").await;
    let input = vec![b'x'; 5_000_000];
    let script = "head -c 3000000 /dev/zero >&2; cat; head -c 3000000 /dev/zero >&2";
    let output = host.exec(&Command::new(["sh", "-c", script]).stdin(input.clone())).await.unwrap();
    assert!(output.stdout == input);
    // A program that reads nothing of a large input is no error, and the connection goes on.
    assert_eq!(host.exec(&Command::new(["true"]).stdin(input)).await.unwrap().code, 0);
    assert_eq!(host.run(&Command::new(["echo", "on"])).await.unwrap(), "on\n");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_ended() {
    if !real("a_program_that_takes_too_long_is_ended") {
        return;
    }
    let (_operator, sshd, host) = connected("").await;
    let sleeps = async || sshd.sessions().iter().any(|pid| super::fixture::name_of(*pid) == "sleep");
    for script in ["sleep 1000", "trap '' TERM; sleep 1000 & wait; wait"] {
        let command = Command::new(["sh", "-c", script]).timeout(Duration::from_secs(900));
        let running = tokio::spawn({
            let host = host.clone();
            async move { host.exec(&command).await }
        });
        until("the start of the program", sleeps).await;
        running.abort();
        until("the end of the program", async || !sleeps().await).await;
    }
    let command = Command::new(["sleep", "1000"]).timeout(Duration::from_millis(100));
    let error = host.exec(&command).await.unwrap_err();
    assert_eq!(error.to_string(), "box: `sleep 1000` did not end within 0 s");
    assert_eq!(host.run(&Command::new(["echo", "on"])).await.unwrap(), "on\n");
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways() {
    if !real("a_tunnel_carries_bytes_both_ways") {
        return;
    }
    let (_operator, sshd, host) = connected("").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap()
    });
    let stream = host.open_tcp("127.0.0.1", port).await.unwrap();
    let (mut from, mut to) = tokio::io::split(stream);
    let sent = vec![7u8; 4_000_000];
    let copy = sent.clone();
    let write = tokio::spawn(async move {
        to.write_all(&copy).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    from.read_to_end(&mut got).await.unwrap();
    write.await.unwrap();
    assert!(got == sent);
    assert_eq!(echo.await.unwrap(), sent.len() as u64);
    let Err(error) = host.open_tcp("127.0.0.1", port).await else { panic!("nothing listens any more") };
    assert_eq!(error.to_string(), format!("box: nothing answers the server at 127.0.0.1:{port}"));
    assert_eq!(sshd.connections(), 1);
}

#[tokio::test]
async fn a_tunnel_that_nobody_reads_does_not_hold_up_programs() {
    if !real("a_tunnel_that_nobody_reads_does_not_hold_up_programs") {
        return;
    }
    let (_operator, _sshd, host) = connected("").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let flood = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&vec![1u8; 8 * 1024 * 1024]).await
    });
    let unread = host.open_tcp("127.0.0.1", port).await.unwrap();
    flood.await.unwrap().unwrap();
    assert_eq!(host.run(&Command::new(["echo", "on"])).await.unwrap(), "on\n");
    drop(unread);
}

#[tokio::test]
async fn forbidden_tunnels_are_told() {
    if !real("forbidden_tunnels_are_told") {
        return;
    }
    let (_operator, _sshd, host) = connected("AllowTcpForwarding no").await;
    let Err(error) = host.open_tcp("127.0.0.1", 9).await else { panic!("tunnels are forbidden") };
    assert!(error.to_string().contains("AllowTcpForwarding"), "{error}");
}

#[tokio::test]
async fn a_broken_connection_ends_every_call_at_once() {
    if !real("a_broken_connection_ends_every_call_at_once") {
        return;
    }
    let (_operator, sshd, host) = connected("").await;
    let lock = Command::new(["sh", "-c", "echo locked; cat >/dev/null"]);
    let (_, mut held) = host.hold(&lock).await.unwrap().unwrap_or_else(|o| panic!("{o:?}"));
    let command = Command::new(["sh", "-c", "sleep 1000"]).timeout(Duration::from_secs(900));
    let pending = tokio::spawn({
        let host = host.clone();
        async move { host.exec(&command).await.unwrap_err() }
    });
    let fed = Command::new(["sh", "-c", "sleep 1000"]).stdin(vec![0; 20_000_000]).timeout(Duration::from_secs(900));
    let feeding = tokio::spawn({
        let host = host.clone();
        async move { host.exec(&fed).await.unwrap_err() }
    });
    let sleeps = |pid: &i32| super::fixture::name_of(*pid) == "sleep";
    until("both programs", async || sshd.sessions().iter().filter(|p| sleeps(p)).count() == 2).await;
    let programs: Vec<i32> = sshd.sessions().into_iter().filter(sleeps).collect();
    sshd.cut();
    for pid in programs {
        // sshd is gone and cannot end them.
        super::fixture::kill(pid, rustix::process::Signal::KILL);
    }
    let reason = "box: the connection is lost: the server closed the connection";
    assert_eq!(pending.await.unwrap().to_string(), reason);
    assert_eq!(feeding.await.unwrap().to_string(), reason);
    held.lost.wait_for(|lost| *lost).await.unwrap();
    let error = host.exec(&Command::new(["true"])).await.unwrap_err();
    assert!(error.is_transient() && error.to_string() == reason, "{error}");
    let Err(error) = host.open_tcp("127.0.0.1", 9).await else { panic!("the connection is gone") };
    assert_eq!(error.to_string(), reason);
}

#[tokio::test]
async fn a_connection_that_dies_silently_is_noticed() {
    if !real("a_connection_that_dies_silently_is_noticed") {
        return;
    }
    let mut operator = Operator::new();
    operator.options.keepalive = Some(Duration::from_millis(300));
    let sshd = Sshd::start(&operator, "");
    let relay = Relay::to(sshd.port);
    operator.write(".ssh/known_hosts", &format!("[127.0.0.1]:{} {}\n", relay.port, sshd.host_key("ed25519")));
    let mut access = operator.access(&sshd);
    access.port = Some(relay.port);
    let host = operator.connect(&access).await.unwrap();
    assert_eq!(host.run(&Command::new(["echo", "on"])).await.unwrap(), "on\n");
    relay.silent.store(true, Ordering::Relaxed);
    let command = Command::new(["sleep", "1000"]).timeout(Duration::from_secs(900));
    let error = host.exec(&command).await.unwrap_err();
    assert_eq!(error.to_string(), "box: the connection is lost: the server has not answered for 0 s");
}

#[tokio::test]
async fn the_run_lock_is_free_as_soon_as_the_connection_is_gone() {
    if !real("the_run_lock_is_free_as_soon_as_the_connection_is_gone") {
        return;
    }
    let run = TempDir::new().unwrap();
    let (operator, sshd, alice) = connected("").await;
    let variable = format!("XGENCTL_RUN_DIR={}", run.path().display());
    let lock = |who: &str| Command::new(["env", &variable, "sh", "-c", scripts::LOCK.text, "xgenctl-lock", who]);
    let (line, mut held) = alice.hold(&lock("alice")).await.unwrap().unwrap_or_else(|o| panic!("{o:?}"));
    assert_eq!(line, "locked");
    let cut: Vec<i32> = sshd.sessions().into_iter().filter(|p| super::fixture::name_of(*p) == "sshd").collect();
    let bob = operator.connect(&operator.access(&sshd)).await.unwrap();
    let Err(output) = bob.hold(&lock("bob")).await.unwrap() else { panic!("two hold the lock") };
    assert_eq!((output.code, output.stdout.as_slice()), (75, &b"alice"[..]));
    cut.into_iter().for_each(|pid| super::fixture::kill(pid, rustix::process::Signal::KILL));
    held.lost.wait_for(|lost| *lost).await.unwrap();
    until("the end of the lock", async || bob.hold(&lock("bob")).await.unwrap().is_ok()).await;
}

#[tokio::test]
async fn a_large_upload_is_cut_and_resumed() {
    if !real("a_large_upload_is_cut_and_resumed") {
        return;
    }
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("source");
    big_file(&source, 64);
    let sha = digest(&source);
    let target = TempDir::new().unwrap();
    let path = target.path().join("k3s");
    let (operator, sshd, host) = connected("").await;
    let half = 32 * 1024 * 1024;
    // The cut comes from within the upload, when half of it is sent.
    let once = std::sync::Once::new();
    let cut = |sent: u64| {
        if sent >= half {
            once.call_once(|| sshd.cut());
        }
    };
    let error = host.put(&spec(&path, &sha), &Source::Path(source.clone()), &cut).await.unwrap_err();
    assert!(matches!(error, HostError::Connection { .. }), "{error}");
    assert!(!path.exists());
    let part = target.path().join(format!(".k3s.{}.xgenctl-part", &sha[..12]));
    let size = || fs::metadata(&part).map(|m| m.len()).unwrap_or(0);
    assert!(size() > 0);
    // What sshd had handed over may still be on its way to the file.
    until("the end of the writer", async || {
        !fs::read_dir("/proc").unwrap().flatten().any(|p| {
            fs::read(p.path().join("cmdline"))
                .is_ok_and(|c| String::from_utf8_lossy(&c).contains(path.to_str().unwrap()))
        })
    })
    .await;
    let there = size();
    let host = operator.connect(&operator.access(&sshd)).await.unwrap();
    let told = Mutex::new(Vec::new());
    host.put(&spec(&path, &sha), &Source::Path(source), &|n| told.lock().unwrap().push(n)).await.unwrap();
    let told = told.into_inner().unwrap();
    assert_eq!((told[0], *told.last().unwrap()), (there, 64 * 1024 * 1024));
    assert_eq!(digest(&path), sha);
    assert_eq!(host.round_trips(), 2);
    only(target.path(), &["k3s"]);
}

#[tokio::test]
async fn a_host_that_is_dropped_leaves_nothing_open() {
    if !real("a_host_that_is_dropped_leaves_nothing_open") {
        return;
    }
    let (operator, gate, direct) = connected("").await;
    let behind = Sshd::start(&operator, "");
    operator.knows(&behind);
    let mut access = operator.access(&behind);
    access.jump = Some(format!("127.0.0.1:{}", gate.port));
    let host = operator.connect(&access).await.unwrap();
    let stream = host.open_tcp("127.0.0.1", gate.port).await.unwrap();
    let (_, held) =
        host.hold(&Command::new(["sh", "-c", "echo on; cat"])).await.unwrap().unwrap_or_else(|o| panic!("{o:?}"));
    // What is still in use keeps the connection; the last one closes it.
    drop((host, direct));
    assert!(!*held.lost.borrow());
    drop((held, stream));
    until("the end of all connections", async || gate.sessions().is_empty() && behind.sessions().is_empty()).await;
}
