//! Users that are not root: passwords and sudo. Each test makes a user of its own and removes it again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command as Program, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use xgenctl::host::ssh::Question;
use xgenctl::host::{Command, Host, HostError, Source, scripts};
use xgenctl::project::SshAccess;
use xgenctl::secret::Secret;

use super::fixture::{Operator, Sshd, name_of, real, sh, until};
use super::local::{big_file, digest, spec};
use super::login::answers;

const PASSWORD: &str = "a long Passw0rd $x'\"";

/// Files that list users are changed by one test at a time.
static USERS: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// A user of the system, for as long as the value lives.
struct User {
    name: String,
    sudoers: PathBuf,
}

impl User {
    /// `sudoers`: what follows the name in a sudoers file; empty: no sudo.
    fn new(sudoers: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("xgt{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let file = PathBuf::from(format!("/etc/sudoers.d/{name}"));
        let _lock = USERS.lock().unwrap_or_else(|e| e.into_inner());
        sh("useradd", &["-M", "-d", "/", "-s", "/bin/sh", &name]);
        let user = Self { name, sudoers: file };
        let mut chpasswd = Program::new("chpasswd").stdin(Stdio::piped()).spawn().unwrap();
        use std::io::Write;
        write!(chpasswd.stdin.take().unwrap(), "{}:{PASSWORD}", user.name).unwrap();
        assert!(chpasswd.wait().unwrap().success());
        if !sudoers.is_empty() {
            // sudo passes over files with a dot in their name, so it never sees this one half written.
            let new = user.sudoers.with_extension("new");
            fs::write(&new, format!("Defaults:{0} !lecture\n{0} {sudoers}\n", user.name)).unwrap();
            fs::set_permissions(&new, fs::Permissions::from_mode(0o440)).unwrap();
            fs::rename(new, &user.sudoers).unwrap();
        }
        user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _lock = USERS.lock().unwrap_or_else(|e| e.into_inner());
        let _ = fs::remove_file(&self.sudoers);
        let _ = fs::remove_file(format!("/run/sudo/ts/{}", self.name));
        let _ = fs::remove_file(format!("/var/lib/sudo/lectured/{}", self.name));
        let _ = Program::new("userdel").args(["-f", &self.name]).stderr(Stdio::null()).status();
    }
}

/// A server that this user may log in to.
fn server(user: &User, config: &str) -> (Operator, Sshd, SshAccess) {
    let operator = Operator::new();
    let sshd = Sshd::start(&operator, config);
    operator.knows(&sshd);
    let access = SshAccess { user: Some(user.name.clone()), ..operator.access(&sshd) };
    (operator, sshd, access)
}

async fn whoami(host: &Host) -> Result<String, HostError> {
    // The input is the program's: sudo must not have taken any of it.
    let output = host.exec(&Command::new(["sh", "-c", "id -un; cat"]).stdin("the input")).await?;
    assert_eq!(output.code, 0);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const ROOT: &str = "root\nthe input";

#[tokio::test]
async fn a_password_logs_in_by_either_method() {
    if !real("a_password_logs_in_by_either_method") {
        return;
    }
    let user = User::new("ALL=(ALL) NOPASSWD: ALL");
    let (mut operator, sshd, mut access) = server(&user, "PasswordAuthentication yes");
    access.key = None;
    let error = operator.connect(&access).await.err().unwrap().to_string();
    let expected = format!(
        "box: login failed: {}@127.0.0.1:{}: there is no key, no agent and no password to try; the server takes \
         publickey, password",
        user.name, sshd.port
    );
    assert_eq!(error, expected);
    access.password = Some(Secret::new("not this one"));
    let error = operator.connect(&access).await.err().unwrap().to_string();
    assert!(error.contains("tried the password (refused)") && !error.contains("not this one"), "{error}");
    access.password = Some(Secret::new(PASSWORD));
    assert_eq!(whoami(&operator.connect(&access).await.unwrap()).await.unwrap(), ROOT);
    access.password = None;
    let asked = answers(&mut operator, PASSWORD);
    operator.connect(&access).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_servers_own_questions_are_answered() {
    if !real("the_servers_own_questions_are_answered") {
        return;
    }
    let user = User::new("ALL=(ALL) NOPASSWD: ALL");
    let config = "UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no";
    let (mut operator, _sshd, mut access) = server(&user, config);
    access.key = None;
    access.password = Some(Secret::new(PASSWORD));
    assert_eq!(whoami(&operator.connect(&access).await.unwrap()).await.unwrap(), ROOT);
    access.password = Some(Secret::new("not this one"));
    let error = operator.connect(&access).await.err().unwrap();
    assert!(matches!(error, HostError::Login { .. }), "{error:?}");
    access.password = None;
    let asked = answers(&mut operator, PASSWORD);
    assert_eq!(whoami(&operator.connect(&access).await.unwrap()).await.unwrap(), ROOT);
    assert_eq!(*asked.lock().unwrap(), [Question::Hidden("box: Password:".into())]);
}

#[tokio::test]
async fn a_server_may_want_a_key_and_a_password() {
    if !real("a_server_may_want_a_key_and_a_password") {
        return;
    }
    let user = User::new("ALL=(ALL) NOPASSWD: ALL");
    let config = "PasswordAuthentication yes\nAuthenticationMethods publickey,password";
    let (operator, _sshd, mut access) = server(&user, config);
    let error = operator.connect(&access).await.err().unwrap().to_string();
    assert!(error.contains("(accepted, but it wants more)"), "{error}");
    assert!(error.ends_with("the server takes password"), "{error}");
    access.password = Some(Secret::new(PASSWORD));
    assert_eq!(whoami(&operator.connect(&access).await.unwrap()).await.unwrap(), ROOT);
}

#[tokio::test]
async fn this_machine_goes_through_the_same_sudo() {
    if !real("this_machine_goes_through_the_same_sudo") {
        return;
    }
    let local = std::sync::Arc::new(xgenctl::host::local::Local { name: "here".into() });
    let host = Host::new("here", local, xgenctl::host::Sudo::Use { password: None });
    assert_eq!(whoami(&host).await.unwrap(), ROOT);
}

#[tokio::test]
async fn sudo_without_a_password() {
    if !real("sudo_without_a_password") {
        return;
    }
    let user = User::new("ALL=(ALL) NOPASSWD: ALL");
    let (operator, sshd, access) = server(&user, "");
    let host = operator.connect(&access).await.unwrap();
    assert_eq!(whoami(&host).await.unwrap(), ROOT);
    // A password that is not needed reaches nobody.
    let access = SshAccess { sudo_password: Some(Secret::new(PASSWORD)), ..access };
    assert_eq!(whoami(&operator.connect(&access).await.unwrap()).await.unwrap(), ROOT);
    assert_eq!((host.round_trips(), sshd.connections()), (1, 2));
}

#[tokio::test]
async fn sudo_with_a_password() {
    if !real("sudo_with_a_password") {
        return;
    }
    let user = User::new("ALL=(ALL) ALL");
    let (operator, sshd, mut access) = server(&user, "");
    let attempt = async |access: &SshAccess| whoami(&operator.connect(access).await.unwrap()).await;
    let error = attempt(&access).await.unwrap_err();
    assert_eq!(error.to_string(), "box: sudo: a password is required");
    assert!(error.hint().unwrap().contains("sudoPassword"));
    access.sudo_password = Some(Secret::new("not this one"));
    assert_eq!(attempt(&access).await.unwrap_err().to_string(), "box: sudo: the password is wrong");
    access.sudo_password = Some(Secret::new(PASSWORD));
    let host = operator.connect(&access).await.unwrap();
    for _ in 0..2 {
        assert_eq!(whoami(&host).await.unwrap(), ROOT);
    }
    // No process had the password among its arguments while one was running.
    let (line, held) = host
        .hold(&Command::new(["sh", "-c", "tr '\\0' ' ' </proc/$PPID/cmdline; echo; cat >/dev/null"]))
        .await
        .unwrap()
        .unwrap_or_else(|o| panic!("{o:?}"));
    assert!(line.contains("sudo -S") && !line.contains("Passw0rd"), "{line}");
    assert!(!sshd.log().contains("Passw0rd"));
    drop(held);
    let all = [0, 1, 2, 3, 4, 5, 6, 7].map(|_| whoami(&host));
    for one in futures::future::join_all(all).await {
        assert_eq!(one.unwrap(), ROOT);
    }
}

#[tokio::test]
async fn a_user_who_may_not_use_sudo_is_told() {
    if !real("a_user_who_may_not_use_sudo_is_told") {
        return;
    }
    let user = User::new("");
    let (operator, _sshd, access) = server(&user, "");
    let access = SshAccess { sudo_password: Some(Secret::new(PASSWORD)), ..access };
    let error = whoami(&operator.connect(&access).await.unwrap()).await.unwrap_err().to_string();
    assert_eq!(error, format!("box: sudo: {} is not in the sudoers file.", user.name));
}

#[tokio::test]
async fn through_sudo_files_get_their_owner_and_programs_their_end() {
    if !real("through_sudo_files_get_their_owner_and_programs_their_end") {
        return;
    }
    let user = User::new("ALL=(ALL) ALL");
    let (operator, sshd, access) = server(&user, "");
    let access = SshAccess { sudo_password: Some(Secret::new(PASSWORD)), ..access };
    let host = operator.connect(&access).await.unwrap();
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("source");
    big_file(&source, 6);
    let sha = digest(&source);
    let path = folder.path().join("below/big");
    let mut file = spec(&path, &sha);
    file.owner = Some(format!("{}:root", user.name));
    host.put(&file, &Source::Path(source), &|_| ()).await.unwrap();
    assert_eq!(digest(&path), sha);
    let stat = sh("stat", &["-c", "%U:%G %a", path.to_str().unwrap()]);
    assert_eq!(stat.trim(), format!("{}:root 640", user.name));
    // A program of root that the login user could not end is ended by the server itself.
    let command = Command::new(["sleep", "1000"]).timeout(Duration::from_secs(2));
    assert!(matches!(host.exec(&command).await.unwrap_err(), HostError::TimedOut { .. }));
    let sleeps = async || sshd.sessions().iter().any(|pid| name_of(*pid) == "sleep");
    until("the end of the program", async || !sleeps().await).await;
    // The lock of root is free when the handle is dropped.
    let run = folder.path().join("run");
    let variable = format!("XGENCTL_RUN_DIR={}", run.display());
    let lock = Command::new(["env", &variable, "sh", "-c", scripts::LOCK.text, "xgenctl-lock", "somebody"]);
    let (line, held) = host.hold(&lock).await.unwrap().unwrap_or_else(|o| panic!("{o:?}"));
    assert_eq!(line, "locked");
    let Err(output) = host.hold(&lock).await.unwrap() else { panic!("two hold the lock") };
    assert_eq!((output.code, output.stdout.as_slice()), (75, &b"somebody"[..]));
    drop(held);
    until("the end of the lock", async || host.hold(&lock).await.unwrap().is_ok()).await;
}
