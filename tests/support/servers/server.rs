//! One server: a container with systemd and sshd, removed when the value is dropped.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::docker;

/// A network of its own for the servers of a test, with this machine as its gateway.
pub struct Network {
    name: String,
    /// This machine's address in it.
    pub gateway: String,
}

impl Network {
    /// Makes one.
    pub fn new() -> Self {
        let name = docker::unique_name("net");
        docker::run(["network", "create", &docker::label(), &name]);
        let mut network = Self { name, gateway: String::new() };
        network.gateway =
            docker::run(["network", "inspect", "--format={{(index .IPAM.Config 0).Gateway}}", &network.name]);
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        report(docker::try_run(["network", "rm", &self.name]));
    }
}

/// A Debian server.
pub struct Server {
    /// Its host name.
    pub name: String,
    /// Its address in its network.
    pub ip: String,
    container: String,
}

/// What is special about a server.
#[derive(Default)]
pub struct Options {
    /// More packages than a fresh server has.
    pub packages: Vec<&'static str>,
    /// What containers need, beyond systemd, for a kubelet and a container runtime inside.
    pub runs_containers: bool,
}

impl Server {
    /// Starts a server and returns at once; [`Server::wait_until_up`] waits.
    pub fn start(network: &Network, name: &str, options: &Options) -> Self {
        let image = super::image::ensure(&options.packages);
        let container = docker::unique_name(name);
        let mut args: Vec<String> = ["run", "--detach", "--stop-signal=SIGRTMIN+3", "--cgroupns=private"]
            .into_iter()
            .chain(["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN"])
            .chain(["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"])
            .chain(["--tmpfs=/run:exec", "--tmpfs=/tmp:exec"])
            .map(str::to_owned)
            .collect();
        args.extend([docker::label(), format!("--name={container}"), format!("--hostname={name}")]);
        args.push(format!("--network={}", network.name));
        if options.runs_containers {
            // overlayfs cannot lie on the container's own overlayfs; sysctls and kernel messages are the kubelet's.
            let more = [
                "--cap-add=SYSLOG",
                "--cap-add=SYS_PTRACE",
                "--security-opt=systempaths=unconfined",
                "--device=/dev/kmsg",
                "--volume=/var/lib/rancher",
                "--volume=/var/lib/kubelet",
            ];
            args.extend(more.map(str::to_owned));
        }
        args.push(image);
        // From here on the value exists, so that it is removed even where a later step fails.
        let mut server = Self { name: name.to_owned(), ip: String::new(), container };
        docker::run(&args);
        let format = format!("--format={{{{(index .NetworkSettings.Networks \"{}\").IPAddress}}}}", network.name);
        server.ip = docker::run(["inspect", &format, &server.container]);
        server
    }

    /// Waits until systemd has started everything and sshd answers, then lets the key in as root and as the user.
    ///
    /// # Panics
    /// Where the server does not come up.
    pub fn wait_until_up(&self, public_key: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let state = self.exec(&["systemctl", "is-system-running"]);
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            let sshd = self.exec(&["systemctl", "is-active", "--quiet", "ssh.service"]).status.success();
            match state.as_str() {
                "running" if sshd => break,
                "degraded" => panic!("{}: failed units:\n{}", self.name, self.sh("systemctl --failed --no-legend")),
                _ if Instant::now() > end => panic!("{}: not up after a minute, systemd is {state:?}", self.name),
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
        for (home, user) in [("/root", "root"), ("/home/ops", super::image::USER)] {
            self.write(&format!("{home}/.ssh/authorized_keys"), public_key.as_bytes());
            self.sh(&format!("chmod 700 {home}/.ssh && chown -R {user}: {home}/.ssh"));
        }
    }

    /// Runs a program as root.
    pub fn exec(&self, argv: &[&str]) -> Output {
        self.exec_with(argv, &[])
    }

    /// Runs a program as root with something to read.
    pub fn exec_with(&self, argv: &[&str], stdin: &[u8]) -> Output {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", &self.container]).args(argv);
        docker::output(command, stdin).expect("docker exec")
    }

    /// Runs a shell script as root and returns what it printed, without the last newline.
    ///
    /// # Panics
    /// Where it fails.
    pub fn sh(&self, script: &str) -> String {
        let output = self.exec(&["sh", "-euc", script]);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {script}: {}\n{out}{err}", self.name, output.status);
        out.trim_end().to_owned()
    }

    /// Whether a shell condition holds.
    pub fn test(&self, script: &str) -> bool {
        self.exec(&["sh", "-c", script]).status.success()
    }

    /// Content of a file.
    ///
    /// # Panics
    /// Where it cannot be read.
    pub fn read(&self, path: &str) -> Vec<u8> {
        let output = self.exec(&["cat", path]);
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Writes a file, and makes its folder.
    pub fn write(&self, path: &str, content: &[u8]) {
        let script = r#"mkdir -p -- "$(dirname -- "$0")" && cat >"$0""#;
        let output = self.exec_with(&["sh", "-euc", script, path], content);
        assert!(output.status.success(), "{}: {path}: {}", self.name, String::from_utf8_lossy(&output.stderr));
    }

    /// Process id of a unit's program; 0 where it does not run.
    pub fn main_pid(&self, unit: &str) -> u32 {
        self.sh(&format!("systemctl show --property=MainPID --value {unit}")).parse().expect("a process id")
    }

    /// The last journal lines of a unit, for messages of failed tests.
    pub fn journal(&self, unit: &str) -> String {
        self.sh(&format!("journalctl --no-pager --output=cat --lines=40 --unit={unit}"))
    }

    /// Everything that is on the server's disk, one line a path: kind, mode, owner, size or target, digest of content.
    ///
    /// Left out: what the kernel shows as files, and what every login and every moment changes: journal, records of logins and of sudo.
    pub fn tree(&self) -> BTreeMap<String, String> {
        let pruned = r#"\( -path /proc -o -path /sys -o -path /dev -o -path /run/log -o -path /var/log/journal \
            -o -path /run/systemd -o -path /run/user -o -path /run/utmp -o -path /run/motd.dynamic \
            -o -path /var/log/wtmp -o -path /var/log/lastlog -o -path /var/log/btmp -o -path /run/sudo \
            -o -path /var/lib/sudo -o -name .sudo_as_admin_successful -o -path '/tmp/systemd-private-*' \) -prune"#;
        let kinds = self.sh(&format!(
            r"find / {pruned} -o -type f -printf '%p\t%y %m %U:%G %s\n' -o -printf '%p\t%y %m %U:%G %l\n'"
        ));
        let digests = self.sh(&format!("find / {pruned} -o -type f -print0 | xargs -0 sha256sum --"));
        let kinds = kinds.lines().filter_map(|line| line.split_once('\t'));
        let digests = digests.lines().filter_map(|line| line.split_once("  ")).map(|(digest, path)| (path, digest));
        let mut tree: BTreeMap<String, String> = BTreeMap::new();
        for (path, seen) in kinds.chain(digests) {
            let line = tree.entry(path.to_owned()).or_default();
            line.push_str(seen);
            line.push(' ');
        }
        tree
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        report(docker::try_run(["rm", "--force", "--volumes", &self.container]));
    }
}

/// A failed removal must not hide the failure of the test that comes with it.
fn report(removed: Result<String, String>) {
    if let Err(reason) = removed {
        eprintln!("not removed, the next run will: {reason}");
    }
}
