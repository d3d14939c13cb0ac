//! What loads, and what it becomes.

use std::fs;
use std::path::Path;

use xgenctl::project::model::{Access, IngressKind, Role};
use xgenctl::project::{Mode, Project, SecretsStore, find};
use xgenctl::secret::Redactor;

use super::{load, load_with, no_secrets};

/// A file of the field, word for word.
const FIELD: &str = r#"project: { name: xgen, description: "xgen2.0 Platform", namespace: xgen }
source:  { repoURL: "https://git.example/xgen-infra.git", targetRevision: main }
env: dev
domain: ""            # empty: taken from destinations.<env>.domain
site: main
services:             # name, valuesFile, hasDomain (only the frontend is exposed)
  - { name: xgen-frontend, valuesFile: xgen-frontend.yaml, hasDomain: true }
  - { name: xgen-backend-gateway, valuesFile: xgen-backend-gateway.yaml }
  # xgen-core, xgen-workflow, xgen-documents, xgen-mcp-station
extraApps:
  - { name: observability, path: k3s/observability, namespace: observability }
destinations:
  prd: { server: https://kubernetes.default.svc, domain: jeju.example }
  dev: { server: https://kubernetes.default.svc, domain: xgen.example }
"#;

#[test]
fn a_file_of_the_field_loads_unchanged() {
    let project = load(FIELD).unwrap();
    assert_eq!((project.name.as_str(), project.namespace.as_str()), ("xgen", "xgen"));
    assert_eq!(project.description, "xgen2.0 Platform");
    assert_eq!(project.domain.as_deref(), Some("xgen.example"));
    assert_eq!(project.source.unwrap().repo_url, "https://git.example/xgen-infra.git");
    assert_eq!(project.services.len(), 2);
    assert!(project.services[0].has_domain && !project.services[1].has_domain);
    assert_eq!(project.extra_apps[0].path, "k3s/observability");
    assert_eq!(project.destinations["prd"].domain, "jeju.example");
    assert_eq!(project.nodes.len(), 1);
    assert!(matches!(project.nodes[0].access, Access::Local { .. }));
    assert_eq!(project.nodes[0].name, None);
}

#[test]
fn crlf_and_a_byte_order_mark_change_nothing() {
    let plain = load(FIELD).unwrap();
    let other = load(&format!("\u{feff}{}", FIELD.replace('\n', "\r\n"))).unwrap();
    assert_eq!(format!("{plain:?}"), format!("{other:?}"));
}

#[test]
fn the_shortest_file_has_every_default() {
    let project = load("project: { name: a }\n").unwrap();
    assert_eq!(project.k3s.version.to_string(), "v1.36.5+k3s1");
    assert_eq!(project.k3s_mirror, "https://github.com/k3s-io/k3s/releases/download");
    assert_eq!(project.ingress.kind, IngressKind::Istio);
    assert_eq!(
        (project.ingress.status_port, project.ingress.http_port, project.ingress.https_port),
        (30021, 30080, 30443)
    );
    assert_eq!((project.registry.node_port, project.registry.storage.as_str()), (30500, "20Gi"));
    assert_eq!(project.images.registries, ["localhost:30500"]);
    assert_eq!((project.env.as_str(), project.site.as_str(), project.domain), ("dev", "main", None));
    assert_eq!(project.namespace, "a");
}

#[test]
fn the_defaults_of_a_file_and_of_no_file_are_the_same() {
    let mut file = load("project: { name: xgen }\n").unwrap();
    file.file = None;
    let none = Project::local_default(&no_secrets(Mode::Real));
    assert_eq!(format!("{file:?}"), format!("{none:?}"));
}

#[test]
fn sections_with_nothing_in_them_are_left_out() {
    let project = load("project: { name: a }\nk3s:\n  # version: v1\ndomain:\nservices:\n").unwrap();
    assert_eq!(project.k3s.version.to_string(), "v1.36.5+k3s1");
    assert_eq!(project.domain, None);
}

#[test]
fn the_example_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("projects/xgen.yaml");
    let redactor = Redactor::default();
    let mut store = SecretsStore::open(None, [], Mode::Rehearsal, &redactor).unwrap();
    let project =
        Project::load(&path, &mut store, &redactor, Mode::Rehearsal).unwrap_or_else(|e| panic!("{}", e.render()));
    assert_eq!(project.file.as_deref(), Some(path.as_path()));
    let names: Vec<_> = project.nodes.iter().map(|n| n.display_name()).collect();
    assert_eq!(names, ["master", "worker-1", "gpu-1"]);
    let Access::Ssh(worker) = &project.nodes[1].access else { panic!("{:?}", project.nodes[1].access) };
    assert_eq!(worker.password, worker.sudo_password);
    assert!(worker.password.as_ref().unwrap().expose().starts_with("rehearsal"));
    assert_eq!(project.nodes[2].taints[0].to_string(), "gpu=true:NoSchedule");
    assert_eq!(project.services.len(), 6);
    assert_eq!(project.k3s.config["secrets-encryption"], true);
}

#[test]
fn servers_come_first_and_numbers_of_k3s_stay_numbers() {
    let project = load(
        "project: { name: a }\nnodes:\n  - { name: w, role: agent, host: h1 }\n  - { name: s, role: server, host: h2 }\n\
         k3s: { config: { max-x: 5, ratio: 0.5, flag: true, word: 'yes', plain: x-y, list: [1, a] } }\n",
    )
    .unwrap();
    assert_eq!(project.nodes[0].name.as_deref(), Some("s"));
    assert_eq!(project.nodes[0].role, Role::Server);
    assert_eq!(
        serde_json::to_string(&project.k3s.config).unwrap(),
        r#"{"flag":true,"list":[1,"a"],"max-x":5,"plain":"x-y","ratio":0.5,"word":"yes"}"#
    );
}

#[test]
fn aliases_are_followed() {
    let project = load(
        "project: { name: a }\nnodes:\n  - { name: s, role: server, host: h1, ssh: &ssh { user: ops } }\n  \
         - { name: w, role: agent, host: h2, ssh: *ssh }\n",
    )
    .unwrap();
    let Access::Ssh(ssh) = &project.nodes[1].access else { panic!() };
    assert_eq!(ssh.user.as_deref(), Some("ops"));
}

#[test]
fn this_machine_can_be_listed_among_others() {
    let text = "project: { name: a }\nnodes:\n  - { name: s, role: server, host: localhost, ssh: { sudoPassword: \"${secret:SUDO}\" } }\n  \
                - { name: w, role: agent, host: 127.0.0.1, ssh: { port: 2222 } }\n";
    let project = load_with(text, &[("SUDO", "open-sesame")], Mode::Real).unwrap();
    let Access::Local { sudo_password } = &project.nodes[0].access else { panic!() };
    assert_eq!(sudo_password.as_ref().unwrap().expose(), "open-sesame");
    assert!(matches!(&project.nodes[1].access, Access::Ssh(ssh) if ssh.port == Some(2222)));
    assert!(!format!("{project:?}").contains("sesame"));
}

#[test]
fn passwords_proxies_and_k3s_options_take_secrets() {
    let text = "project: { name: a }\nproxy: { http: \"http://u:${secret:PROXY}@p:1\", https: \"${secret:WHOLE}\" }\n\
                k3s: { config: { datastore-endpoint: \"postgres://k:${secret:PG}@db/k\" } }\n\
                nodes:\n  - { name: a, role: server, host: h1, ssh: { password: \"${secret:SSH_1}\" } }\n  \
                - { name: b, role: server, host: h2 }\n";
    let secrets = [
        ("PROXY", "p-secret"),
        ("WHOLE", "http://w:x@p"),
        ("PG", "pg-secret"),
        ("SSH_1", "s-secret"),
        ("K3S_TOKEN", "t-secret"),
    ];
    let project = load_with(text, &secrets, Mode::Real).unwrap_or_else(|e| panic!("{}", e.render()));
    let proxy = project.proxy.unwrap();
    assert_eq!(proxy.http.unwrap().expose(), "http://u:p-secret@p:1");
    assert_eq!(proxy.https.unwrap().expose(), "http://w:x@p");
    assert_eq!(project.k3s.config["datastore-endpoint"], "postgres://k:pg-secret@db/k");
    assert_eq!(project.k3s.token.unwrap().expose(), "t-secret");
    let Access::Ssh(ssh) = &project.nodes[0].access else { panic!() };
    // sudo asks for the login password unless another one is given.
    assert_eq!(ssh.sudo_password.as_ref().unwrap().expose(), "s-secret");
}

#[test]
fn key_files_begin_at_the_project() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("keys")).unwrap();
    fs::write(folder.path().join("keys/id"), "key").unwrap();
    let file = folder.path().join("project.yaml");
    fs::write(&file, "project: { name: a }\nnodes: [{ name: s, host: h, ssh: { key: keys/id } }]\n").unwrap();
    let redactor = Redactor::default();
    let mut store = SecretsStore::open(None, [], Mode::Real, &redactor).unwrap();
    let project = Project::load(&file, &mut store, &redactor, Mode::Real).unwrap();
    let Access::Ssh(ssh) = &project.nodes[0].access else { panic!() };
    assert_eq!(ssh.key.as_deref(), Some(folder.path().join("keys/id").as_path()));
}

#[test]
fn a_server_on_the_command_line() {
    let store = no_secrets(Mode::Real);
    let project = Project::from_server("ops@10.0.0.1:2222", &store).unwrap();
    let Access::Ssh(ssh) = &project.nodes[0].access else { panic!() };
    assert_eq!((ssh.user.as_deref(), ssh.host.as_str(), ssh.port), (Some("ops"), "10.0.0.1", Some(2222)));
    assert_eq!((project.nodes[0].name.as_deref(), project.nodes[0].display_name()), (None, "10.0.0.1"));
    let error = Project::from_server("ops@a:x", &store).unwrap_err();
    assert_eq!(
        error.render(),
        "error: --server: the port is not a number from 1 to 65535\n  = help: write --server USER@HOST, with :PORT where \
         sshd has another port than 22\n"
    );
    let mut project = load(FIELD).unwrap();
    project.use_server("root@h").unwrap();
    assert_eq!((project.nodes.len(), project.nodes[0].display_name()), (1, "h"));
}

#[test]
fn the_project_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert_eq!(find(folder.path(), None).unwrap(), None);
    fs::create_dir(at("projects")).unwrap();
    fs::write(at("projects/secrets.yaml"), "").unwrap();
    fs::write(at("projects/notes.txt"), "").unwrap();
    assert_eq!(find(folder.path(), None).unwrap(), None);
    fs::write(at("projects/one.yaml"), "").unwrap();
    assert_eq!(find(folder.path(), None).unwrap(), Some(at("projects/one.yaml")));
    fs::write(at("projects/two.yml"), "").unwrap();
    let dir = folder.path().display().to_string();
    assert_eq!(
        find(folder.path(), None).unwrap_err().render().replace(&dir, "DIR"),
        "error: DIR/projects: has 2 project files\n  = help: choose one:\n          -p DIR/projects/one.yaml\n          \
         -p DIR/projects/two.yml\n"
    );
    fs::write(at("project.yaml"), "").unwrap();
    assert_eq!(find(folder.path(), None).unwrap(), Some(at("project.yaml")));
    assert_eq!(find(folder.path(), Some(&at("projects/two.yml"))).unwrap(), Some(at("projects/two.yml")));
    assert_eq!(
        find(folder.path(), Some(&at("none"))).unwrap_err().render().replace(&dir, "DIR"),
        "error: DIR/none: there is no such file\n  = help: check the path after -p, or write one with `xgenctl init`\n"
    );
}
