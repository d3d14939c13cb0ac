//! `nodes`: who is in the cluster and how each is reached.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::*;

/// The only server where a project has no `nodes`: this machine.
pub(in crate::project) fn this_machine() -> Node {
    only_server(Access::Local { sudo_password: None })
}

/// A server without a name of its own: its hostname will be its name.
pub(in crate::project) fn only_server(access: Access) -> Node {
    Node {
        name: None,
        role: Role::Server,
        access,
        address: None,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        config: Map::new(),
    }
}

/// Validates `nodes`. Servers come first.
pub(super) fn nodes(
    check: &mut Check<'_>,
    root: &At<'_>,
    raw: Option<Vec<RawNode>>,
    external_datastore: bool,
) -> Vec<Node> {
    let at = root.key("nodes");
    let Some(raw) = raw else { return vec![this_machine()] };
    if raw.is_empty() {
        let help = "list at least one server; without the section this machine is the only server";
        check.fault(at.span(), "`nodes` is empty: there is no server".into(), "no server", help);
        return Vec::new();
    }
    let alone = raw.len() == 1;
    let names: Vec<String> = raw.iter().map(|n| n.name.clone()).collect();
    let mut seen = HashMap::new();
    for (i, name) in names.iter().enumerate() {
        check.name(&at.item(i).key("name"), "node name", name, rules::subdomain);
        check.unique(&at.item(i).key("name"), "nodes", name, &mut seen);
    }
    let mut nodes = Vec::new();
    let mut role_missing = false;
    for (i, node) in raw.into_iter().enumerate() {
        let place = at.item(i);
        let role = node.role.unwrap_or_else(|| {
            if !alone {
                role_missing = true;
                let message = format!("node `{}` has no role", shorten(&node.name));
                check.fault(place.key("name").span(), message, "which role?", "add `role: server` or `role: agent`");
            }
            Role::Server
        });
        nodes.push(one(check, &place, node, role));
    }
    if !role_missing {
        quorum(check, &at, &nodes, external_datastore);
    }
    same_machine(check, &at, &nodes);
    evicted(check, &at, &nodes);
    nodes.sort_by_key(|n| n.role != Role::Server);
    nodes
}

/// One server, or an odd number of them.
fn quorum(check: &mut Check<'_>, at: &At<'_>, nodes: &[Node], external_datastore: bool) {
    match nodes.iter().filter(|n| n.role == Role::Server).count() {
        0 => {
            let help = "give one node `role: server`";
            check.fault(at.span(), "there is no server among the nodes".into(), "agents only", help);
        }
        even if even % 2 == 0 && !external_datastore => {
            let message = format!("{even} servers: etcd needs an odd number");
            let help = format!("use {} or {} servers and make the others agents", even - 1, even + 1);
            check.fault(at.span(), message, format!("{even} nodes with `role: server`"), help);
        }
        _ => {}
    }
}

/// Two nodes on one machine.
fn same_machine(check: &mut Check<'_>, at: &At<'_>, nodes: &[Node]) {
    let mut seen: HashMap<(String, u16), &str> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        let key = match &node.access {
            Access::Local { .. } => ("localhost".to_owned(), 0),
            Access::Ssh(ssh) => (ssh.host.to_ascii_lowercase(), ssh.port.unwrap_or(defaults::SSH_PORT)),
            Access::Manual => continue,
        };
        if key.0.is_empty() {
            continue;
        }
        if let Some(other) = seen.get(&key) {
            let message = match key.1 {
                0 => format!("`{}` and `{other}` are both this machine", node.display_name()),
                port => format!("`{}` and `{other}` are the same machine: {} port {port}", node.display_name(), key.0),
            };
            check.fault(at.item(i).key("host").span(), message, "used already", "give each node a machine of its own");
        } else {
            seen.insert(key, node.display_name());
        }
    }
}

/// A taint that leaves no node for ordinary pods.
fn evicted(check: &mut Check<'_>, at: &At<'_>, nodes: &[Node]) {
    let closes = |t: &Taint| t.key == "CriticalAddonsOnly" && t.effect == "NoExecute";
    if nodes.iter().all(|n| n.taints.iter().any(closes)) {
        let index = nodes.iter().position(|n| n.taints.iter().any(closes)).unwrap_or_default();
        let place = at.item(index).key("taints");
        let item = nodes[index].taints.iter().position(closes).unwrap_or_default();
        let help = "the taint is for servers that have agents beside them: remove it, or leave one node without it";
        let message = "every node has the taint CriticalAddonsOnly:NoExecute, so no service could run anywhere".into();
        check.fault(place.item(item).span(), message, "evicts everything else", help);
    }
}

fn one(check: &mut Check<'_>, at: &At<'_>, raw: RawNode, role: Role) -> Node {
    for (key, value) in &raw.labels {
        label(check, &at.key("labels").key(key), key, value);
    }
    let mut taints: Vec<Taint> = Vec::new();
    for (i, text) in raw.taints.iter().enumerate() {
        let place = at.key("taints").item(i);
        match rules::taint(text) {
            Ok(taint) if taints.iter().any(|t| t.key == taint.key && t.effect == taint.effect) => {
                let message =
                    format!("two taints with the key `{}` and the effect {}", shorten(&taint.key), taint.effect);
                check.fault(place.span(), message, "Kubernetes allows one", "remove one of them");
            }
            Ok(taint) => taints.push(taint),
            Err(reason) => {
                let help = "effects are NoSchedule, PreferNoSchedule and NoExecute";
                let message = format!("the taint `{}` {reason}", shorten(text));
                check.fault(place.span(), message, "expected key=value:Effect", help);
            }
        }
    }
    let mut config = raw.config;
    check.k3s_config(&at.key("config"), "config", &mut config);
    if let Some(address) = &raw.address
        && let Err((reason, help)) = rules::host(address)
    {
        let message = format!("the address `{}` {reason}", shorten(address));
        check.fault(at.key("address").span(), message, "not a name or an address", help);
    }
    if raw.address.as_deref().is_some_and(|a| a.parse::<std::net::IpAddr>().is_ok()) && config.contains_key("node-ip") {
        let message = "`node-ip` and `address` both set the IP address of the node".into();
        check.fault(at.key("config").key("node-ip").key_span(), message, "set twice", "remove one of them");
    }
    let access = access(check, at, &raw.name, raw.host, raw.join, raw.ssh, role);
    Node { name: Some(raw.name), role, access, address: raw.address, labels: raw.labels, taints, config }
}

fn label(check: &mut Check<'_>, at: &At<'_>, key: &str, value: &str) {
    if let Err(reason) = rules::qualified_key(key) {
        let message = format!("the label `{}` has a key that {reason}", shorten(key));
        check.fault(at.key_span(), message, "not a valid key", "for example `gpu` or `example.com/gpu`");
    } else if rules::reserved_label(key) {
        let message = format!("the kubelet refuses to set the label `{}` on its own node", shorten(key));
        let help = "use a prefix of your own, or node.kubernetes.io/";
        check.fault(at.key_span(), message, "a prefix of Kubernetes itself", help);
    }
    if let Err(reason) = rules::label_value(value) {
        let message = format!("the label `{}` has a value that {reason}", shorten(key));
        check.fault(at.span(), message, "not a valid value", "");
    }
}

fn access(
    check: &mut Check<'_>,
    at: &At<'_>,
    name: &str,
    host: Option<String>,
    join: Option<Join>,
    ssh: Option<RawSsh>,
    role: Role,
) -> Access {
    let name = shorten(name);
    if join == Some(Join::Manual) {
        if role == Role::Server {
            let message = format!("`{name}` is a server: `join: manual` is for agents");
            check.fault(at.key("join").span(), message, "not for servers", "give the server a `host`");
        }
        for key in ["host", "ssh"].into_iter().filter(|k| at.key(k).tree.is_some()) {
            let message = format!("`{key}` has no use with `join: manual`");
            let help = "remove it; where other nodes reach the node is `address`";
            check.fault(at.key(key).key_span(), message, "xgenctl does not log in there", help);
        }
        return Access::Manual;
    }
    let Some(host) = host else {
        let message = format!("node `{name}` has no host");
        let help = "add `host: ADDRESS` (SSH), `host: localhost` (this machine), or `join: manual` (an agent that \
                    xgenctl cannot reach)";
        check.fault(at.key("name").span(), message, "how is it reached?", help);
        return Access::Ssh(SshAccess::default());
    };
    if let Err((reason, help)) = rules::host(&host) {
        let message = format!("the host `{}` of node `{name}` {reason}", shorten(&host));
        check.fault(at.key("host").span(), message, "not a name or an address", help);
    }
    let ssh = ssh.unwrap_or_default();
    let place = at.key("ssh");
    if rules::is_this_machine(&host) {
        let only_sudo = RawSsh { sudo_password: ssh.sudo_password.clone(), ..RawSsh::default() };
        if ssh != only_sudo || join.is_some() {
            let wrong = if ssh != only_sudo { place } else { at.key("join") };
            let help = "remove it (`ssh.sudoPassword` may stay), or write `host: 127.0.0.1` to go through sshd";
            let message = format!("node `{name}` is this machine, which is not reached over SSH");
            check.fault(wrong.key_span(), message, "has no use with `host: localhost`", help);
        }
        let sudo_password = check.secret(&at.key("ssh").key("sudoPassword"), ssh.sudo_password.as_deref());
        return Access::Local { sudo_password };
    }
    let key = ssh.key.as_deref().and_then(|text| key_file(check, &place.key("key"), text));
    if let Some(user) = ssh.user.as_deref().filter(|u| {
        u.is_empty()
            || u.starts_with('-')
            || u.contains(|c: char| matches!(c, '@' | ':') || c.is_whitespace() || c.is_control())
    }) {
        let message = format!("`{}` is no login name", shorten(user));
        check.fault(place.key("user").span(), message, "expected a login name", "");
    }
    if let Some(jump) = &ssh.jump
        && let Err(reason) = rules::endpoint(jump)
    {
        let message = format!("the jump host cannot be used: {reason}");
        check.fault(place.key("jump").span(), message, "expected [user@]host[:port]", "");
    }
    let password = check.secret(&place.key("password"), ssh.password.as_deref());
    let passphrase = check.secret(&place.key("passphrase"), ssh.passphrase.as_deref());
    let sudo_password = check.secret(&place.key("sudoPassword"), ssh.sudo_password.as_deref()).or(password.clone());
    Access::Ssh(SshAccess {
        host,
        port: ssh.port,
        user: ssh.user,
        key,
        passphrase,
        password,
        sudo_password,
        jump: ssh.jump,
    })
}

/// The private key file, which must be there unless nothing is going to log in.
fn key_file(check: &mut Check<'_>, at: &At<'_>, text: &str) -> Option<PathBuf> {
    let Some(path) = expand_home(text, check.folder) else {
        let help = "set the variable HOME, or write the whole path";
        check.fault(at.span(), "the home folder is unknown".into(), "cannot be expanded", help);
        return None;
    };
    if check.mode == Mode::Real && !path.is_file() {
        let reason = if path.exists() { "is no file" } else { "does not exist" };
        let help = "give the path of a private key, or leave `key` out to use your SSH agent and ~/.ssh/config";
        check.fault(at.span(), format!("the key file {} {reason}", path.display()), "given here", help);
    }
    Some(path)
}

/// `~` is the home folder; a relative path begins at the folder of project.yaml.
fn expand_home(text: &str, folder: &Path) -> Option<PathBuf> {
    match text.strip_prefix('~') {
        Some("") => etcetera::home_dir().ok(),
        Some(rest) if rest.starts_with('/') => Some(etcetera::home_dir().ok()?.join(rest.trim_start_matches('/'))),
        _ => Some(folder.join(text)),
    }
}
