//! An sshd of its own for each test, with everything in a folder that goes away with it.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use xgenctl::host::{Host, HostError, SshOptions, connect_ssh};
use xgenctl::project::SshAccess;

/// Whether tests against real servers are wanted and can run; says what is skipped where they do not. Only root's sshd
/// logs users in.
pub fn real(test: &str) -> bool {
    let wanted = std::env::var_os("XGENCTL_REAL").is_some_and(|v| v == "1");
    let root = rustix::process::geteuid().is_root();
    if !wanted || !root {
        eprintln!("skipped {test}: needs sshd and root, runs with XGENCTL_REAL=1");
    }
    wanted && root
}

/// Runs a program of this machine that must succeed; returns what it printed.
pub fn sh(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a key pair at `path`.
pub fn make_key(path: &Path, kind: &str, passphrase: &str) {
    sh("ssh-keygen", &["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", path.to_str().unwrap()]);
}

/// The user these tests run as.
pub fn me() -> String {
    sh("id", &["-un"]).trim().to_owned()
}

/// Ends a process by its number.
pub fn kill(pid: i32, signal: Signal) {
    // It may have ended by itself meanwhile.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// Waits until something holds; the limit only ends a test that has failed.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} never happened");
}

/// A running sshd, with its own host keys and its own idea of who may log in.
pub struct Sshd {
    pub folder: TempDir,
    pub port: u16,
    child: Child,
    _empty: EmptyFolder,
}

/// The empty folder that sshd wants at a fixed place when root runs it: made where it is missing, and removed with the
/// last sshd that needed it.
struct EmptyFolder;

const EMPTY: &str = "/run/sshd";
static EMPTY_USERS: std::sync::Mutex<(usize, bool)> = std::sync::Mutex::new((0, false));

impl EmptyFolder {
    fn new() -> Self {
        let mut users = EMPTY_USERS.lock().unwrap();
        if users.0 == 0 && rustix::process::geteuid().is_root() {
            users.1 = fs::create_dir(EMPTY).is_ok();
        }
        users.0 += 1;
        Self
    }
}

impl Drop for EmptyFolder {
    fn drop(&mut self) {
        let mut users = EMPTY_USERS.lock().unwrap();
        users.0 -= 1;
        if users.0 == 0 && users.1 {
            let _ = fs::remove_dir(EMPTY);
        }
    }
}

impl Sshd {
    /// Starts one that takes the key `id` of the operator's folder; `config` goes before everything else in its config.
    pub fn start(operator: &Operator, config: &str) -> Self {
        Self::with_keys(operator, config, &["ed25519"])
    }

    /// As [`Sshd::start`], with host keys of these types.
    pub fn with_keys(operator: &Operator, config: &str, kinds: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        // Other users must reach the list of keys.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut lines = config.to_owned();
        for kind in kinds {
            let key = folder.path().join(format!("host_{kind}"));
            make_key(&key, kind, "");
            lines += &format!("\nHostKey {}", key.display());
        }
        let keys = folder.path().join("authorized_keys");
        fs::write(&keys, fs::read(operator.file("id.pub")).unwrap()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = folder.path().display();
        // With another home the shells read none of this machine's own start files.
        lines += &format!(
            "\nPort {port}\nListenAddress 127.0.0.1\nPidFile none\nAuthorizedKeysFile {path}/authorized_keys\n\
             StrictModes no\nUsePAM no\nKbdInteractiveAuthentication no\nPasswordAuthentication no\n\
             PermitRootLogin yes\nLogLevel DEBUG1\nMaxStartups 100\nSetEnv HOME={path}\n"
        );
        fs::write(folder.path().join("sshd_config"), lines).unwrap();
        let log = folder.path().join("log");
        let _empty = EmptyFolder::new();
        let mut child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f"])
            .arg(folder.path().join("sshd_config"))
            .arg("-E")
            .arg(&log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(&log).unwrap_or_default().contains("Server listening") {
            let ended = child.try_wait().unwrap();
            let log = fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < limit, "sshd did not start: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { folder, port, child, _empty }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap()
    }

    /// How many TCP connections it has had.
    pub fn connections(&self) -> usize {
        self.log().lines().filter(|l| l.contains("Connection from ")).count()
    }

    /// The public host key, as known_hosts has it.
    pub fn host_key(&self, kind: &str) -> String {
        let text = fs::read_to_string(self.file(&format!("host_{kind}.pub"))).unwrap();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// The name it has in known_hosts.
    pub fn name(&self) -> String {
        format!("[127.0.0.1]:{}", self.port)
    }

    pub fn access(&self) -> SshAccess {
        SshAccess { host: "127.0.0.1".into(), port: Some(self.port), ..SshAccess::default() }
    }

    /// Processes of its connections, not itself.
    pub fn sessions(&self) -> Vec<i32> {
        descendants(self.child.id() as i32)
    }

    /// Cuts every connection as a crash of the other end would.
    pub fn cut(&self) {
        for pid in self.sessions().into_iter().filter(|pid| name_of(*pid) == "sshd") {
            kill(pid, Signal::KILL);
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let sessions = self.sessions();
        let _ = self.child.kill();
        let _ = self.child.wait();
        sessions.into_iter().for_each(|pid| kill(pid, Signal::KILL));
    }
}

/// All processes below a process.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut children: Vec<(i32, i32)> = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{child}/stat")) else { continue };
        // The name in parentheses may hold anything.
        let after = stat.rsplit_once(')').map(|(_, after)| after.to_owned()).unwrap_or_default();
        let parent = after.split_whitespace().nth(1).and_then(|p| p.parse().ok());
        children.extend(parent.map(|parent: i32| (parent, child)));
    }
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(children.iter().filter(|(p, _)| *p == parent).map(|(_, child)| *child));
        at += 1;
    }
    found.split_off(1)
}

pub fn name_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The operator's home, with one key `id` and no agent.
pub struct Operator {
    pub home: TempDir,
    pub options: SshOptions,
    pub warnings: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Operator {
    pub fn new() -> Self {
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        make_key(&home.path().join("id"), "ed25519", "");
        let warnings = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
        let mut options = SshOptions::new(home.path());
        options.agent = None;
        options.user = me();
        options.system = home.path().join("etc");
        let heard = warnings.clone();
        options.warn = Some(std::sync::Arc::new(move |text| heard.lock().unwrap().push(text)));
        Self { home, options, warnings }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    /// Knows the server's host key.
    pub fn knows(&self, sshd: &Sshd) {
        let mut text = fs::read_to_string(self.file(".ssh/known_hosts")).unwrap_or_default();
        text += &format!("{} {}\n", sshd.name(), sshd.host_key("ed25519"));
        self.write(".ssh/known_hosts", &text);
    }

    /// How a server is reached with the key `id`.
    pub fn access(&self, sshd: &Sshd) -> SshAccess {
        SshAccess { key: Some(self.file("id")), ..sshd.access() }
    }

    pub async fn connect(&self, access: &SshAccess) -> Result<Host, HostError> {
        connect_ssh("box", access, &self.options).await
    }
}

/// A server that is known and takes the operator's key, connected.
pub async fn connected(config: &str) -> (Operator, Sshd, Host) {
    let operator = Operator::new();
    let sshd = Sshd::start(&operator, config);
    operator.knows(&sshd);
    let host = operator.connect(&operator.access(&sshd)).await.unwrap();
    (operator, sshd, host)
}

/// A relay on loopback that can be cut, or can swallow everything silently.
pub struct Relay {
    pub port: u16,
    pub silent: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Relay {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self { port: listener.local_addr().unwrap().port(), silent: Default::default() };
        let silent = relay.silent.clone();
        std::thread::spawn(move || {
            // One connection is all a test makes.
            let Ok((client, _)) = listener.accept() else { return };
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (client2, server2, silent2) =
                (client.try_clone().unwrap(), server.try_clone().unwrap(), silent.clone());
            std::thread::spawn(move || pass(client, server, &silent));
            std::thread::spawn(move || pass(server2, client2, &silent2));
        });
        relay
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, silent: &std::sync::atomic::AtomicBool) {
    use std::io::Write;
    let mut piece = [0; 65536];
    while let Ok(read) = from.read(&mut piece) {
        if read == 0 || (!silent.load(std::sync::atomic::Ordering::Relaxed) && to.write_all(&piece[..read]).is_err()) {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
