//! The format on its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use super::*;
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
    std::env::var("XGENCTL_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_260_801)
}

#[test]
fn what_is_rendered_is_parsed_back_the_same() {
    let mut rng = StdRng::seed_from_u64(seed());
    for round in 0..1000 {
        let seen = host(&mut rng);
        let wire = render(&seen);
        assert_eq!(
            parse(&wire).as_ref(),
            Ok(&seen),
            "seed {}, round {round}:\n{}",
            seed(),
            String::from_utf8_lossy(&wire)
        );
    }
}

#[test]
fn an_answer_that_is_cut_anywhere_is_an_error() {
    let mut rng = StdRng::seed_from_u64(seed());
    for round in 0..5 {
        let wire = render(&host(&mut rng));
        // Without its last line break the answer is still whole.
        for length in 0..wire.len() - 1 {
            assert!(
                parse(&wire[..length]).is_err(),
                "seed {}, round {round}: {length} of {} bytes pass for all",
                seed(),
                wire.len()
            );
        }
    }
}

/// Reads it; a panic fails the test with the seed.
fn survives(wire: &[u8], round: u32) -> Result<HostSeen, String> {
    std::panic::catch_unwind(|| parse(wire)).unwrap_or_else(|_| panic!("seed {}, round {round}: {wire:?}", seed()))
}

#[test]
fn no_garbage_makes_the_parser_panic() {
    let mut rng = StdRng::seed_from_u64(seed());
    let keys = ["path", "content", "unit", "module", "allow", "listen", "version", "cpus", "address", "error", "", "="];
    let mut errors = 0;
    for round in 0..2000 {
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
        errors += u32::from(survives(&wire, round).is_err());
        let mut noise = b"xgenctl-probe\t1\n".to_vec();
        noise.resize(200, 0);
        rng.fill_bytes(&mut noise[16..]);
        let _ = survives(&noise, round);
        let _ = survives(&noise[16..], round);
    }
    assert!(errors > 1000, "seed {}: only {errors} of 2000 damaged answers were noticed", seed());
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
