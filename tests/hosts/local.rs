//! The scripts and everything above the transport, on this machine, without root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use xgenctl::host::local::Local;
use xgenctl::host::scripts::{self, Script};
use xgenctl::host::{Command, FileSpec, Host, HostError, Source, Sudo};

use super::fixture::{real, sh, until};

/// This machine, as the user who runs the tests: no sudo.
pub fn here() -> Host {
    Host::new("here", Arc::new(Local { name: "here".into() }), Sudo::NotNeeded)
}

fn quiet(_: u64) {}

pub fn digest(path: &Path) -> String {
    sh("sha256sum", &[path.to_str().unwrap()])[..64].to_owned()
}

/// A file of `mib` MiB whose bytes do not repeat.
pub fn big_file(path: &Path, mib: u64) {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::with_capacity((mib * 1024 * 1024) as usize);
    while bytes.len() < bytes.capacity() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

pub fn spec(path: &Path, sha256: &str) -> FileSpec {
    FileSpec { path: path.to_str().unwrap().into(), mode: 0o640, owner: None, sha256: sha256.into(), restarts: None }
}

fn hash_of(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Nothing but what is named is in the folder.
pub fn only(folder: &Path, names: &[&str]) {
    let mut found: Vec<String> =
        fs::read_dir(folder).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    assert_eq!(found, names);
}

#[tokio::test]
async fn programs_run_with_input_output_and_exit_code() {
    let host = here();
    let script = "cat; printf error >&2; exit 7";
    let output = host.exec(&Command::new(["sh", "-c", script]).stdin("input")).await.unwrap();
    assert_eq!((output.code, output.stdout.as_slice(), output.stderr.as_slice()), (7, &b"input"[..], &b"error"[..]));
    let error = host.run(&Command::new(["sh", "-c", script])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("here: `sh -c {script}` ended with code 7"));
    assert_eq!(error.tail(), Some("error"));
    assert_eq!(host.exec(&Command::new(["sh", "-c", "kill -9 $$"])).await.unwrap().code, 137);
    assert_eq!(host.exec(&Command::new(["/no/such/program"])).await.unwrap().code, 127);
    assert_eq!(host.round_trips(), 4);
}

#[tokio::test]
async fn no_value_is_ever_read_by_a_shell() {
    let value = "$(touch /tmp/never) `id` ; ' \" \\ \n *";
    assert_eq!(here().run(&Command::new(["printf", "%s", value])).await.unwrap(), value);
}

#[tokio::test]
async fn much_input_and_output_on_all_streams_does_not_block() {
    let script = "head -c 3000000 /dev/zero >&2; cat; head -c 3000000 /dev/zero >&2";
    let input = vec![b'x'; 5_000_000];
    let output = here().exec(&Command::new(["sh", "-c", script]).stdin(input.clone())).await.unwrap();
    assert!(output.stdout == input);
    assert!(!output.stderr.is_empty() && output.stderr.len() <= 1024 * 1024, "only the end is kept");
    // A program that reads nothing of a large input is no error.
    let output = here().exec(&Command::new(["true"]).stdin(input)).await.unwrap();
    assert_eq!(output.code, 0);
    let error = here().exec(&Command::new(["head", "-c", "40000000", "/dev/zero"])).await.unwrap_err();
    assert!(matches!(error, HostError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_ended_with_everything_it_started() {
    let folder = TempDir::new().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("trap '' TERM; sleep 1000 & echo $$ $! >'{}'; wait; wait", pids.display());
    let command = Command::new(["sh", "-c", &script]).timeout(Duration::from_millis(700));
    let error = here().exec(&command).await.unwrap_err();
    assert!(matches!(error, HostError::TimedOut { .. }), "{error}");
    let text = fs::read_to_string(&pids).unwrap();
    let pids: Vec<String> = text.split_whitespace().map(|p| format!("/proc/{p}/stat")).collect();
    assert_eq!(pids.len(), 2);
    // A process that ended and that nobody has waited for yet has the state Z.
    let runs = |p: &String| fs::read_to_string(p).is_ok_and(|s| !s.rsplit(')').next().unwrap().starts_with(" Z"));
    until("the end of the programs", async || !pids.iter().any(runs)).await;
}

#[tokio::test]
async fn a_small_file_is_written_whole_with_its_mode() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new folder/it's a file");
    let content = b"key: value\n";
    let sent = AtomicU64::new(0);
    let tell = |n| sent.store(n, Ordering::Relaxed);
    let host = here();
    host.put(&spec(&path, &hash_of(content)), &Source::Bytes(content.to_vec()), &tell).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!((sent.load(Ordering::Relaxed), host.round_trips()), (content.len() as u64, 1));
    // A link is replaced, what it points to is left alone.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    host.put(&spec(&link, &hash_of(b"")), &Source::Bytes(Vec::new()), &quiet).await.unwrap();
    assert!(fs::read(&link).unwrap().is_empty() && fs::read(&path).unwrap() == content);
    only(folder.path(), &["link", "new folder"]);
    only(path.parent().unwrap(), &["it's a file"]);
}

#[tokio::test]
async fn a_file_that_arrives_wrong_is_not_written() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    fs::write(&path, "old").unwrap();
    let error =
        here().put(&spec(&path, &hash_of(b"a")), &Source::Bytes(b"b".to_vec()), &quiet).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("here: {}: the digest differs (", path.display())), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    only(folder.path(), &["f"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_says_why() {
    let folder = TempDir::new().unwrap();
    let put = async |path: &Path| {
        here().put(&spec(path, &hash_of(b"a")), &Source::Bytes(b"a".to_vec()), &quiet).await.unwrap_err().to_string()
    };
    assert!(put(folder.path()).await.contains("a folder is in the way"));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(put(&file.join("below")).await.contains("a part of the path is not a folder"));
    assert!(put(Path::new("/proc/xgenctl-test")).await.starts_with("here: /proc/xgenctl-test: "));
    let missing = Source::Path(folder.path().join("missing"));
    let error = here().put(&spec(&file, ""), &missing, &quiet).await.unwrap_err().to_string();
    assert!(error.contains("its source") && error.contains("No such file"), "{error}");
    only(folder.path(), &["file"]);
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    // A limit on the size of files stands in for a disk that is full.
    let script = format!("ulimit -f 1; trap '' XFSZ; exec 2>&1; {}", scripts::PUT.text);
    let path = folder.path().join("f");
    let args = [path.to_str().unwrap(), "0600", "", &hash_of(b""), "", ""];
    let argv = ["sh", "-c", &script, "put"].into_iter().chain(args);
    let output = here().exec(&Command::new(argv).stdin(vec![0; 100_000])).await.unwrap();
    assert_ne!(output.code, 0);
    only(folder.path(), &[]);
}

/// A small file system in memory, for as long as the value lives; `None` where this machine does not allow it.
struct Disk(TempDir);

impl Disk {
    fn new() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=1m", "xgenctl-test", folder.path().to_str().unwrap()];
        let mounted = std::process::Command::new("mount").args(mount).stderr(std::process::Stdio::null()).status();
        mounted.is_ok_and(|s| s.success()).then(|| Self(folder))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        sh("umount", &[self.0.path().to_str().unwrap()]);
    }
}

#[tokio::test]
async fn full_and_read_only_disks_are_told() {
    if !real("full_and_read_only_disks_are_told") {
        return;
    }
    let Some(disk) = Disk::new() else { return eprintln!("skipped: nothing can be mounted here") };
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("source");
    big_file(&source, 5);
    let sha = digest(&source);
    let path = disk.0.path().join("f");
    let put = async |source: Source, sha: &str| here().put(&spec(&path, sha), &source, &quiet).await.unwrap_err();
    for source in [Source::Bytes(fs::read(&source).unwrap()), Source::Path(source)] {
        let error = put(source, &sha).await;
        assert!(matches!(error, HostError::File { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("here: {}: no space left on the disk (", path.display())), "{text}");
        assert!(!path.exists());
    }
    sh("mount", &["-o", "remount,ro", disk.0.path().to_str().unwrap()]);
    let text = put(Source::Bytes(b"a".to_vec()), &hash_of(b"a")).await.to_string();
    assert!(text.contains("the file system is read-only"), "{text}");
}

#[tokio::test]
async fn a_large_file_is_resumed_where_it_stopped() {
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("source");
    big_file(&source, 6);
    let sha = digest(&source);
    let target = TempDir::new().unwrap();
    let path = target.path().join("big");
    let part = target.path().join(format!(".big.{}.xgenctl-part", &sha[..12]));
    let half = 3 * 1024 * 1024;
    fs::write(&part, &fs::read(&source).unwrap()[..half]).unwrap();
    fs::write(target.path().join(".big.0123456789ab.xgenctl-part"), "of another content").unwrap();
    let told = std::sync::Mutex::new(Vec::new());
    let host = here();
    host.put(&spec(&path, &sha), &Source::Path(source.clone()), &|n| told.lock().unwrap().push(n)).await.unwrap();
    assert_eq!(digest(&path), sha);
    let told = told.into_inner().unwrap();
    assert_eq!((told[0], *told.last().unwrap()), (half as u64, 6 * 1024 * 1024));
    assert!(told.is_sorted());
    assert_eq!(host.round_trips(), 2);
    only(target.path(), &["big"]);
}

#[tokio::test]
async fn a_large_file_that_arrived_wrong_starts_over_the_next_time() {
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("source");
    big_file(&source, 5);
    let sha = digest(&source);
    let target = TempDir::new().unwrap();
    let path = target.path().join("big");
    fs::write(target.path().join(format!(".big.{}.xgenctl-part", &sha[..12])), "not the beginning of it").unwrap();
    let put = async || here().put(&spec(&path, &sha), &Source::Path(source.clone()), &quiet).await;
    let error = put().await.unwrap_err().to_string();
    assert!(error.contains("the digest differs"), "{error}");
    only(target.path(), &[]);
    put().await.unwrap();
    assert_eq!(digest(&path), sha);
}

/// A script with its notes in a folder of the test.
fn script_in(run: &Path, script: &Script, args: &[&str]) -> Command {
    let variable = format!("XGENCTL_RUN_DIR={}", run.display());
    let head = ["env", &variable, "sh", "-c", script.text, script.name];
    Command::new(head.into_iter().chain(args.iter().copied()))
}

#[tokio::test]
async fn the_lock_has_one_holder_and_is_free_when_it_is_dropped() {
    let run = TempDir::new().unwrap();
    let host = here();
    let lock = |who: &str| script_in(run.path(), &scripts::LOCK, &[who]);
    let (line, mut held) = host.hold(&lock("alice on desk")).await.unwrap().unwrap_or_else(|o| panic!("{o:?}"));
    assert_eq!(line, "locked");
    let Err(output) = host.hold(&lock("bob")).await.unwrap() else { panic!("two hold the lock") };
    assert_eq!((output.code, output.stdout.as_slice()), (75, &b"alice on desk"[..]));
    assert!(!*held.lost.borrow_and_update());
    drop(held);
    until(
        "the end of the lock",
        async || matches!(host.hold(&lock("bob")).await.unwrap(), Ok((line, _)) if line == "locked"),
    )
    .await;
}

#[tokio::test]
async fn a_held_program_that_ends_is_noticed() {
    let host = here();
    let command = Command::new(["sh", "-c", "echo $$; read -r line"]);
    let (pid, mut held) = host.hold(&command).await.unwrap().unwrap_or_else(|o| panic!("{o:?}"));
    assert!(!*held.lost.borrow());
    super::fixture::kill(pid.parse().unwrap(), rustix::process::Signal::KILL);
    held.lost.wait_for(|lost| *lost).await.unwrap();
    let ended = host.hold(&Command::new(["sh", "-c", "echo words; exit 3"])).await.unwrap();
    let Err(output) = ended else { panic!("it has ended") };
    assert_eq!((output.code, output.stdout.as_slice()), (3, &b"words\n"[..]));
}

#[tokio::test]
async fn a_restart_that_is_due_is_noted_and_links_are_made() {
    let run = TempDir::new().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.yaml");
    let host = here();
    let args = [path.to_str().unwrap(), "0600", "", &hash_of(b"a"), "k3s.service", ""];
    host.run(&script_in(&run.path().join("new"), &scripts::PUT, &args).stdin("a")).await.unwrap();
    only(&run.path().join("new"), &["restart-k3s.service"]);
    for target in ["one", "two"] {
        let link = folder.path().join("kubectl");
        host.run(&Command::script(&scripts::LINK, [target, link.to_str().unwrap()])).await.unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
    }
    only(folder.path(), &["config.yaml", "kubectl"]);
    let all = [folder.path().join("kubectl"), folder.path().join("config.yaml"), folder.path().join("missing")];
    let all: Vec<&str> = all.iter().map(|p| p.to_str().unwrap()).collect();
    host.run(&Command::script(&scripts::REMOVE, all)).await.unwrap();
    only(folder.path(), &[]);
}

#[tokio::test]
async fn a_tcp_connection_is_made_and_a_refusal_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    here().open_tcp("127.0.0.1", port).await.unwrap();
    drop(listener);
    let Err(error) = here().open_tcp("127.0.0.1", port).await else { panic!("nothing listens") };
    assert!(matches!(error, HostError::Connection { .. }), "{error}");
}
