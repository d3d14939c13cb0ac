//! The servers themselves: what the other tests take for granted.

use std::process::Command;

use crate::XGENCTL;
use crate::servers::docker;
use crate::servers::lab::{Lab, MirrorFor};
use crate::servers::wanted;

#[test]
fn a_fresh_server_is_bare_and_lets_the_operator_in_by_a_verified_key() {
    if !wanted("fresh") {
        return;
    }
    let lab = Lab::new(XGENCTL, &["one"], MirrorFor::Operator);
    let server = lab.server("one");

    for program in ["curl", "wget", "python3", "k3s"] {
        assert!(!server.test(&format!("command -v {program}")), "{program} is there");
    }
    let ssh = |options: &[&str], known: &str, command: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-i"])
            .arg(lab.operator.home().join(".ssh/id_ed25519"))
            .arg("-o")
            .arg(format!("UserKnownHostsFile={known}"))
            .args(options)
            .args([&server.ip, command]);
        docker::output(ssh, &[]).expect("ssh")
    };
    let known = lab.operator.home().join(".ssh/known_hosts");
    let known = known.to_str().expect("a path in UTF-8");
    for user in ["root", "ops"] {
        let output = ssh(&["-l", user], known, "whoami");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), user, "{output:?}");
    }
    let stranger = ssh(&["-l", "root"], "/dev/null", "whoami");
    assert_eq!(stranger.status.code(), Some(255), "an unknown host key must not pass: {stranger:?}");
    let without_password = ssh(&["-l", "ops"], known, "sudo -n true");
    assert_ne!(without_password.status.code(), Some(0), "sudo asks for a password: {without_password:?}");
}

#[test]
fn nothing_on_an_idle_server_changes() {
    if !wanted("idle") {
        return;
    }
    let lab = Lab::new(XGENCTL, &["idle"], MirrorFor::Operator);
    let server = lab.server("idle");
    let before = server.tree();
    assert!(before.len() > 1000, "{} paths seen", before.len());
    assert_eq!(before, server.tree());

    server.sh("touch /etc/new; chmod 600 /etc/hostname");
    let after = server.tree();
    assert_ne!(before.get("/etc/new"), after.get("/etc/new"));
}
