//! The operator's machine: xgenctl's own home folder, key and known_hosts, and how xgenctl is run there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::docker;
use super::server::Server;

/// A home folder and what runs in it.
pub struct Operator {
    folder: tempfile::TempDir,
    /// The program under test.
    xgenctl: PathBuf,
    /// Public key that servers let in.
    pub public_key: String,
}

impl Operator {
    /// Makes the home folder and a key.
    pub fn new(xgenctl: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ssh = folder.path().join(".ssh");
        fs::create_dir(&ssh).expect(".ssh");
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).expect("mode of .ssh");
        let key = ssh.join("id_ed25519");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f"]).arg(&key);
        let made = docker::output(keygen, &[]).expect("ssh-keygen");
        assert!(made.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&made.stderr));
        let public_key = fs::read_to_string(key.with_extension("pub")).expect("the public key");
        Self { folder, xgenctl: xgenctl.to_owned(), public_key }
    }

    /// The home folder, where the program runs.
    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the home folder, readable by its owner alone.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.home().join(name);
        fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode of the file");
    }

    /// Writes the servers' host keys, read on the servers themselves, as known_hosts.
    pub fn know<'a>(&self, servers: impl IntoIterator<Item = &'a Server>) {
        let path = self.home().join(".ssh/known_hosts");
        let mut known = fs::read_to_string(&path).unwrap_or_default();
        for server in servers {
            let key = server.sh("cat /etc/ssh/ssh_host_ed25519_key.pub");
            let key = key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            known += &format!("{} {key}\n", server.ip);
        }
        fs::write(path, known).expect("known_hosts");
    }

    /// The program with its arguments, in an environment that holds nothing of this machine.
    pub fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.xgenctl);
        command.args(args).current_dir(self.home()).env_clear().env("HOME", self.home()).env("LC_ALL", "C.UTF-8");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// Runs the program to its end.
    pub fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Run {
        let command = self.command(args);
        let shown = format!("{command:?}");
        Run::new(shown, docker::output(command, &[]).expect("xgenctl"))
    }

    /// Starts the program and leaves it running; its output is thrown away.
    pub fn start<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Running {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().expect("xgenctl"))
    }
}

/// A program that runs; killed when the value is dropped.
pub struct Running(Child);

impl Running {
    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("state of the program").is_none()
    }

    /// Kills it: it gets no chance to tidy up.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a run of the program ended.
pub struct Run {
    command: String,
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// Takes what a program wrote.
    pub fn new(command: String, output: Output) -> Self {
        Self {
            command,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Insists on an exit code, and shows everything where it is another one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n{self}");
        self
    }

    /// The events of `-o json`: every line of standard output is one.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}\n{self}")))
            .collect()
    }

    /// The last event, which has to be `run_finished`.
    #[track_caller]
    pub fn finished(&self) -> Value {
        let last = self.events().pop().unwrap_or_else(|| panic!("no event\n{self}"));
        assert_eq!(last["event"], "run_finished", "the last event\n{self}");
        last
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "{command}\nexit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
