//! The host scripts, as they behave on a real server: what each one reads, changes, prints and ends with.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::disk::{basename, dirname};
use super::faults::{Fault, Point};
use super::state::{HostState, State};
use super::world::{Kept, World};
use super::{look, systemd};
use crate::engine::action::hex;
use crate::host::FileKind;
use crate::host::scripts::{self, Script};

/// What a program that was killed ends with.
const SIGKILLED: i32 = 137;
/// Bytes that a connection carries in a millisecond: 100 MB/s.
const BYTES_PER_MS: usize = 100_000;

/// One running script.
pub(super) struct Program {
    pub world: World,
    pub host: String,
    pub args: Vec<String>,
    pub stdin: DuplexStream,
    pub stdout: DuplexStream,
    pub stderr: DuplexStream,
    /// What goes wrong with it.
    pub fault: Option<Fault>,
    /// Turns true when the connection that started it broke.
    pub dead: watch::Receiver<bool>,
    /// Its number, for the lock.
    pub number: u64,
}

/// What came from standard input.
enum Read {
    Bytes(Vec<u8>),
    End,
    /// Something went wrong after these bytes.
    Trouble(Fault, Vec<u8>),
}

/// The script that an argument vector runs, if it is exactly one of ours.
pub(super) fn recognise(argv: &[String]) -> Option<(&'static Script, Vec<String>)> {
    let [shell, flag, text, name, args @ ..] = argv else { return None };
    if shell != "sh" || flag != "-c" {
        return None;
    }
    let script = scripts::ALL.iter().find(|s| s.name == name && s.text == text)?;
    Some((script, args.to_vec()))
}

impl Program {
    /// Runs to its end; returns the exit code.
    pub async fn run(mut self, script: &'static Script) -> i32 {
        let code = match (self.fault, script) {
            (Some(Fault::Hang), _) => self.hang().await,
            (Some(Fault::ScriptKilled), s) if *s != scripts::PUT => SIGKILLED,
            (_, s) if *s == scripts::PUT => self.put().await,
            (_, s) if *s == scripts::LOCK => self.lock().await,
            (_, s) if *s == scripts::WAIT_UNIT => self.wait_unit().await,
            (_, s) if *s == scripts::UNIT => self.unit().await,
            (_, s) if *s == scripts::REACH => self.reach().await,
            (Some(Fault::WriteRefused), s) if [scripts::LINK, scripts::REMOVE, scripts::CLEAN].contains(s) => {
                self.fail(1, &format!("{}: Read-only file system", script.name)).await
            }
            (Some(Fault::DiskFull), s) if *s == scripts::LINK => {
                self.fail(1, "ln: failed to create symbolic link: No space left on device").await
            }
            (_, s) if *s == scripts::PART => self.part().await,
            (_, s) if *s == scripts::PROBE => self.probe().await,
            (_, s) if *s == scripts::LINK => self.link().await,
            (_, s) if *s == scripts::REMOVE => self.remove().await,
            (_, s) if *s == scripts::JOURNAL => self.journal().await,
            (_, s) if *s == scripts::CLEAN => self.clean().await,
            _ => {
                self.world.record(Kept::NotSimulated, &self.host, script.name);
                self.fail(127, &format!("not simulated: {}", script.name)).await
            }
        };
        // The reader may be gone already.
        let _ = self.stdout.shutdown().await;
        let _ = self.stderr.shutdown().await;
        code
    }

    fn arg(&self, at: usize) -> &str {
        self.args.get(at).map(String::as_str).unwrap_or_default()
    }

    fn on_host<T>(&self, work: impl FnOnce(&mut HostState) -> T) -> Option<T> {
        self.world.with(|state| state.hosts.get_mut(&self.host).map(work))
    }

    fn see_host<T>(&self, look: impl FnOnce(&HostState) -> T) -> Option<T> {
        self.world.host(&self.host, look)
    }

    async fn say(&mut self, text: &str) {
        self.world.record(Kept::Stdout, &self.host, text);
        // Whoever started the program may not read any more; the program does not mind.
        let _ = self.stdout.write_all(text.as_bytes()).await;
    }

    async fn fail(&mut self, code: i32, text: &str) -> i32 {
        self.world.record(Kept::Stderr, &self.host, text);
        let _ = self.stderr.write_all(format!("{text}\n").as_bytes()).await;
        code
    }

    async fn hang(&mut self) -> i32 {
        // The value is only sent when the connection breaks; an error means that it is gone altogether.
        let _ = self.dead.wait_for(|dead| *dead).await;
        SIGKILLED
    }

    /// The next piece of standard input. A broken connection is its end.
    async fn read(&mut self, limit: usize) -> Read {
        let mut buffer = vec![0; limit];
        let got = tokio::select! {
            biased;
            _ = self.dead.wait_for(|dead| *dead) => 0,
            got = self.stdin.read(&mut buffer) => got.unwrap_or(0),
        };
        if got == 0 {
            return Read::End;
        }
        buffer.truncate(got);
        match self.world.pass(Point::Stdin, &self.host, &format!("{got} bytes")) {
            Some(Fault::ConnectionLost | Fault::AnswerLost | Fault::Unreachable(_) | Fault::Killed) => {
                buffer.truncate(got / 2);
                Read::Trouble(Fault::ConnectionLost, buffer)
            }
            Some(fault) => {
                buffer.truncate(got / 2);
                Read::Trouble(fault, buffer)
            }
            None => {
                tokio::time::sleep(Duration::from_millis(got.div_ceil(BYTES_PER_MS) as u64)).await;
                Read::Bytes(buffer)
            }
        }
    }

    async fn put(&mut self) -> i32 {
        let (path, digest, offset) = (self.arg(0).to_owned(), self.arg(3).to_owned(), self.arg(5).to_owned());
        let (folder, base) = (dirname(&path).to_owned(), basename(&path).to_owned());
        let resumes = !offset.is_empty();
        let temporary = if resumes {
            format!("{folder}/.{base}.{:.12}.xgenctl-part", digest)
        } else {
            format!("{folder}/.{base}.xgenctl-tmp")
        };
        if self.see_host(|host| host.has_folder(&path)) == Some(true) {
            return self.fail(73, &format!("{path}: Is a directory")).await;
        }
        if self.fault == Some(Fault::WriteRefused) {
            return self
                .fail(2, &format!("{}: cannot create {temporary}: Read-only file system", scripts::PUT.name))
                .await;
        }
        let prepared = self.on_host(|host| {
            if !host.has_folder(&folder) {
                host.mkdir(&folder, 0o755)?;
            }
            let (start, end) = (format!("{folder}/.{base}."), ".xgenctl-part");
            if resumes {
                host.files.retain(|p, _| !(p.starts_with(&start) && p.ends_with(end) && *p != temporary));
            }
            if !resumes || offset == "0" || !host.files.contains_key(&temporary) {
                host.write(&temporary, 0o600, Vec::new());
            }
            Ok(())
        });
        match prepared {
            Some(Ok(())) => {}
            Some(Err::<(), String>(reason)) => return self.fail(1, &reason).await,
            None => return self.fail(1, "no such host").await,
        }
        if self.fault == Some(Fault::ScriptKilled) {
            return SIGKILLED;
        }
        let mut trouble = self.fault.filter(|f| *f == Fault::DiskFull);
        loop {
            let (bytes, more) = match self.read(64 << 10).await {
                Read::End => break,
                Read::Bytes(bytes) if trouble == Some(Fault::DiskFull) => (bytes[..bytes.len() / 2].to_vec(), false),
                Read::Bytes(bytes) => (bytes, true),
                Read::Trouble(fault, bytes) => {
                    trouble = Some(fault);
                    (bytes, false)
                }
            };
            self.on_host(|host| {
                if let Some(file) = host.files.get_mut(&temporary) {
                    file.content.extend_from_slice(&bytes);
                }
            });
            if !more {
                break;
            }
        }
        match trouble {
            Some(Fault::ConnectionLost) => self.break_line(),
            Some(Fault::ScriptKilled) => return SIGKILLED,
            Some(Fault::Hang) => return self.hang().await,
            Some(Fault::DiskFull) => {
                if !resumes {
                    self.on_host(|host| host.remove(&temporary));
                }
                return self.fail(1, "cat: write error: No space left on device").await;
            }
            _ => {}
        }
        let actual = self
            .see_host(|host| host.files.get(&temporary).map(|f| hex(&Sha256::digest(&f.content))))
            .flatten()
            .unwrap_or_default();
        if actual != digest {
            if !resumes {
                self.on_host(|host| host.remove(&temporary));
            }
            return self.fail(65, &format!("what arrived has sha256 {actual}, expected {digest}")).await;
        }
        let mode = u32::from_str_radix(self.arg(1), 8);
        let (owner, unit) = (self.arg(2).to_owned(), self.arg(4).to_owned());
        let Ok(mode) = mode else {
            let text = format!("chmod: invalid mode: '{}'", self.arg(1));
            return self.fail(1, &text).await;
        };
        self.on_host(|host| {
            if !unit.is_empty() {
                host.write(&format!("/run/xgenctl/restart-{unit}"), 0o600, "");
            }
            let Some(mut file) = host.files.remove(&temporary) else { return };
            file.mode = mode;
            if let Some((user, group)) = owner.split_once(':') {
                file.owner = user.to_owned();
                file.group = group.to_owned();
            }
            host.files.insert(path, file);
        });
        0
    }

    async fn part(&mut self) -> i32 {
        let path = self.arg(0).to_owned();
        let part = format!("{}/.{}.{:.12}.xgenctl-part", dirname(&path), basename(&path), self.arg(1));
        let size = self.see_host(|host| host.files.get(&part).map_or(0, |f| f.content.len())).unwrap_or(0);
        self.say(&format!("{size}\n")).await;
        0
    }

    async fn lock(&mut self) -> i32 {
        self.on_host(|host| host.write("/run/xgenctl/lock", 0o644, ""));
        if !self.world.take_lock(&self.host, self.number) {
            let holder = self.see_host(|host| host.read_text("/run/xgenctl/holder")).flatten();
            let holder = holder.as_deref().map(|h| h.trim_end_matches('\n')).filter(|h| !h.is_empty());
            self.say(holder.unwrap_or("an unknown run")).await;
            return 75;
        }
        // The lock must not outlive the program, also where its task is dropped with the runtime.
        let _held = Holding { world: self.world.clone(), host: self.host.clone(), number: self.number };
        let holder = format!("{}\n", self.arg(0));
        self.on_host(|host| host.write("/run/xgenctl/holder", 0o644, holder));
        self.say("locked\n").await;
        loop {
            let mut byte = [0];
            let read = tokio::select! {
                biased;
                _ = self.dead.wait_for(|dead| *dead) => 0,
                read = tokio::time::timeout(Duration::from_secs(60), self.stdin.read(&mut byte)) => {
                    read.ok().and_then(Result::ok).unwrap_or(0)
                }
            };
            // The shell drops a newline at the end of what a command prints, and NUL bytes.
            if read == 0 || matches!(byte[0], b'\n' | 0) {
                return 0;
            }
        }
    }

    async fn unit(&mut self) -> i32 {
        let (operation, unit) = (self.arg(0).to_owned(), self.arg(1).to_owned());
        if self.fault == Some(Fault::WriteRefused) {
            return self.fail(1, &format!("Failed to enable unit: File {unit}: Read-only file system")).await;
        }
        let starts = matches!(operation.as_str(), "start" | "restart");
        let fault =
            if starts { self.world.pass(Point::UnitStart, &self.host, &format!("{operation} {unit}")) } else { None };
        match fault {
            Some(Fault::Hang) => return self.hang().await,
            Some(Fault::ConnectionLost | Fault::Killed) => {
                self.break_line();
                return 0;
            }
            _ => {}
        }
        let world = self.world.clone();
        let host_name = self.host.clone();
        let done = self.world.with(|state: &mut State| {
            let host = state.hosts.get_mut(&host_name).ok_or((1, "no such host".to_owned()))?;
            systemd::daemon_reload(host);
            match operation.as_str() {
                "start" | "restart" => {
                    systemd::enable(host, &unit).map_err(|reason| (1, reason))?;
                    if let Some(known) = host.units.get_mut(&unit) {
                        known.restarts = 0;
                        known.fails_once = fault == Some(Fault::StartFails);
                        if known.active == "failed" {
                            known.active = "inactive".into();
                            known.sub = "dead".into();
                        }
                    }
                    systemd::start(&world, state, &host_name, &unit, operation == "restart");
                }
                "stop" => {
                    systemd::disable(host, &unit);
                    systemd::stop(&world, state, &host_name, &unit);
                }
                other => return Err((64, format!("unknown operation {other}"))),
            }
            if let Some(host) = state.hosts.get_mut(&host_name) {
                host.remove(&format!("/run/xgenctl/restart-{unit}"));
            }
            Ok(())
        });
        tokio::time::sleep(Duration::from_millis(if operation == "stop" { 300 } else { 20 })).await;
        if fault == Some(Fault::AnswerLost) {
            self.break_line();
        }
        match done {
            Ok(()) => 0,
            Err((code, reason)) => self.fail(code, &reason).await,
        }
    }

    async fn wait_unit(&mut self) -> i32 {
        let unit = self.arg(0).to_owned();
        let Ok(seconds) = self.arg(1).parse::<i64>() else {
            return self.fail(2, "arithmetic expression: expecting primary").await;
        };
        let end = self.world.now_ms() / 1000 + seconds;
        loop {
            let (state, restarts, journal) = self
                .see_host(|host| host.units.get(&unit).map(|u| (u.active.clone(), u.restarts, tail(&u.journal, 20))))
                .flatten()
                .unwrap_or_else(|| ("inactive".into(), 0, String::new()));
            if state == "active" {
                return 0;
            }
            if state == "failed" || restarts >= 5 || self.world.now_ms() / 1000 >= end {
                let text = format!("{unit} is {state} after {restarts} restarts\n{journal}");
                return self.fail(1, text.trim_end()).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn link(&mut self) -> i32 {
        let (target, path) = (self.arg(0).to_owned(), self.arg(1).to_owned());
        let done = self.on_host(|host| {
            host.mkdir(dirname(&path), 0o755)?;
            if host.has_folder(&path) {
                return Err(format!("mv: cannot overwrite directory '{path}' with non-directory"));
            }
            host.link(&path, &target);
            Ok(())
        });
        match done {
            Some(Err(reason)) => self.fail(1, &reason).await,
            _ => 0,
        }
    }

    async fn remove(&mut self) -> i32 {
        let paths = self.args.clone();
        self.on_host(|host| paths.iter().for_each(|path| host.remove(path)));
        0
    }

    async fn journal(&mut self) -> i32 {
        let lines = self.arg(1).parse().unwrap_or(10);
        let unit = self.arg(0).to_owned();
        let text = self.see_host(|host| host.units.get(&unit).map(|u| tail(&u.journal, lines))).flatten();
        let text = text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-- No entries --\n".into());
        self.say(&text).await;
        0
    }

    async fn reach(&mut self) -> i32 {
        let seconds: u64 = self.arg(0).parse().unwrap_or(5);
        tokio::time::sleep(Duration::from_millis(2)).await;
        // All are tried at once: those that answer are told first, the silent ones when the time is over.
        let mut silent = Vec::new();
        for endpoint in self.args.clone().iter().skip(1) {
            let (address, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
            let address = address.trim_start_matches('[').trim_end_matches(']');
            match look::reach(&self.world, &self.host, address, port.parse().unwrap_or(0)) {
                "filtered" => silent.push(endpoint.clone()),
                said => self.say(&format!("{endpoint} {said}\n")).await,
            }
        }
        if !silent.is_empty() {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        for endpoint in silent {
            self.say(&format!("{endpoint} filtered\n")).await;
        }
        0
    }

    async fn probe(&mut self) -> i32 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let seen = look::probe(&self.world, &self.host, &self.args);
        match seen {
            Ok(seen) => {
                let bytes = crate::host::probe::render(&seen);
                self.world.record(Kept::Stdout, &self.host, String::from_utf8_lossy(&bytes));
                let _ = self.stdout.write_all(&bytes).await;
                0
            }
            Err(reason) => self.fail(64, &reason).await,
        }
    }

    async fn clean(&mut self) -> i32 {
        let unit = self.arg(0).to_owned();
        let (world, host_name) = (self.world.clone(), self.host.clone());
        self.world.with(|state| {
            if let Some(host) = state.hosts.get_mut(&host_name) {
                systemd::disable(host, &unit);
            }
            systemd::stop(&world, state, &host_name, &unit);
            let Some(host) = state.hosts.get_mut(&host_name) else { return };
            let name = unit.strip_suffix(".service").unwrap_or(&unit);
            for path in [
                &format!("/etc/systemd/system/{unit}"),
                &format!("/etc/systemd/system/{unit}.env"),
                &format!("/etc/systemd/system/{unit}.d"),
                "/etc/rancher/k3s",
                "/etc/rancher/node",
                "/run/k3s",
                "/run/flannel",
                "/var/lib/rancher/k3s",
                "/var/lib/kubelet",
                "/var/lib/cni",
                "/usr/local/bin/k3s",
                "/usr/local/bin/k3s-killall.sh",
                &format!("/usr/local/bin/{name}-uninstall.sh"),
                &format!("/run/xgenctl/restart-{unit}"),
            ] {
                host.remove(path);
            }
            for link in ["kubectl", "crictl", "ctr"] {
                let path = format!("/usr/local/bin/{link}");
                let target = host.files.get(&path).filter(|f| f.kind == FileKind::Link).and_then(|f| f.target.clone());
                if matches!(target.as_deref(), Some("k3s" | "/usr/local/bin/k3s")) {
                    host.remove(&path);
                }
            }
            host.rmdir("/etc/rancher");
            host.rmdir("/var/lib/rancher");
            systemd::daemon_reload(host);
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        0
    }

    /// The connection that started this program breaks, and everything on it.
    fn break_line(&self) {
        let host = self.host.clone();
        self.world.break_lines(|h| h == host);
    }
}

fn tail(lines: &[String], count: usize) -> String {
    let from = lines.len().saturating_sub(count);
    lines[from..].iter().map(|line| format!("{line}\n")).collect()
}

/// Gives the lock back when its program ends, however it does.
struct Holding {
    world: World,
    host: String,
    number: u64,
}

impl Drop for Holding {
    fn drop(&mut self) {
        if self.world.release_lock(&self.host, self.number) {
            self.world.with(|state| state.hosts.get_mut(&self.host).map(|h| h.remove("/run/xgenctl/holder")));
        }
    }
}
