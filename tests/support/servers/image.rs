//! The image of the servers: Debian from Debian's own packages, made once and kept by the hash of what it is made from.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use sha2::{Digest as _, Sha256};

use super::docker;

/// The user of the servers that is not root, and the password that sudo asks for.
pub const USER: &str = "ops";
/// Its password.
pub const USER_PASSWORD: &str = "correct horse battery";

/// What a fresh server has beside Debian's minimum. No curl, no wget, no Python: xgenctl must not need them.
const PACKAGES: &[&str] =
    &["systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "iproute2", "iptables", "kmod", "procps", "udev"];

/// Makes a container's own control groups writable, which Docker mounts read-only, then becomes systemd.
const INIT: &str = r#"#!/bin/sh
for path in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -L "$path" ] || [ ! -d "$path" ] || mount -o remount,rw,bind "$path" 2>/dev/null
done
exec /lib/systemd/systemd "$@"
"#;

/// Every server has its own host key: made at its first start.
const HOST_KEY_UNIT: &str = "[Unit]
Description=Create the SSH host key
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
[Install]
WantedBy=multi-user.target
";

/// Units that have no sense in a container, and timers that would change files while a test compares them.
const MASKED: &[&str] = &[
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
    "systemd-modules-load.service",
    "systemd-resolved.service",
    "systemd-networkd-wait-online.service",
    "systemd-tmpfiles-clean.timer",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dev-hugepages.mount",
    "getty.target",
    "console-getty.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
];

/// The name of the image for servers with some more packages; makes it where this machine does not have it yet.
pub fn ensure(more_packages: &[&str]) -> String {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _in_this_process = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());

    let mut packages = [PACKAGES, more_packages].concat();
    packages.sort_unstable();
    let suite = suite();
    let key = key(&suite, &packages);
    let image = format!("xgenctl-e2e:{key}");
    if docker::try_run(["image", "inspect", "--format={{.Id}}", &image]).is_ok() {
        return image;
    }

    let cache = cache();
    fs::create_dir_all(&cache).unwrap_or_else(|e| panic!("{}: {e}", cache.display()));
    let lock = File::create(cache.join("lock")).expect("a lock file in the cache");
    lock.lock().expect("the lock of the cache");
    let archive = cache.join(format!("debian-{key}.tar"));
    if !archive.exists() {
        eprintln!("making a Debian {suite} system for the servers, about a minute, kept as {}", archive.display());
        make_archive(&suite, &packages, &archive);
    }
    docker::run([
        "import",
        "--change=ENV container=docker",
        "--change=CMD [\"/usr/local/sbin/init\"]",
        archive.to_str().expect("a path in UTF-8"),
        &image,
    ]);
    image
}

/// The suite of this machine where it is Debian, so that programs built here run there; else the stable one.
fn suite() -> String {
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| os.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    match (field("ID"), field("VERSION_CODENAME")) {
        (Some("debian"), Some(codename)) => codename.trim_matches('"').to_owned(),
        _ => "stable".to_owned(),
    }
}

fn cache() -> PathBuf {
    std::env::var_os("XGENCTL_E2E_CACHE").map_or_else(|| PathBuf::from("/var/cache/xgenctl-e2e"), PathBuf::from)
}

fn key(suite: &str, packages: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in [&[suite, INIT, HOST_KEY_UNIT, USER, USER_PASSWORD, "1"], packages, MASKED].concat() {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize()[..6].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn make_archive(suite: &str, packages: &[&str], archive: &Path) {
    let root = archive.with_file_name("root");
    let _ = fs::remove_dir_all(&root);
    let at = |path: &str| root.join(path);
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={}", packages.join(","))]).arg(suite).arg(&root);
    must(&mut debootstrap);

    fs::write(at("usr/local/sbin/init"), INIT).expect("init");
    fs::set_permissions(at("usr/local/sbin/init"), fs::Permissions::from_mode(0o755)).expect("mode of init");
    fs::write(at("etc/systemd/system/host-key.service"), HOST_KEY_UNIT).expect("the unit of the host key");
    let wants = at("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).expect("the folder of enabled units");
    std::os::unix::fs::symlink("../host-key.service", wants.join("host-key.service")).expect("an enabled unit");
    for unit in MASKED {
        let path = at("etc/systemd/system").join(unit);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/null", path).expect("a masked unit");
    }
    for entry in fs::read_dir(at("etc/ssh")).expect("/etc/ssh") {
        let path = entry.expect("an entry of /etc/ssh").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_")) {
            fs::remove_file(path).expect("the image's host key removed");
        }
    }
    // Docker gives hostname and hosts; an empty machine-id is made anew at the first start of each server.
    fs::write(at("etc/machine-id"), "").expect("machine-id");
    let _ = fs::remove_dir_all(at("var/cache/apt/archives"));
    let in_root = |args: &[&str]| must(Command::new("chroot").arg(&root).args(args));
    in_root(&["useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo", USER]);
    in_root(&["sh", "-c", &format!("echo '{USER}:{USER_PASSWORD}' | chpasswd")]);

    // Under its final name only when it is whole: an interrupted run must not leave half a system behind.
    let part = archive.with_extension("part");
    must(Command::new("tar").arg("-C").arg(&root).args(["--numeric-owner", "-cf"]).arg(&part).arg("."));
    fs::rename(&part, archive).expect("the finished archive");
    fs::remove_dir_all(&root).expect("the unpacked system removed");
}

fn must(command: &mut Command) {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|e| panic!("{shown}: {e}"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let tail = text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
    assert!(output.status.success(), "{shown}: {}\n{tail}", output.status);
}
