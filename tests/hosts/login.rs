//! Ways to log in and ways to get there.

use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use xgenctl::host::ssh::Question;
use xgenctl::host::{Command, HostError};
use xgenctl::project::SshAccess;
use xgenctl::secret::Secret;

use super::fixture::{Operator, Sshd, make_key, me, real};

/// Answers every question with the same words and notes it.
pub fn answers(operator: &mut Operator, answer: &'static str) -> Arc<Mutex<Vec<Question>>> {
    let asked = Arc::<Mutex<Vec<Question>>>::default();
    let noted = asked.clone();
    operator.options.ask = Some(Arc::new(move |question| {
        noted.lock().unwrap().push(question);
        futures::future::ready(Some(Secret::new(answer))).boxed()
    }));
    asked
}

async fn whoami(operator: &Operator, access: &SshAccess) -> Result<String, HostError> {
    let host = operator.connect(access).await?;
    Ok(host.run(&Command::new(["id", "-un"])).await?.trim().to_owned())
}

#[tokio::test]
async fn a_key_with_a_passphrase() {
    if !real("a_key_with_a_passphrase") {
        return;
    }
    let operator = Operator::new();
    make_key(&operator.file("locked"), "ed25519", "open sesame");
    std::fs::copy(operator.file("locked.pub"), operator.file("id.pub")).unwrap();
    let sshd = Sshd::start(&operator, "");
    operator.knows(&sshd);
    let mut access = SshAccess { key: Some("~/locked".into()), ..sshd.access() };
    let error = whoami(&operator, &access).await.unwrap_err().to_string();
    let path = operator.file("locked");
    let expected = format!(
        "box: login failed: {}@127.0.0.1:{}: tried the key {} (it needs a passphrase)",
        me(),
        sshd.port,
        path.display()
    );
    assert!(error.starts_with(&expected), "{error}");
    access.passphrase = Some(Secret::new("wrong one"));
    let error = whoami(&operator, &access).await.unwrap_err().to_string();
    assert_eq!(error, format!("box: login failed: the passphrase of the key {} is wrong", path.display()));
    access.passphrase = Some(Secret::new("open sesame"));
    assert_eq!(whoami(&operator, &access).await.unwrap(), me());
    // Asked for at a terminal, once for all servers of a run.
    let mut other = Operator::new();
    make_key(&other.file("locked"), "ed25519", "open sesame");
    std::fs::copy(other.file("locked.pub"), other.file("id.pub")).unwrap();
    let asked = answers(&mut other, "open sesame");
    let sshd = Sshd::start(&other, "");
    other.knows(&sshd);
    let access = SshAccess { key: Some("~/locked".into()), ..sshd.access() };
    let (one, two) = tokio::join!(whoami(&other, &access), whoami(&other, &access));
    assert_eq!((one.unwrap(), two.unwrap()), (me(), me()));
    let question = format!("box: passphrase of the key {}", other.file("locked").display());
    assert_eq!(*asked.lock().unwrap(), [Question::Hidden(question)]);
}

/// An ssh-agent that ends with the test.
struct Agent {
    child: Child,
    socket: std::path::PathBuf,
}

impl Agent {
    fn start(operator: &Operator) -> Self {
        let socket = operator.file("agent.sock");
        let child = std::process::Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !socket.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self { child, socket }
    }

    fn add(&self, key: &std::path::Path) {
        let done = std::process::Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.socket)
            .status()
            .unwrap();
        assert!(done.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_agent_has_the_key() {
    if !real("the_agent_has_the_key") {
        return;
    }
    let mut operator = Operator::new();
    let agent = Agent::start(&operator);
    make_key(&operator.file("other"), "ed25519", "");
    agent.add(&operator.file("other"));
    agent.add(&operator.file("id"));
    operator.options.agent = Some(agent.socket.clone());
    let sshd = Sshd::start(&operator, "");
    operator.knows(&sshd);
    assert_eq!(whoami(&operator, &sshd.access()).await.unwrap(), me());
    let failed = |log: String| log.lines().filter(|l| l.contains("Failed publickey")).count();
    let first = failed(sshd.log());
    // With the public half alone named in the config, that key goes first and is the only one.
    std::fs::rename(operator.file("id.pub"), operator.file("named.pub")).unwrap();
    operator.write(".ssh/config", "Host *\n IdentityFile ~/named.pub\n IdentitiesOnly yes\n");
    assert_eq!(whoami(&operator, &sshd.access()).await.unwrap(), me());
    assert_eq!(failed(sshd.log()), first, "another key was offered");
    operator.write(".ssh/config", "Host *\n IdentityFile ~/no-such-key\n IdentitiesOnly yes\n");
    let error = whoami(&operator, &sshd.access()).await.unwrap_err().to_string();
    assert!(error.contains("no-such-key (the file does not exist)"), "{error}");
}

#[tokio::test]
async fn default_keys_of_every_type_log_in() {
    if !real("default_keys_of_every_type_log_in") {
        return;
    }
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let operator = Operator::new();
        let key = operator.file(&format!(".ssh/id_{kind}"));
        make_key(&key, kind, "");
        std::fs::copy(key.with_extension("pub"), operator.file("id.pub")).unwrap();
        let sshd = Sshd::start(&operator, "");
        operator.knows(&sshd);
        assert_eq!(whoami(&operator, &sshd.access()).await.unwrap(), me(), "{kind}");
        if kind == "rsa" {
            assert!(sshd.log().contains("rsa-sha2-512"), "RSA keys sign with SHA-2");
        }
    }
}

#[tokio::test]
async fn a_wrong_key_and_a_readable_key_are_told() {
    if !real("a_wrong_key_and_a_readable_key_are_told") {
        return;
    }
    let operator = Operator::new();
    let sshd = Sshd::start(&operator, "");
    operator.knows(&sshd);
    make_key(&operator.file("wrong"), "ed25519", "");
    let access = SshAccess { key: Some("~/wrong".into()), ..sshd.access() };
    let error = whoami(&operator, &access).await.unwrap_err();
    let expected = format!(
        "box: login failed: {}@127.0.0.1:{}: tried the key {} (refused); the server takes publickey",
        me(),
        sshd.port,
        operator.file("wrong").display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("ssh.key"));
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(operator.file("id"), open).unwrap();
    assert_eq!(whoami(&operator, &operator.access(&sshd)).await.unwrap(), me());
    let warnings = operator.warnings.lock().unwrap().join("\n");
    assert!(warnings.contains("has the mode 0644: others can read it"), "{warnings}");
}

#[tokio::test]
async fn too_many_keys_are_told() {
    if !real("too_many_keys_are_told") {
        return;
    }
    let mut operator = Operator::new();
    let agent = Agent::start(&operator);
    for i in 0..4 {
        make_key(&operator.file(&format!("k{i}")), "ed25519", "");
        agent.add(&operator.file(&format!("k{i}")));
    }
    operator.options.agent = Some(agent.socket.clone());
    let sshd = Sshd::start(&operator, "MaxAuthTries 2");
    operator.knows(&sshd);
    let error = whoami(&operator, &sshd.access()).await.unwrap_err();
    assert!(matches!(error, HostError::Login { .. }), "{error:?}");
    assert!(error.to_string().contains("Too many authentication failures"), "{error}");
    assert!(error.to_string().contains("IdentitiesOnly yes"), "{error}");
}

#[tokio::test]
async fn an_alias_of_the_config() {
    if !real("an_alias_of_the_config") {
        return;
    }
    let operator = Operator::new();
    let sshd = Sshd::start(&operator, "");
    operator.write("kh", &format!("my-box {}\n", sshd.host_key("ed25519")));
    let config = format!(
        "Include more\nHost web\n  HostName 127.0.0.1\n  Port {}\n  IdentityFile ~/id\n  HostKeyAlias my-box\nMatch all\n  \
         User nobody-at-all\n",
        sshd.port
    );
    operator.write(".ssh/config", &config);
    operator.write(".ssh/more", &format!("Host web\n  User {}\n  UserKnownHostsFile ~/kh\n", me()));
    let access = SshAccess { host: "web".into(), ..SshAccess::default() };
    assert_eq!(whoami(&operator, &access).await.unwrap(), me());
}

#[tokio::test]
async fn jump_hosts_and_chains_of_them() {
    if !real("jump_hosts_and_chains_of_them") {
        return;
    }
    let operator = Operator::new();
    let (first, second, target) = (Sshd::start(&operator, ""), Sshd::start(&operator, ""), Sshd::start(&operator, ""));
    operator.knows(&first);
    operator.knows(&target);
    let mut access = operator.access(&target);
    access.jump = Some(format!("127.0.0.1:{}", first.port));
    assert_eq!(whoami(&operator, &access).await.unwrap(), me());
    assert_eq!((first.connections(), target.connections()), (1, 1));
    // A jump host is verified as any other host is.
    access.jump = Some(format!("gate,{}@127.0.0.1:{}", me(), second.port));
    operator.write(".ssh/config", &format!("Host gate\n HostName 127.0.0.1\n Port {}\n", first.port));
    let error = whoami(&operator, &access).await.unwrap_err();
    assert!(matches!(&error, HostError::HostKey { host, .. } if host == "box (jump host 127.0.0.1)"), "{error:?}");
    operator.knows(&second);
    assert_eq!(whoami(&operator, &access).await.unwrap(), me());
    assert_eq!((first.connections(), second.connections(), target.connections()), (3, 2, 2));
    // The same from ~/.ssh/config, and a loop in it.
    let config =
        format!("Host gate\n HostName 127.0.0.1\n Port {}\nHost a\n ProxyJump b\nHost b\n ProxyJump a\n", first.port);
    operator.write(".ssh/config", &format!("{config}Host 127.0.0.1\n ProxyJump gate\nHost gate\n ProxyJump none\n"));
    access.jump = None;
    assert_eq!(whoami(&operator, &access).await.unwrap(), me());
    let error = whoami(&operator, &SshAccess { host: "a".into(), ..SshAccess::default() }).await.unwrap_err();
    assert!(error.to_string().contains("do they lead to each other?"), "{error}");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_says_why() {
    if !real("a_host_that_cannot_be_reached_says_why") {
        return;
    }
    let mut operator = Operator::new();
    operator.options.connect_timeout = Some(std::time::Duration::from_secs(2));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut access = SshAccess { host: "127.0.0.1".into(), port: Some(port), ..SshAccess::default() };
    let silent = whoami(&operator, &access).await.unwrap_err().to_string();
    assert_eq!(silent, format!("box: 127.0.0.1:{port} does not speak SSH, or not within 2 s"));
    let hello = std::thread::spawn(move || {
        use std::io::Write;
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let web = whoami(&operator, &access).await.unwrap_err().to_string();
    assert!(web.starts_with(&format!("box: 127.0.0.1:{port} does not speak SSH, or closed")), "{web}");
    // The first accepted was the silent one.
    let _ = std::net::TcpStream::connect(("127.0.0.1", port));
    hello.join().unwrap();
    let refused = whoami(&operator, &access).await.unwrap_err();
    let expected = format!("box: 127.0.0.1:{port}: the connection is refused: nothing listens on that port");
    assert_eq!(refused.to_string(), expected);
    assert!(refused.is_transient());
    access.host = "no-such-host.invalid".into();
    let unknown = whoami(&operator, &access).await.unwrap_err().to_string();
    assert!(unknown.starts_with("box: the name no-such-host.invalid does not resolve: "), "{unknown}");
}
