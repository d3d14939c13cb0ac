//! Is the server the one it claims to be?

use std::fs;
use std::os::unix::fs::PermissionsExt;

use xgenctl::host::ssh::Question;
use xgenctl::host::{Host, HostError};

use super::fixture::{Operator, Sshd, real, sh};
use super::login::answers;

async fn connect(operator: &Operator, sshd: &Sshd) -> Result<Host, HostError> {
    operator.connect(&operator.access(sshd)).await
}

/// The key a server shows, as messages show it.
fn shown(sshd: &Sshd, kind: &str, name: &str) -> String {
    let line = sh("ssh-keygen", &["-lf", sshd.file(&format!("host_{kind}.pub")).to_str().unwrap()]);
    format!("{name} {}", line.split_whitespace().nth(1).unwrap())
}

fn known_hosts(operator: &Operator) -> String {
    fs::read_to_string(operator.file(".ssh/known_hosts")).unwrap_or_default()
}

#[tokio::test]
async fn an_unknown_key_is_refused_without_a_terminal() {
    if !real("an_unknown_key_is_refused_without_a_terminal") {
        return;
    }
    let mut operator = Operator::new();
    let sshd = Sshd::start(&operator, "");
    let error = connect(&operator, &sshd).await.err().unwrap();
    let key = shown(&sshd, "ed25519", "ssh-ed25519");
    assert_eq!(error.to_string(), format!("box: its host key is not known: {} shows {key}", sshd.name()));
    let hint = error.hint().unwrap();
    assert!(hint.contains("--accept-new-host-keys") && hint.contains(&format!("ssh -p {}", sshd.port)), "{hint}");
    let asked = answers(&mut operator, "no");
    connect(&operator, &sshd).await.err().unwrap();
    assert_eq!(known_hosts(&operator), "");
    let text = format!("box: its host key is not known: {} shows {key}\nConnect and remember this key", sshd.name());
    assert_eq!(*asked.lock().unwrap(), [Question::Confirm(text)]);
}

#[tokio::test]
async fn a_key_that_is_accepted_is_remembered() {
    if !real("a_key_that_is_accepted_is_remembered") {
        return;
    }
    for hashed in [false, true] {
        let mut operator = Operator::new();
        operator.write(".ssh/config", if hashed { "HashKnownHosts yes\n" } else { "" });
        let sshd = Sshd::start(&operator, "");
        let asked = answers(&mut operator, "yes");
        // Several connections to one new host at the same time ask once.
        let (one, two) = tokio::join!(connect(&operator, &sshd), connect(&operator, &sshd));
        one.unwrap();
        two.unwrap();
        assert_eq!(asked.lock().unwrap().len(), 1);
        let text = known_hosts(&operator);
        assert_eq!((text.lines().count(), text.starts_with("|1|")), (1, hashed), "{text}");
        // OpenSSH finds what was remembered.
        let file = operator.file(".ssh/known_hosts");
        let found = sh("ssh-keygen", &["-F", &sshd.name(), "-f", file.to_str().unwrap()]);
        assert!(found.contains(&sshd.host_key("ed25519")), "{found}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        operator.options.ask = None;
        connect(&operator, &sshd).await.unwrap();
    }
}

#[tokio::test]
async fn new_keys_are_accepted_where_that_is_wanted_and_changed_ones_never() {
    if !real("new_keys_are_accepted_where_that_is_wanted_and_changed_ones_never") {
        return;
    }
    let mut operator = Operator::new();
    let sshd = Sshd::start(&operator, "");
    operator.options.accept_new_host_keys = true;
    connect(&operator, &sshd).await.unwrap();
    assert_eq!(known_hosts(&operator), format!("{} {}\n", sshd.name(), sshd.host_key("ed25519")));
    assert!(operator.warnings.lock().unwrap().join("\n").contains("remembered the host key of"));
    let other = Sshd::start(&operator, "");
    operator.write(".ssh/known_hosts", &format!("# one line\n{} {}\n", sshd.name(), other.host_key("ed25519")));
    let asked = answers(&mut operator, "yes");
    let error = connect(&operator, &sshd).await.err().unwrap();
    let file = operator.file(".ssh/known_hosts");
    let expected = format!(
        "box: its host key changed: {} shows {}, but {}:2 has {}",
        sshd.name(),
        shown(&sshd, "ed25519", "ssh-ed25519"),
        file.display(),
        shown(&other, "ed25519", "ssh-ed25519"),
    );
    assert_eq!(error.to_string(), expected);
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("ssh-keygen -R '{}' -f '{}'", sshd.name(), file.display())), "{hint}");
    assert!(!error.is_transient() && asked.lock().unwrap().is_empty());
    // The command in the hint does what it says.
    sh("ssh-keygen", &["-R", &sshd.name(), "-f", file.to_str().unwrap()]);
    connect(&operator, &sshd).await.unwrap();
}

#[tokio::test]
async fn strict_checking_of_the_config_is_followed() {
    if !real("strict_checking_of_the_config_is_followed") {
        return;
    }
    let mut operator = Operator::new();
    let sshd = Sshd::start(&operator, "");
    let asked = answers(&mut operator, "yes");
    operator.write(".ssh/config", "StrictHostKeyChecking yes\n");
    assert!(matches!(connect(&operator, &sshd).await.err().unwrap(), HostError::HostKey { .. }));
    operator.write(".ssh/config", "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n");
    connect(&operator, &sshd).await.unwrap();
    assert!(asked.lock().unwrap().is_empty());
    assert_eq!(known_hosts(&operator), "");
}

#[tokio::test]
async fn hashed_names_ports_and_the_systems_file_are_known() {
    if !real("hashed_names_ports_and_the_systems_file_are_known") {
        return;
    }
    let operator = Operator::new();
    let sshd = Sshd::start(&operator, "");
    operator.knows(&sshd);
    let file = operator.file(".ssh/known_hosts");
    sh("ssh-keygen", &["-H", "-f", file.to_str().unwrap()]);
    assert!(known_hosts(&operator).starts_with("|1|"));
    connect(&operator, &sshd).await.unwrap();
    fs::remove_file(&file).unwrap();
    fs::create_dir(operator.file("etc")).unwrap();
    operator.write("etc/ssh_known_hosts", &format!("[127.0.0.*]:* {}\n", sshd.host_key("ed25519")));
    connect(&operator, &sshd).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_is_refused_even_if_it_is_known() {
    if !real("a_revoked_key_is_refused_even_if_it_is_known") {
        return;
    }
    let mut operator = Operator::new();
    operator.options.accept_new_host_keys = true;
    let sshd = Sshd::start(&operator, "");
    operator.knows(&sshd);
    let text = known_hosts(&operator);
    operator.write(".ssh/known_hosts", &format!("{text}@revoked * {}\n", sshd.host_key("ed25519")));
    let error = connect(&operator, &sshd).await.err().unwrap().to_string();
    assert!(error.contains("is revoked in ") && error.ends_with("known_hosts:2"), "{error}");
}

#[tokio::test]
async fn the_type_that_is_known_is_the_one_that_is_checked() {
    if !real("the_type_that_is_known_is_the_one_that_is_checked") {
        return;
    }
    let mut operator = Operator::new();
    let sshd = Sshd::with_keys(&operator, "", &["ed25519", "ecdsa", "rsa"]);
    for kind in ["rsa", "ecdsa", "ed25519"] {
        operator.write(".ssh/known_hosts", &format!("{} {}\n", sshd.name(), sshd.host_key(kind)));
        connect(&operator, &sshd).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
    }
    // A host that is known by a type it does not have any more is not new.
    let plain = Sshd::start(&operator, "");
    operator.options.accept_new_host_keys = true;
    operator.write(".ssh/known_hosts", &format!("{} {}\n", plain.name(), sshd.host_key("rsa")));
    let error = connect(&operator, &plain).await.err().unwrap().to_string();
    assert!(error.contains("its host key is new") && error.contains("has ssh-rsa SHA256:"), "{error}");
    // An authority alone does not help, and is named.
    operator.options.accept_new_host_keys = false;
    let authority = format!("@cert-authority * {}\n", sshd.host_key("ed25519"));
    operator.write(".ssh/known_hosts", &authority);
    let error = connect(&operator, &plain).await.err().unwrap().to_string();
    assert!(error.contains("known_hosts:1 is not used, as host certificates are not supported"), "{error}");
}
