//! Every way in which a project.yaml can be wrong, with the whole text of the error.
//!
//! The texts are in `snapshots/`, each with the file it belongs to.

use super::{error, load_with};
use xgenctl::project::Mode;

/// Nodes under a valid head.
fn nodes(list: &str) -> String {
    format!("project: {{ name: xgen }}\nnodes:\n{list}")
}

#[track_caller]
fn pin(name: &str, text: &str) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots" }, {
        insta::assert_snapshot!(name, format!("{text}\n----\n{}", error(text)));
    });
}

macro_rules! refused {
    ($($name:ident: $text:expr;)*) => {
        $(#[test] fn $name() { pin(stringify!($name), &$text); })*
    };
}

refused! {
    // Shape.
    empty_file: "";
    only_comments: "# nothing\n";
    no_map: "- a\n- b\n";
    no_project: "env: dev\n";
    no_name: "project: { description: x }\nenv: dev\n";
    unknown_key_with_a_neighbour: "project: { name: xgen }\nnodez: []\n";
    unknown_key_without_a_neighbour: "project: { name: xgen }\nregistry: { colour: blue }\n";
    unknown_section_of_later_days: "project: { name: xgen }\nargocd: { values: {} }\n";
    unknown_keys_are_all_told: "project: { name: xgen, nam: y }\ndomian: a.example\nk3s: { verson: v1 }\n";
    wrong_type_list: "project: { name: xgen }\nservices: xgen-frontend\n";
    wrong_type_section: "project: xgen\n";
    wrong_type_number: nodes("  - { name: a, host: h, ssh: { port: \"22\" } }\n");
    wrong_type_word: nodes("  - { name: a, host: h, ssh: { port: high } }\n");
    wrong_type_flag: "project: { name: xgen }\nservices: [{ name: a, hasDomain: yes }]\n";
    wrong_type_text: nodes("  - { name: a, host: h, labels: { gpu: true } }\n");
    wrong_type_nothing: nodes("  - { name: a, host: h, taints: [~] }\n");
    wrong_choice: "project: { name: xgen }\ningress: { type: istoi }\n";
    wrong_choice_far: nodes("  - { name: a, host: h, role: worker }\n");
    wrong_port: nodes("  - { name: a, host: h, ssh: { port: 70000 } }\n");
    leading_zero: "project: { name: xgen }\nk3s: { config: { write-kubeconfig-mode: 0600 } }\n";
    old_boolean: "project: { name: xgen }\nk3s: { config: { embedded-registry: yes } }\n";
    // Syntax.
    unclosed: "project: { name: xgen\nenv: dev\n";
    bad_indent: "project:\n  name: xgen\n env: dev\n";
    tab: "project:\n\tname: xgen\n";
    duplicate_key: "project: { name: xgen }\nenv: dev\nenv: prd\n";
    second_document: "project: { name: xgen }\n---\nproject: { name: b }\n";
    merge_key: "project: &p { name: xgen }\nk3s: { config: { <<: *p } }\n";
    tag: "project: { name: !secret xgen }\n";
    complex_key: "project: { name: xgen }\nvars: { [a]: b }\n";
    unknown_anchor: "project: { name: *x }\n";
    control_character: "project: { name: \"a\u{1}\" }\n";
    // Names.
    project_name: "project: { name: Xgen_2 }\n";
    namespace: "project: { name: xgen, namespace: -x }\n";
    duplicate_service: "project: { name: xgen }\nservices:\n  - { name: a }\n  - { name: b }\n  - { name: a }\n";
    service_and_app: "project: { name: xgen }\nservices: [{ name: a }]\nextraApps: [{ name: a, path: ../x }]\n";
    domain: "project: { name: xgen }\ndomain: https://xgen.example/\n";
    environment_without_destination: "project: { name: xgen }\nenv: prod\ndestinations: { dev: {}, prd: {} }\n";
    // Nodes.
    no_nodes: "project: { name: xgen }\nnodes:\n";
    empty_nodes: "project: { name: xgen }\nnodes: []\n";
    duplicate_node: nodes("  - { name: a, role: server, host: h1 }\n  - { name: a, role: agent, host: h2 }\n");
    bad_node_name: nodes("  - { name: GPU_1, host: h }\n");
    two_servers: nodes("  - { name: a, role: server, host: h1 }\n  - { name: b, role: server, host: h2 }\n");
    no_server: nodes("  - { name: a, role: agent, host: h1 }\n  - { name: b, role: agent, host: h2 }\n");
    no_role: nodes("  - { name: a, role: server, host: h1 }\n  - { name: b, host: h2 }\n");
    no_host: nodes("  - name: a\n    role: server\n");
    user_in_host: nodes("  - { name: a, host: ops@h }\n");
    port_in_host: nodes("  - { name: a, host: \"h:22\" }\n");
    same_host: nodes("  - { name: a, role: server, host: h }\n  - { name: b, role: agent, host: H, ssh: { port: 22 } }\n");
    this_machine_twice: nodes("  - { name: a, role: server, host: localhost }\n  - { name: b, role: agent, host: localhost }\n");
    this_machine_over_ssh: nodes("  - { name: a, host: localhost, ssh: { user: ops } }\n");
    manual_server: nodes("  - { name: a, join: manual }\n");
    manual_with_host: nodes("  - { name: a, role: server, host: h }\n  - { name: b, role: agent, join: manual, host: i }\n");
    label_key: nodes("  - { name: a, host: h, labels: { \"a b\": x } }\n");
    label_value: nodes("  - { name: a, host: h, labels: { a: \"x y\" } }\n");
    label_of_kubernetes: nodes("  - { name: a, host: h, labels: { node-role.kubernetes.io/gpu: \"\" } }\n");
    taint_without_effect: nodes("  - { name: a, host: h, taints: [\"gpu=true\"] }\n");
    taint_with_unknown_effect: nodes("  - { name: a, host: h, taints: [\"gpu=true:NoRun\"] }\n");
    taint_on_every_node: nodes(
        "  - { name: a, role: server, host: h1, taints: [\"CriticalAddonsOnly=true:NoExecute\"] }\n  \
         - { name: b, role: agent, host: h2, taints: [\"CriticalAddonsOnly:NoExecute\"] }\n");
    key_file_missing: nodes("  - { name: a, host: h, ssh: { key: keys/none } }\n");
    jump: nodes("  - { name: a, host: h, ssh: { jump: \"ops@bastion:x\" } }\n");
    // K3s and ports.
    k3s_version_short: "project: { name: xgen }\nk3s: { version: v1.36.5 }\n";
    k3s_version_image: "project: { name: xgen }\nk3s: { version: 1.36.5-k3s2 }\n";
    k3s_version_channel: "project: { name: xgen }\nk3s: { version: latest }\n";
    k3s_managed: "project: { name: xgen }\nk3s:\n  config:\n    token: abcdefgh\n    server: https://a:6443\n    cluster-init: true\n    node-name: a\n    node-label+: [a=b]\n    node-ip: 10.0.0.1\n";
    k3s_option_style: "project: { name: xgen }\nk3s: { config: { --tlsSan: a } }\n";
    node_port_range: "project: { name: xgen }\ningress: { nodePorts: { http: 80 } }\n";
    node_port_twice: "project: { name: xgen }\nregistry: { nodePort: 30080 }\n";
    storage: "project: { name: xgen }\nregistry: { storage: 20GB }\n";
    mirror: "project: { name: xgen }\nmirrors: { k3s: nexus.example/k3s }\n";
    registries: "project: { name: xgen }\nimages: { registries: [\"https://nexus.example\"] }\n";
    proxy_entries: "project: { name: xgen }\nproxy: { https: \"http://a b\", noProxy: [\"a,b\"] }\n";
    login_name: nodes("  - { name: a, host: h, ssh: { user: \"-o x\" } }\n");
    // Secrets.
    password_in_the_clear: nodes("  - { name: a, host: h, ssh: { password: hunter22, user: ops } }\n");
    password_number: nodes("  - { name: a, host: h, ssh: { password: 123456 } }\n");
    password_in_git_url: "project: { name: xgen }\nsource: { repoURL: \"https://oauth2:glpat-1234@git.example/a.git\" }\n";
    password_in_proxy: "project: { name: xgen }\nproxy: { http: \"http://u:glpat-1234@p:3128\" }\n";
    secret_option: "project: { name: xgen }\nk3s: { config: { etcd-s3-secret-key: glpat-1234 } }\n";
    secret_missing: nodes("  - { name: a, host: h, ssh: { password: \"${secret:SSH_PASSWORD}\" } }\n");
    secret_name: nodes("  - { name: a, host: h, ssh: { password: \"${secret:ssh-password}\" } }\n");
    secret_in_a_readable_place: "project: { name: xgen }\nmirrors: { k3s: \"https://${secret:A}/\" }\n";
    // Several, in the order of the file.
    many_at_once: "project: { name: xgen }\nk3s: { version: v1 }\nregistry: { storage: lots, nodePort: 5 }\nnodes:\n  - { name: A, role: server, host: h }\n  - { name: b, role: agent }\n";
}

/// Nothing that stands where a secret belongs is ever shown, whatever else is wrong with the file.
#[test]
fn clear_secrets_are_never_shown() {
    let broken = [
        "project: { name: xgen }\nnodes:\n  - { name: a, ssh: { password: hunter22, prot: 1 } }\n",
        "project: { name: xgen }\nnodes:\n  - { name: a, ssh: { password: hunter22, port: x }\n",
        "project: { name: xgen }\nnodes:\n  - name: a\n    ssh:\n      password: hunter22\n     port: 1\n",
        "project: { name: xgen }\nnodes:\n  - name: a\n    ssh:\n      password:\n        hunter22: [\n",
        "project: { name: xgen }\nnodes:\n  - name: a\n    ssh:\n      password: \"hunter22\n",
        "project: { name: xgen }\nnodes: [{ name: a, host: h, ssh: { \"passphrase\":\"hunter22\", } }]\nx: 1\n",
        "project: { name: xgen }\nnodes:\n  - name: a\n    ssh:\n      password: |\n        hunter22\n    hosd: a\n",
        "project: { name: xgen }\nnodes:\n  - { name: a, host: \"ops:hunter22@h\" }\n",
        "project: { name: xgen }\nproxy: { http: \"ftp://u:hunter22@h\" }\n",
        "project: { name: xgen }\nproxy: { htp: \"http://u:hunter22@h\" }\n",
        "project: { name: xgen }\nproxy: { http: \"http://u:hunter22@h\" ]\n",
        "project: { name: xgen }\nvars: { apiToken: hunter22, x: 007 }\n",
        "project: { name: xgen }\nk3s: { config: { token: hunter22 } }\n",
        "project: { name: xgen }\nimages: { registries: [\"https://u:hunter22@h\"] }\n",
        "project: { name: xgen }\nnodes:\n  - { name: a, host: h, ssh: { jump: \"u:hunter22@h\" } }\n",
    ];
    for text in broken {
        let error = error(text);
        assert!(!error.contains("hunter22"), "{text}\n----\n{error}");
    }
}

#[test]
fn a_clear_password_is_masked_everywhere_from_then_on() {
    let redactor = xgenctl::secret::Redactor::default();
    let mut store = xgenctl::project::SecretsStore::open(None, [], Mode::Real, &redactor).unwrap();
    let text = nodes("  - { name: a, host: h, ssh: { password: hunter22 } }\n");
    let path = std::path::Path::new("project.yaml");
    xgenctl::project::Project::parse(path, &text, &mut store, &redactor, Mode::Real).unwrap_err();
    assert_eq!(redactor.redact("login with hunter22"), "login with [redacted]");
}

#[test]
fn a_rehearsal_needs_neither_key_files_nor_secrets() {
    let text = nodes("  - { name: a, host: h, ssh: { key: keys/none, passphrase: \"${secret:X}\" } }\n");
    load_with(&text, &[], Mode::Rehearsal).unwrap();
}

#[test]
fn the_short_form_is_one_line() {
    let error = super::load("project: { name: A }\nregistry: { storage: x }\nk3s: { version: v }\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "project.yaml:1:18: the project name `A` may only have lower-case letters, digits and `-` (and 2 more problems)"
    );
}
