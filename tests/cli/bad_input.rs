//! Wrong files, missing secrets, servers that do not answer: the exit code, and the text.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use super::site::{Output, Site};

const NODES: &str = "nodes:\n  - { name: master, role: server, host: 127.0.0.1, ssh: { user: ops, port: 1 } }\n";

/// The end of a command that may touch nothing: neither a server nor the record of runs.
#[track_caller]
fn refused(site: &Site) -> Output {
    let mut last = None;
    for command in ["setup all", "status", "check", "node list"] {
        let output = site.run(command).ends_with_code(2);
        assert_eq!(output.stdout, "", "{command}");
        last = Some(output);
    }
    assert!(!site.home().join(".local").exists(), "no run began");
    last.unwrap()
}

#[test]
fn an_unknown_key() {
    let site = Site::new(&format!("project: {{ name: shop, nam: x }}\n{NODES}"));
    refused(&site).complains(
        "error: unknown key `nam`
 --> ./project.yaml:1:24
  |
1 | project: { name: shop, nam: x }
  |                        ^^^ not a key of `project`
  |
  = help: did you mean `name`?
",
    );
}

#[test]
fn a_wrong_type_and_a_wrong_version() {
    let site = Site::new(&format!("project: {{ name: shop }}\nk3s: {{ version: 1.36 }}\n{NODES}"));
    refused(&site).complains(
        "error: `k3s.version` has the wrong type
 --> ./project.yaml:2:17
  |
2 | k3s: { version: 1.36 }
  |                 ^^^^ expected text, found a number
  |
  = help: put it in quotes: \"1.36\"
",
    );
    let site = Site::new(&format!("project: {{ name: shop }}\nk3s: {{ version: v1.36 }}\n{NODES}"));
    refused(&site).complains(
        "error: `v1.36` is no version of K3s
 --> ./project.yaml:2:17
  |
2 | k3s: { version: v1.36 }
  |                 ^^^^^ expected something like v1.36.5+k3s1
  |
  = help: write the whole name of a release, such as `v1.36.5+k3s1`; channels like stable or latest are not followed, so that every server gets the same
",
    );
}

#[test]
fn a_node_twice_and_an_even_number_of_servers() {
    let agent = "  - { name: master, role: agent, host: 127.0.0.2 }\n";
    let site = Site::new(&format!("project: {{ name: shop }}\n{NODES}{agent}"));
    let output = refused(&site);
    assert!(
        output.stderr.starts_with("error: two nodes are named `master`\n --> ./project.yaml:4:13\n"),
        "{}",
        output.stderr
    );
    let server = "  - { name: second, role: server, host: 127.0.0.2 }\n";
    let site = Site::new(&format!("project: {{ name: shop }}\n{NODES}{server}"));
    refused(&site).complains(
        "error: 2 servers: etcd needs an odd number
 --> ./project.yaml:2:1
  |
2 | nodes:
  | ^^^^^ 2 nodes with `role: server`
  |
  = help: use 1 or 3 servers and make the others agents
",
    );
}

#[test]
fn a_missing_secret_and_a_missing_key_file() {
    let node = |ssh: &str| {
        Site::new(&format!(
            "project: {{ name: shop }}\nnodes:\n  - {{ name: m, role: server, host: 127.0.0.1, ssh: {{ port: 1, {ssh} }} }}\n"
        ))
    };
    let site = node("password: '${secret:PW}'");
    refused(&site).complains(
        "error: the secret `PW` is not set
 --> ./project.yaml:3:73
  |
3 |   - { name: m, role: server, host: 127.0.0.1, ssh: { port: 1, password: '${secret:PW}' } }
  |                                                                         ^^^^^^^^^^^^^^ needed here
  |
  = help: add `PW: \"…\"` to ./secrets.yaml, or set the variable XGENCTL_SECRET_PW
",
    );
    // With it, the run goes as far as the server.
    site.run_with("setup all", &[("XGENCTL_SECRET_PW", "hunter2")]).ends_with_code(1);
    // A rehearsal makes it up.
    site.rehearse("setup all").ok();
    refused(&node("key: /nowhere/id")).complains(
        "error: the key file /nowhere/id does not exist
 --> ./project.yaml:3:68
  |
3 |   - { name: m, role: server, host: 127.0.0.1, ssh: { port: 1, key: /nowhere/id } }
  |                                                                    ^^^^^^^^^^^ given here
  |
  = help: give the path of a private key, or leave `key` out to use your SSH agent and ~/.ssh/config
",
    );
}

#[test]
fn files_that_cost_more_than_a_project_may() {
    let anchors: String = (1..12)
        .map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")))
        .fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |all, line| all + &line);
    for (text, begin) in [
        (
            "#".repeat(10 << 20),
            "error: ./project.yaml: the file is larger than 1 MiB
  = help: a project file has a few kilobytes; check that this is the right file
",
        ),
        (format!("a: {}", "[".repeat(10_000)), "error: nested more than 64 levels deep\n --> ./project.yaml:1:"),
        (anchors, "error: more than 100000 values, aliases expanded\n --> ./project.yaml:5:"),
        ("a: b: c\n".to_owned(), "error: "),
        ("\0".to_owned(), "error: "),
    ] {
        let site = Site::new(&text);
        let output = refused(&site);
        assert!(output.stderr.starts_with(begin), "{}", output.stderr);
        assert!(output.stderr.len() < 2_000, "{}", output.stderr);
    }
    let site = Site::empty();
    site.write("project.yaml", b"project: { name: \xff }\n");
    refused(&site);
}

#[test]
fn no_project_or_more_than_one() {
    let site = Site::empty();
    refused(&site).complains(
        "error: there is no project.yaml here and no file in projects/
hint: write one with `xgenctl init`, name one with `-p FILE`, or give `--server USER@HOST`
",
    );
    site.run("setup all -p none.yaml").ends_with_code(2).complains(
        "error: none.yaml: there is no such file
  = help: check the path after -p, or write one with `xgenctl init`
",
    );
    site.write("projects/a.yaml", "project: { name: a }\n");
    site.rehearse("status").ends_with_code(4);
    site.write("projects/b.yaml", "project: { name: b }\n");
    refused(&site).complains(
        "error: ./projects: has 2 project files
  = help: choose one:
          -p ./projects/a.yaml
          -p ./projects/b.yaml
",
    );
    // A variable chooses as the flag does.
    site.run_with("status --rehearse", &[("XGENCTL_PROJECT", "projects/b.yaml")]).ends_with_code(4).says("b\n");
    let folder = site.run("status -p projects").ends_with_code(2);
    assert!(folder.stderr.starts_with("error: projects: cannot be read: "), "{}", folder.stderr);
    site.run("setup all --server a@b@c:x --rehearse").ends_with_code(2);
}

#[test]
fn one_server_on_the_command_line_needs_no_project() {
    let site = Site::empty();
    site.rehearse("setup all --server root@10.0.0.1").ok().says("Kubernetes API: https://10.0.0.1:6443\n");
    site.rehearse("status --server root@10.0.0.1").ok();
    assert_eq!(fs::read_dir(site.path("")).unwrap().count(), 1);
}

/// What every command says of a server that cannot be used.
#[track_caller]
fn unusable(site: &Site, told: &str) {
    for command in ["setup all", "setup all --dry-run", "setup all -o json", "node list", "check", "kubeconfig"] {
        let output = site.run(command).ends_with_code(1);
        assert_eq!(output.stderr, told, "{command}");
    }
    let text = site.run("setup all");
    assert!(text.stdout.contains("\nFailed: 0 changed, 0 as wanted ("), "{}", text.stdout);
    assert_eq!(site.run("setup all -o json").finished()["ok"], false);
    // Not to be able to look is not to know.
    let status = site.run("status -o json").ends_with_code(4).complains("").value();
    let message = told.strip_prefix("error: ").unwrap().split("\nhint: ").next().unwrap();
    for module in status["modules"].as_array().unwrap() {
        assert_eq!((&module["state"], &module["details"]["error"]), (&"unknown".into(), &message.into()));
    }
}

#[test]
fn a_server_where_nobody_listens() {
    // Port 1 of loopback: no program of an operator or a test may listen there.
    let site = Site::new(&format!("project: {{ name: shop }}\n{NODES}"));
    unusable(
        &site,
        "error: master: 127.0.0.1:1: the connection is refused: nothing listens on that port
hint: check the address, the port and that sshd runs; `ssh -v` to the same host shows more
",
    );
}

#[test]
fn a_server_that_hangs_up_or_speaks_something_else() {
    for greeting in ["", "HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever connected may be gone already.
                let _ = stream.and_then(|stream| hang_up(stream, greeting));
            }
        });
        let node = NODES.replace("port: 1 ", &format!("port: {port} "));
        let site = Site::new(&format!("project: {{ name: shop }}\n{node}"));
        unusable(
            &site,
            &format!(
                "error: master: 127.0.0.1:{port} does not speak SSH, or closed the connection at once (Disconnected): is that \
                 sshd's port?
hint: check the address, the port and that sshd runs; `ssh -v` to the same host shows more
"
            ),
        );
    }
}

/// Says something and ends the connection in good order: a reset would be told in other words.
fn hang_up(mut stream: TcpStream, greeting: &str) -> std::io::Result<()> {
    stream.write_all(greeting.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}
