//! What the real script prints, under every shell that is here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::host::scripts;

/// The shells that are here: `sh` always, and those that hosts have as their `sh`.
fn shells() -> Vec<Vec<&'static str>> {
    let candidates: [&[&str]; 4] = [&["sh"], &["dash"], &["bash", "--posix"], &["busybox", "sh"]];
    let runs = |shell: &&[&str]| {
        Command::new(shell[0]).args(&shell[1..]).args(["-c", ":"]).output().is_ok_and(|o| o.status.success())
    };
    candidates.iter().copied().filter(runs).map(<[_]>::to_vec).collect()
}

/// Runs the script as a host does, and reads what it says.
fn probe(shell: &[&str], env: &[(&str, &OsStr)], interests: &[String]) -> Result<HostSeen, String> {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", scripts::PROBE.text, scripts::PROBE.name]).args(interests);
    command.envs(env.iter().copied());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{shell:?}: {}: {stderr}", output.status);
    let seen = parse(&output.stdout)?;
    assert_eq!(parse(&render(&seen)).as_ref(), Ok(&seen), "{shell:?}");
    Ok(seen)
}

fn asked(kind: &str, path: &Path) -> String {
    format!("{kind}:{}", path.to_str().unwrap())
}

#[test]
fn the_script_sees_files_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let binary: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let odd = [
        "plain",
        "with space",
        "tab\there",
        "line\nbreak",
        "ends in breaks\n\n",
        "한글 ä",
        "-n",
        "=equals",
        "quo'te\"$(id)*",
    ];
    let mut wanted: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (index, name) in odd.iter().enumerate() {
        let content = if index == 0 { binary.clone() } else { format!("{name}\n\n").into_bytes() };
        std::fs::write(root.join(name), &content).unwrap();
        wanted.insert(root.join(name).to_str().unwrap().to_owned(), content);
    }
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::write(root.join("limit"), vec![b'x'; 1 << 20]).unwrap();
    std::fs::write(root.join("over"), vec![b'x'; (1 << 20) + 1]).unwrap();
    std::fs::write(root.join("secret"), "s").unwrap();
    std::fs::set_permissions(root.join("secret"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::create_dir(root.join("folder")).unwrap();
    std::fs::set_permissions(root.join("folder"), PermissionsExt::from_mode(0o1755)).unwrap();
    symlink("k3s", root.join("dangling")).unwrap();
    symlink("odd\ttarget\n\n", root.join("oddlink")).unwrap();
    symlink(root.join("secret"), root.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

    let mut interests: Vec<String> = wanted.keys().map(|path| format!("file:{path}")).collect();
    for name in
        ["empty", "limit", "over", "secret", "folder", "dangling", "oddlink", "link", "socket", "missing", "plain"]
    {
        interests.push(asked("file", &root.join(name)));
    }
    interests.extend([asked("stat", &root.join("plain")), asked("stat", &root.join("nowhere/at/all"))]);
    let only_stat = dir.path().join("only stat");
    std::fs::write(&only_stat, "12345").unwrap();
    interests.push(asked("stat", &only_stat));
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();

    for shell in shells() {
        let seen = probe(&shell, &[], &interests).unwrap();
        let at = |name: &str| &seen.files[root.join(name).to_str().unwrap()];
        for (path, content) in &wanted {
            assert_eq!(seen.files[path].content.as_ref(), Some(content), "{shell:?}: {path}");
            assert_eq!(seen.files[path].size, content.len() as u64, "{shell:?}: {path}");
        }
        assert_eq!(at("empty").content, Some(Vec::new()));
        assert_eq!(at("limit").content.as_ref().map(Vec::len), Some(1 << 20));
        assert_eq!((at("over").content.as_ref(), at("over").size), (None, (1 << 20) + 1));
        assert_eq!((at("secret").kind, at("secret").mode), (FileKind::File, 0o600));
        assert_eq!(at("secret").owner, user.trim_end());
        assert_eq!((at("folder").kind, at("folder").mode), (FileKind::Folder, 0o1755));
        assert_eq!((at("dangling").kind, at("dangling").target.as_deref()), (FileKind::Link, Some("k3s")));
        assert_eq!(at("oddlink").target.as_deref(), Some("odd\ttarget\n\n"));
        assert_eq!((at("link").kind, at("link").content.as_ref()), (FileKind::Link, None));
        assert_eq!(at("socket").kind, FileKind::Other);
        assert_eq!((at("only stat").size, at("only stat").content.as_ref()), (5, None));
        assert_eq!(seen.files.len(), wanted.len() + 10, "{shell:?}: {:?}", seen.files.keys());
    }
}

#[test]
fn the_script_asks_binaries_for_their_version() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        (asked("version", &path), path.to_str().unwrap().to_owned())
    };
    let good = write("good one", "#!/bin/sh\necho \"$1 v1.36.5+k3s1 (a)\"\necho go\n", 0o755);
    let fails = write("fails", "#!/bin/sh\necho early\nexit 3\n", 0o755);
    let broken = write("broken", "\u{0}\u{1}no program", 0o755);
    let no_program = write("no program", "text", 0o644);
    let missing = asked("version", &dir.path().join("missing"));
    let interests = [good.0, fails.0, broken.0, no_program.0, missing];
    for shell in shells() {
        let seen = probe(&shell, &[], &interests).unwrap();
        let expected = [
            (good.1.as_str(), "--version v1.36.5+k3s1 (a)"),
            (&fails.1, "early"),
            (&broken.1, ""),
            (&no_program.1, ""),
        ];
        let expected: BTreeMap<String, String> = expected.iter().map(|(p, v)| (p.to_string(), v.to_string())).collect();
        assert_eq!(seen.versions, expected, "{shell:?}");
    }
}

#[test]
fn the_script_knows_the_machine() {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket6 = std::net::TcpListener::bind("[::1]:0").ok();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for shell in shells() {
        let facts = probe(&shell, &[], &[]).unwrap().facts;
        assert_eq!((facts.hostname.as_str(), facts.kernel.as_str()), (hostname.trim_end(), release.trim_end()));
        assert_eq!((facts.kernel_name.as_str(), facts.arch.as_str()), ("Linux", std::env::consts::ARCH), "{shell:?}");
        assert!(facts.cpus > 0 && facts.memory_kib > 65_536 && facts.data_size_kib > 0, "{shell:?}: {facts:?}");
        assert!(facts.clock_ms > 1_700_000_000_000, "{shell:?}: {}", facts.clock_ms);
        assert!(facts.addresses.iter().all(|a| !a.is_loopback()), "{shell:?}: {:?}", facts.addresses);
        let listens = |protocol: &str, address: &str, port: u16| {
            facts.listening.iter().any(|l| l.protocol == protocol && l.address == address && l.port == port)
        };
        assert!(listens("tcp", "127.0.0.1", socket.local_addr().unwrap().port()), "{shell:?}: {:?}", facts.listening);
        assert!(
            listens("udp", "127.0.0.1", datagrams.local_addr().unwrap().port()),
            "{shell:?}: {:?}",
            facts.listening
        );
    }
    drop(socket6);
}

/// A folder with only those programs in it, found where this system has them.
fn only(programs: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for program in programs {
        let found = ["/usr/bin", "/bin"].map(|d| Path::new(d).join(program)).into_iter().find(|p| p.exists());
        symlink(found.unwrap(), dir.path().join(program)).unwrap();
    }
    dir
}

#[test]
fn without_the_usual_tools_proc_tells_the_same() {
    // The script looks in the usual folders too; a copy that does not sees only what is given here.
    let text = scripts::PROBE.text.replace(":/usr/local/sbin:/usr/sbin:/sbin", "");
    assert_ne!(text, scripts::PROBE.text);
    let few = only(&["base64", "cat", "date", "df", "grep", "readlink", "stat", "tr", "uname"]);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let socket6 = std::net::TcpListener::bind("[::1]:0").ok().map(|s| (s.local_addr().unwrap().port(), s));
    for shell in shells().into_iter().filter(|s| s[0] != "busybox") {
        let program =
            ["/usr/bin", "/bin"].map(|d| Path::new(d).join(shell[0])).into_iter().find(|p| p.exists()).unwrap();
        let run = |path: &OsStr| {
            let output = Command::new(&program)
                .args(&shell[1..])
                .args(["-c", &text, "probe", "stat:/", "unit:k3s.service"])
                .env("PATH", path)
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell:?}");
            parse(&output.stdout).unwrap()
        };
        let bare = run(few.path().as_os_str());
        let full = run(OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        let sorted = |seen: &HostSeen| {
            let mut all = seen.facts.addresses.clone();
            all.sort();
            all
        };
        assert_eq!(sorted(&bare), sorted(&full), "{shell:?}");
        assert_eq!(bare.facts.default_address, full.facts.default_address, "{shell:?}");
        assert_eq!(bare.facts.default_route, full.facts.default_route, "{shell:?}");
        assert_eq!(bare.facts.cpus > 0, full.facts.cpus > 0, "{shell:?}");
        assert!(bare.units.is_empty(), "{shell:?}: no systemctl, no units");
        let open =
            |address: &str, port: u16| bare.facts.listening.iter().any(|l| l.address == address && l.port == port);
        assert!(open("127.0.0.1", port), "{shell:?}: {:?}", bare.facts.listening);
        if let Some((port, _)) = &socket6 {
            assert!(open("::1", *port), "{shell:?}: {:?}", bare.facts.listening);
        }
    }
}

#[test]
fn an_interest_it_does_not_know_is_refused() {
    for shell in shells() {
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .args(["-c", scripts::PROBE.text, scripts::PROBE.name, "colour:blue"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{shell:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "not an interest: colour:blue\n", "{shell:?}");
    }
}

/// Puts a program into a folder.
fn program(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), format!("#!/bin/sh\n{text}")).unwrap();
    std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o755)).unwrap();
}

const SHOW: &str = r#"cat <<'E'
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
MainPID=812
NRestarts=3
FragmentPath=/etc/systemd/system/k3s.service
NeedDaemonReload=yes

LoadState=not-found
ActiveState=inactive
SubState=dead
UnitFileState=
MainPID=0
NRestarts=0
FragmentPath=
NeedDaemonReload=no

LoadState=loaded
ActiveState=active
SubState=mounted
UnitFileState=
FragmentPath=
NeedDaemonReload=no

LoadState=loaded
ActiveState=active
E
"#;

const ZONES: &str = r#"printf '%s\n' 'block' '  target: %%REJECT%%' '  ports: 1/tcp' '' 'public' '  target: default' \
    '  interfaces: ' '  sources: ' '  services: ssh kube-apiserver' '  ports: 6443/tcp 8472/udp' \
    '  source-ports: 5/udp' '  rich rules: ' '	rule family="ipv4" source address="10.0.0.9" accept' '' \
    'trusted (active)' '  target: ACCEPT' '  interfaces: cni0' '  sources: 10.42.0.0/16 10.43.0.0/16' '  services: '
"#;

/// A copy of the script that finds systemd and the firewalls' files in `root`.
fn moved(root: &Path) -> String {
    let mut text = scripts::PROBE.text.to_owned();
    for path in ["/etc/ufw/", "/etc/default/ufw", "/etc/firewalld/", "/run/systemd/system", "/run/xgenctl/"] {
        assert!(text.contains(path), "{path}");
        text = text.replace(path, &format!("{}{path}", root.display()));
    }
    text
}

#[test]
fn the_script_reads_units_and_firewalls() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for folder in ["bin", "etc/ufw", "etc/default", "run/systemd/system", "run/xgenctl"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("run/xgenctl/restart-k3s.service"), "").unwrap();
    std::fs::write(root.join("etc/ufw/ufw.conf"), "# ENABLED=no\nENABLED=yes\nLOGLEVEL=low").unwrap();
    std::fs::write(root.join("etc/default/ufw"), "DEFAULT_INPUT_POLICY=\"DROP\"\n").unwrap();
    let rules = "*filter\n\
        ### tuple ### allow tcp 6443 0.0.0.0/0 any 0.0.0.0/0 in\n-A ufw-user-input -p tcp --dport 6443 -j ACCEPT\n\
        ### tuple ### allow any any 0.0.0.0/0 any 10.42.0.0/16 in comment=6b3373\n\
        ### tuple ### allow tcp 10250 0.0.0.0/0 any 10.0.0.0/8 in\n\
        ### tuple ### allow any 22 0.0.0.0/0 any 0.0.0.0/0 in\n\
        ### tuple ### allow tcp 80,443 0.0.0.0/0 any 0.0.0.0/0 Nginx - in_eth0\n\
        ### tuple ### allow any 25 0.0.0.0/0 any 0.0.0.0/0 out\n\
        ### tuple ### deny any 7 0.0.0.0/0 any 0.0.0.0/0 in\n";
    std::fs::write(root.join("etc/ufw/user.rules"), rules).unwrap();
    program(&root.join("bin"), "systemctl", SHOW);
    program(&root.join("bin"), "firewall-cmd", ZONES);
    let path = std::env::join_paths([root.join("bin"), "/usr/sbin".into(), "/usr/bin".into(), "/bin".into()]).unwrap();
    let units = ["unit:k3s.service", "unit:k3s-agent.service", "unit:tmp.mount"];
    for shell in shells() {
        let run = |text: &str| {
            let mut command = Command::new(shell[0]);
            command.args(&shell[1..]).args(["-c", text, "probe"]).args(units).env("PATH", &path);
            parse(&command.output().unwrap().stdout)
        };
        let seen = run(&moved(root)).unwrap();
        let k3s = UnitSeen {
            active: "active".into(),
            sub: "running".into(),
            enabled: "enabled".into(),
            main_pid: 812,
            restarts: 3,
            path: "/etc/systemd/system/k3s.service".into(),
            needs_reload: true,
            restart_pending: true,
        };
        let mount = UnitSeen { active: "active".into(), sub: "mounted".into(), ..UnitSeen::default() };
        let expected = [("k3s.service", k3s), ("tmp.mount", mount)];
        assert_eq!(seen.units, expected.map(|(name, unit)| (name.to_owned(), unit)).into(), "{shell:?}");
        assert!(seen.facts.systemd);
        let names: Vec<_> = seen.facts.firewalls.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["ufw", "firewalld"], "{shell:?}");
        let ufw = ["6443/tcp", "10.42.0.0/16", "10250/tcp from 10.0.0.0/8", "22", "80,443/tcp"];
        assert_eq!(seen.facts.firewalls[0].allowed, ufw, "{shell:?}");
        let firewalld = [
            "service ssh",
            "service kube-apiserver",
            "6443/tcp",
            "8472/udp",
            "rule family=\"ipv4\" source address=\"10.0.0.9\" accept",
            "zone trusted interface cni0",
            "zone trusted 10.42.0.0/16",
            "zone trusted 10.43.0.0/16",
        ];
        assert_eq!(seen.facts.firewalls[1].allowed, firewalld, "{shell:?}");

        // What systemd does not answer is an error, never an absent unit.
        for (answer, expected) in [
            (
                "echo 'Failed to connect to bus: No such file or directory' >&2; exit 1",
                "systemctl show: Failed to connect to bus: No such file or directory",
            ),
            ("echo ActiveState=active", "systemctl show said nothing of k3s-agent.service"),
        ] {
            program(&root.join("bin"), "systemctl", answer);
            assert_eq!(run(&moved(root)).unwrap_err(), expected, "{shell:?}");
        }
        program(&root.join("bin"), "systemctl", SHOW);
    }
}

#[test]
fn reach_tells_open_from_refused() {
    let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [open_at, closed_at] = [&open, &closed].map(|s| s.local_addr().unwrap().to_string());
    drop(closed);
    for shell in shells() {
        let run = |path: Option<&Path>| {
            let program = ["/usr/bin", "/bin"].map(|d| Path::new(d).join(shell[0])).into_iter().find(|p| p.exists());
            let mut command = Command::new(program.unwrap());
            command.args(&shell[1..]).args(["-c", scripts::REACH.text, scripts::REACH.name, "5", &open_at, &closed_at]);
            path.map(|path| command.env("PATH", path));
            let output = command.output().unwrap();
            let mut lines: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
            lines.sort_by_key(|line| !line.starts_with(&open_at));
            lines
        };
        assert_eq!(run(None), [format!("{open_at} open"), format!("{closed_at} refused")], "{shell:?}");
        if shell[0] != "busybox" {
            let nothing = tempfile::tempdir().unwrap();
            assert_eq!(run(Some(nothing.path())), [format!("{open_at} unknown"), format!("{closed_at} unknown")]);
        }
    }
}
