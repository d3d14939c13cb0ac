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
