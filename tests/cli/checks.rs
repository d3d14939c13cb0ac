//! `check`, and the checks before a run.

use super::site::Site;

fn weak() -> Site {
    let site = Site::three();
    site.tamper("one", |host| host["facts"]["memory_kib"] = 262_144.into());
    site.tamper("master", |host| host["facts"]["cgroup_version"] = 1.into());
    site
}

const BLOCKS: &str = "\
✘ block    master     cgroup-v2           cgroup version 1, but K3s v1.36.5+k3s1 wants version 2
    fix: add `systemd.unified_cgroup_hierarchy=1` to GRUB_CMDLINE_LINUX in /etc/default/grub, then `update-grub && reboot`; or choose a `k3s.version` of 1.34, the last one that takes version 1
✘ block    one        memory              256 MiB of memory
    fix: K3s does not start with less than 512 MiB: give a server at least 2 GiB, an agent 1 GiB
68 passed, 2 blocking
";

#[test]
fn healthy_servers_pass() {
    let site = Site::three();
    let output = site.rehearse("check").ok().complains("");
    assert!(output.stdout.ends_with("\n70 passed\n"), "{}", output.stdout);
    assert!(output.stdout.lines().rev().skip(1).all(|line| line.starts_with("✔ pass     ")), "{}", output.stdout);
}

#[test]
fn what_blocks_stands_last_with_its_fix_and_exits_with_3() {
    let site = weak();
    let output = site.rehearse("check").ends_with_code(3).complains("");
    assert!(output.stdout.ends_with(BLOCKS), "{}", output.stdout);

    let json = site.rehearse("check -o json").ends_with_code(3).complains("").value();
    let counts = ["passed", "skipped", "warnings", "blocks"].map(|key| json[key].as_u64().unwrap());
    assert_eq!((json["ok"].as_bool(), counts), (Some(false), [68, 0, 0, 2]));
    let checks = json["checks"].as_array().unwrap();
    let blocking: Vec<_> = checks
        .iter()
        .filter(|c| c["level"] == "block")
        .map(|c| (c["host"].as_str().unwrap(), c["check"].as_str().unwrap()))
        .collect();
    assert_eq!(blocking, [("master", "cgroup-v2"), ("one", "memory")]);
}

#[test]
fn a_run_does_not_start_and_touches_nothing_where_a_check_blocks() {
    let site = weak();
    let before = site.still_state();
    let output = site.rehearse("setup all").ends_with_code(3).complains("");
    assert!(output.stdout.contains("\n✘ preflight  blocked    68 passed, 2 blocking"), "{}", output.stdout);
    assert!(output.stdout.contains("\nBlocked: 0 changed, 0 as wanted ("), "{}", output.stdout);
    assert_eq!(site.still_state(), before);
    // A dry run shows the plan all the same, and says by its code that it could not be carried out.
    let dry = site.rehearse("setup all --dry-run --exit-code").ends_with_code(3);
    assert!(dry.stdout.contains("k3s: 10 actions, 0 as wanted\n"), "{}", dry.stdout);
    assert_eq!(site.still_state(), before);
}

#[test]
fn a_check_can_be_left_out_by_its_name() {
    let site = weak();
    let one = site.rehearse("check --skip-check memory").ends_with_code(3);
    assert!(one.stdout.ends_with("68 passed, 1 skipped, 1 blocking\n"), "{}", one.stdout);
    let both = "--skip-check memory --skip-check cgroup-v2";
    let output = site.rehearse(&format!("check {both}")).ok();
    assert!(output.stdout.ends_with("68 passed, 2 skipped\n"), "{}", output.stdout);
    let run = site.rehearse(&format!("setup all {both}")).ok();
    assert!(run.stdout.contains("✔ preflight  unchanged  68 passed, 2 skipped  "), "{}", run.stdout);
}

#[test]
fn an_unknown_check_is_told_with_the_nearest_one() {
    const ALL: &str = "(there are root, os, architecture, systemd, cpu, memory, disk, binary-space, data-filesystem, \
                       cgroup-controllers, cgroup-v2, kernel-modules, swap, selinux, other-kubernetes, hostname, \
                       default-route, name-resolution, cluster-networks, ports, firewall, clock, unique-hostname, \
                       machine-id, reachable, download)";
    let site = Site::three();
    for command in ["check", "setup all", "node add one"] {
        let output = site.rehearse(&format!("{command} --skip-check memry")).ends_with_code(2);
        output.complains(&format!("error: there is no check `memry`; did you mean `memory`? {ALL}\n"));
    }
    let output = site.rehearse("check --skip-check everything").ends_with_code(2);
    output.complains(&format!("error: there is no check `everything` {ALL}\n"));
}

#[test]
fn an_architecture_without_a_release_blocks_and_is_never_half_installed() {
    let site = Site::three();
    site.tamper("one", |host| host["facts"]["arch"] = "riscv64".into());
    let output = site.rehearse("setup all").ends_with_code(3);
    assert!(
        output.stdout.contains(
            "
  ✘ block    one  architecture  the processor is riscv64
      fix: K3s is released for x86_64, aarch64 and armv7l: use a server of one of these
"
        ),
        "{}",
        output.stdout
    );
    let output = site.rehearse("setup all --skip-check architecture").ends_with_code(1);
    let told = "
  one: K3s has no release for the architecture `riscv64`; it runs on x86_64, aarch64 and armv7l
";
    assert!(output.stdout.contains(told), "{}", output.stdout);
    for host in ["one", "two"] {
        assert_eq!(site.file_on(host, "/usr/local/bin/k3s"), None);
    }
}
