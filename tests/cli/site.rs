//! A site of its own for each test: home, working folder, project file; and the program that runs there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// One server and two agents.
pub const THREE: &str = "\
project: { name: shop }
nodes:
  - { name: master, role: server, host: 10.0.0.10 }
  - { name: one, role: agent, host: 10.0.0.11 }
  - { name: two, role: agent, host: 10.0.0.12 }
";

/// The folder of the rehearsal that most tests use, below the working folder.
const REHEARSAL: &str = "r";

/// Home and working folder of one test; both go away with it.
pub struct Site {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Output {
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Site {
    /// A site without any file.
    pub fn empty() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(site.home()).unwrap();
        fs::create_dir(site.path("")).unwrap();
        site
    }

    /// A site with this project.yaml.
    pub fn new(project: &str) -> Self {
        let site = Self::empty();
        site.write("project.yaml", project);
        site
    }

    /// [`THREE`], with fresh servers.
    pub fn three() -> Self {
        Self::new(THREE)
    }

    /// [`THREE`], with everything set up. The set-up itself is made once for all tests of this program.
    pub fn converged() -> Self {
        static STATE: OnceLock<String> = OnceLock::new();
        let state = STATE.get_or_init(|| {
            let site = Self::three();
            site.rehearse("setup all").ok();
            site.read("r/state.json")
        });
        let site = Self::three();
        site.write("r/state.json", state);
        site
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A path below the working folder.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join("work").join(path)
    }

    /// Writes a file below the working folder.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Reads a file below the working folder.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// The program, ready to run here: nothing of the environment but PATH, HOME, TERM and LANG, and no terminal.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xgenctl"));
        command.env_clear().current_dir(self.path("")).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home()).env("TERM", "xterm").env("LANG", "C.UTF-8").env("TZ", "UTC");
        command
    }

    /// Runs the program with these arguments, which blanks divide.
    pub fn run(&self, args: &str) -> Output {
        self.run_with(args, &[])
    }

    /// As [`Site::run`], with further variables.
    pub fn run_with(&self, args: &str, variables: &[(&str, &str)]) -> Output {
        let output = self.command().args(args.split_whitespace()).envs(variables.iter().copied()).output().unwrap();
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: self.normal(&String::from_utf8(output.stdout).unwrap()),
            stderr: self.normal(&String::from_utf8(output.stderr).unwrap()),
        }
    }

    /// Runs a command on the servers of the rehearsal in `r`.
    pub fn rehearse(&self, args: &str) -> Output {
        self.run(&format!("{args} --rehearse={REHEARSAL}"))
    }

    /// The rehearsal's state.
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.read("r/state.json")).unwrap()
    }

    /// The rehearsal's state without what moves although nothing is done: the clock, the count of processes, and the
    /// folder of the run lock.
    pub fn still_state(&self) -> Value {
        let mut value = self.state();
        let state = value["state"].as_object_mut().unwrap();
        state.remove("now_ms").unwrap();
        state.remove("counter").unwrap();
        for host in state["hosts"].as_object_mut().unwrap().values_mut() {
            host["files"].as_object_mut().unwrap().retain(|path, _| !path.starts_with("/run/xgenctl"));
        }
        value
    }

    /// Changes one server of the rehearsal behind the program's back; makes fresh servers first if there are none.
    pub fn tamper(&self, host: &str, change: impl FnOnce(&mut Value)) {
        if !self.path("r/state.json").exists() {
            assert_eq!(self.rehearse("status").code, 4);
        }
        let mut state = self.state();
        change(&mut state["state"]["hosts"][host]);
        self.write("r/state.json", state.to_string());
    }

    /// The text of a file on a server of the rehearsal.
    pub fn file_on(&self, host: &str, path: &str) -> Option<String> {
        self.state()["state"]["hosts"][host]["files"][path]["content"]["text"].as_str().map(str::to_owned)
    }

    /// `MainPID` of every unit that runs on the servers of the rehearsal, as `host/unit`.
    pub fn main_pids(&self) -> Vec<(String, u64)> {
        let state = self.state();
        let hosts = state["state"]["hosts"].as_object().unwrap();
        let units = hosts.iter().flat_map(|(name, host)| {
            host["units"].as_object().unwrap().iter().map(move |(unit, u)| (format!("{name}/{unit}"), &u["main_pid"]))
        });
        units.map(|(unit, pid)| (unit, pid.as_u64().unwrap())).filter(|(_, pid)| *pid != 0).collect()
    }

    /// The secrets of the simulated cluster: tokens, passwords, node passwords.
    pub fn simulated_secrets(&self) -> Vec<String> {
        let state = self.state();
        let mut secrets = Vec::new();
        for cluster in state["state"]["clusters"].as_object().unwrap().values() {
            for key in ["password", "admin_token", "agent_password"] {
                secrets.extend(cluster[key].as_str().map(str::to_owned));
            }
        }
        for host in state["state"]["hosts"].as_object().unwrap().keys() {
            secrets.extend(self.file_on(host, "/etc/rancher/node/password").map(|t| t.trim().to_owned()));
        }
        assert!(secrets.len() >= 3, "{secrets:?}");
        secrets
    }

    /// Text with the folders of this site written as HOME and DIR, and ids of runs as RUN.
    pub fn normal(&self, text: &str) -> String {
        let folder = |path: PathBuf| path.display().to_string().trim_end_matches('/').to_owned();
        let text = text.replace(&folder(self.path("")), "DIR").replace(&folder(self.home()), "HOME");
        without_run_ids(&text)
    }
}

/// The text with each id of a run (`20261122-071342-ab12`) as RUN.
fn without_run_ids(text: &str) -> String {
    const SHAPE: &[u8; 20] = b"dddddddd-dddddd-hhhh";
    let fits = |window: &[u8]| {
        window.iter().zip(SHAPE).all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            b'h' => byte.is_ascii_hexdigit(),
            other => byte == other,
        })
    };
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some(first) = rest.first() {
        if rest.len() >= SHAPE.len() && fits(&rest[..SHAPE.len()]) {
            out.extend(b"RUN");
            rest = &rest[SHAPE.len()..];
        } else {
            out.push(*first);
            rest = &rest[1..];
        }
    }
    String::from_utf8(out).unwrap()
}

impl Output {
    /// The output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ends_with_code(0)
    }

    /// The output of a command that must have exited so.
    #[track_caller]
    pub fn ends_with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Whether a text stands in stdout; panics with all of it where it does not.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The whole of stderr.
    #[track_caller]
    pub fn complains(self, text: &str) -> Self {
        assert_eq!(self.stderr, text, "stdout:\n{}", self.stdout);
        self
    }

    /// One JSON value, which is all of stdout.
    #[track_caller]
    pub fn value(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// The JSON lines of a run, which are all of stdout.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    /// The last event of a run.
    #[track_caller]
    pub fn finished(&self) -> Value {
        let last = self.events().pop().unwrap();
        assert_eq!(last["event"], "run_finished", "{}", self.stdout);
        last
    }
}
