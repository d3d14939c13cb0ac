//! The format on its own, and what the real script prints under every shell that is here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use super::*;
use crate::host::scripts;
use crate::host::seen::Facts;

/// Text with everything that could confuse a format of lines and tabs.
fn text(rng: &mut StdRng) -> String {
    const PIECES: &[&str] = &[
        "\t",
        "\n",
        "=",
        " ",
        "end",
        "xgenctl-probe\t1\n",
        "\r",
        "\0",
        "k3s",
        "/",
        "ä한",
        "\u{1f600}",
        "\\",
        "'",
        "\"",
        "$(x)",
        "-",
    ];
    (0..rng.random_range(0..6)).map(|_| PIECES[rng.random_range(0..PIECES.len())]).collect()
}

fn texts(rng: &mut StdRng) -> Vec<String> {
    (0..rng.random_range(0..4)).map(|_| text(rng)).collect()
}

fn address(rng: &mut StdRng) -> IpAddr {
    if rng.random() { Ipv4Addr::from(rng.random::<u32>()).into() } else { Ipv6Addr::from(rng.random::<u128>()).into() }
}

fn host(rng: &mut StdRng) -> HostSeen {
    let facts = Facts {
        hostname: text(rng),
        os_id: text(rng),
        os_version: text(rng),
        os_name: text(rng),
        kernel_name: text(rng),
        kernel: text(rng),
        arch: text(rng),
        machine_id: text(rng),
        systemd: rng.random(),
        root: rng.random(),
        cpus: rng.random(),
        memory_kib: rng.random(),
        swap_kib: rng.random(),
        data_free_kib: rng.random(),
        data_size_kib: rng.random(),
        data_fs: text(rng),
        bin_free_kib: rng.random(),
        cgroup_version: rng.random(),
        cgroup_controllers: texts(rng),
        kernel_modules: rng.random::<bool>().then(|| texts(rng)),
        clock_ms: rng.random(),
        operator_clock_ms: 0,
        addresses: (0..rng.random_range(0..4)).map(|_| address(rng)).collect(),
        default_address: rng.random::<bool>().then(|| address(rng)),
        default_route: rng.random(),
        nameservers: texts(rng),
        resolves_itself: rng.random(),
        listening: (0..rng.random_range(0..4))
            .map(|_| Listening {
                protocol: text(rng),
                address: text(rng),
                port: rng.random(),
                program: rng.random::<bool>().then(|| text(rng)),
            })
            .collect(),
        firewalls: (0..rng.random_range(0..3)).map(|_| Firewall { name: text(rng), allowed: texts(rng) }).collect(),
        other_kubernetes: texts(rng),
        selinux: text(rng),
        k3s_selinux: rng.random(),
    };
    const KINDS: [FileKind; 4] = [FileKind::File, FileKind::Folder, FileKind::Link, FileKind::Other];
    let files = (0..rng.random_range(0..5))
        .map(|_| {
            let mut content = vec![0; rng.random_range(0..200)];
            rng.fill_bytes(&mut content);
            let file = FileSeen {
                kind: KINDS[rng.random_range(0..KINDS.len())],
                mode: rng.random(),
                owner: text(rng),
                group: text(rng),
                size: rng.random(),
                content: rng.random::<bool>().then_some(content),
                target: rng.random::<bool>().then(|| text(rng)),
            };
            (text(rng), file)
        })
        .collect();
    let units = (0..rng.random_range(0..4))
        .map(|_| {
            let unit = UnitSeen {
                active: text(rng),
                sub: text(rng),
                enabled: text(rng),
                main_pid: rng.random(),
                restarts: rng.random(),
                path: text(rng),
                needs_reload: rng.random(),
                restart_pending: rng.random(),
            };
            (text(rng), unit)
        })
        .collect();
    let versions = (0..rng.random_range(0..3)).map(|_| (text(rng), text(rng))).collect();
    HostSeen { facts, files, units, versions }
}

/// `XGENCTL_TEST_SEED`, else the same one every time.
fn seed() -> u64 {
    let seed = std::env::var("XGENCTL_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_260_801);
    eprintln!("seed {seed}");
    seed
}

#[test]
fn what_is_rendered_is_parsed_back_the_same() {
    let mut rng = StdRng::seed_from_u64(seed());
    for round in 0..3000 {
        let seen = host(&mut rng);
        let wire = render(&seen);
        assert_eq!(parse(&wire).as_ref(), Ok(&seen), "round {round}:\n{}", String::from_utf8_lossy(&wire));
    }
}

#[test]
fn an_answer_that_is_cut_anywhere_is_an_error() {
    let mut rng = StdRng::seed_from_u64(seed());
    for round in 0..5 {
        let wire = render(&host(&mut rng));
        // Without its last line break the answer is still whole.
        for length in 0..wire.len() - 1 {
            assert!(parse(&wire[..length]).is_err(), "round {round}: {length} of {} bytes pass for all", wire.len());
        }
    }
}

#[test]
fn no_garbage_makes_the_parser_panic() {
    let mut rng = StdRng::seed_from_u64(seed());
    let keys = ["path", "content", "unit", "module", "allow", "listen", "version", "cpus", "address", "error", "", "="];
    let mut errors = 0;
    for _ in 0..5000 {
        let mut wire = render(&host(&mut rng));
        for _ in 0..rng.random_range(1..8) {
            let at = rng.random_range(0..wire.len());
            match rng.random_range(0..4) {
                0 => wire[at] = rng.random(),
                1 => drop(wire.remove(at)),
                2 => wire.insert(at, [b'\t', b'\n', b'=', 0xff][rng.random_range(0..4)]),
                _ => {
                    let line = format!("\n{}\t{}\n", keys[rng.random_range(0..keys.len())], text(&mut rng));
                    wire.splice(at..at, line.into_bytes());
                }
            }
        }
        errors += u32::from(parse(&wire).is_err());
        let mut noise = b"xgenctl-probe\t1\n".to_vec();
        noise.resize(200, 0);
        rng.fill_bytes(&mut noise[16..]);
        let _ = parse(&noise);
        let _ = parse(&noise[16..]);
    }
    assert!(errors > 2000, "only {errors} of 5000 damaged answers were noticed");
}

#[test]
fn every_mistake_names_its_line() {
    let cases = [
        ("", "the probe printed no `xgenctl-probe 1` line"),
        ("xgenctl-probe\t2\nend\n", "the probe printed no `xgenctl-probe 1` line"),
        ("xgenctl-probe\t1\nhostname\ta\n", "the probe's answer is cut short: its last line is missing"),
        ("hi\nxgenctl-probe\t1\nspeed\t1\nend", "line 3 of the probe's answer: `speed`: an unknown key"),
        (
            "xgenctl-probe\t1\ncpus\tmany\nend",
            "line 2 of the probe's answer: `cpus`: `many`: invalid digit found in string",
        ),
        ("xgenctl-probe\t1\ncpus\nend", "line 2 of the probe's answer: `cpus`: a field is missing"),
        ("xgenctl-probe\t1\ncpus\t1\t2\nend", "line 2 of the probe's answer: `cpus`: 1 fields too many"),
        ("xgenctl-probe\t1\nroot\tyes\nend", "line 2 of the probe's answer: `root`: `yes` is neither 0 nor 1"),
        (
            "xgenctl-probe\t1\nhostname\t=a\nend",
            "line 2 of the probe's answer: a field is no base64: Invalid input length: 1",
        ),
        ("xgenctl-probe\t1\nallow\tx\nend", "line 2 of the probe's answer: `allow`: it comes before any `firewall`"),
        ("xgenctl-probe\t1\npath\t/a\tdoor\nend", "line 2 of the probe's answer: `path`: `door` is no kind of file"),
        (
            "xgenctl-probe\t1\npath\t/a\tfile\t8\nend",
            "line 2 of the probe's answer: `path`: mode `8`: invalid digit found in string",
        ),
        (
            "xgenctl-probe\t1\ncontent\t/a\t\nend",
            "line 2 of the probe's answer: `content`: it comes before the `path` it belongs to",
        ),
        ("xgenctl-probe\t1\nerror\t/a cannot be read\nend", "/a cannot be read"),
    ];
    for (wire, expected) in cases {
        assert_eq!(parse(wire.as_bytes()).unwrap_err(), expected);
    }
}

#[test]
fn what_a_login_shell_prints_around_it_does_no_harm() {
    let wire = b"Welcome!\n\xff\nxgenctl-probe\t1\nhostname\tone\nend\nlogout\n";
    assert_eq!(parse(wire).unwrap().facts.hostname, "one");
}

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
