//! Where things are on a host, as upstream's installer leaves them too.

use crate::host::Interest;
use crate::project::Role;

/// The unit of a server.
pub const SERVER_UNIT: &str = "k3s.service";
/// The unit of an agent.
pub const AGENT_UNIT: &str = "k3s-agent.service";
/// The binary.
pub const BINARY: &str = "/usr/local/bin/k3s";
/// The configuration file of K3s.
pub const CONFIG: &str = "/etc/rancher/k3s/config.yaml";
/// What a server made up as the token for agents.
pub const NODE_TOKEN: &str = "/var/lib/rancher/k3s/server/node-token";
/// What a server made up as the token for servers.
pub const SERVER_TOKEN: &str = "/var/lib/rancher/k3s/server/token";
/// Stops everything, keeps the data.
pub const KILLALL: &str = "/usr/local/bin/k3s-killall.sh";
/// Names under which the binary acts as another tool.
pub const LINKS: [&str; 3] = ["/usr/local/bin/kubectl", "/usr/local/bin/crictl", "/usr/local/bin/ctr"];

/// The unit of a role.
pub fn unit_of(role: Role) -> &'static str {
    match role {
        Role::Server => SERVER_UNIT,
        Role::Agent => AGENT_UNIT,
    }
}

/// The unit's file.
pub fn unit_path(role: Role) -> String {
    format!("/etc/systemd/system/{}", unit_of(role))
}

/// The file with the unit's environment.
pub fn env_path(role: Role) -> String {
    format!("/etc/systemd/system/{}.env", unit_of(role))
}

/// The script that removes K3s from a host.
pub fn uninstall_path(role: Role) -> &'static str {
    match role {
        Role::Server => "/usr/local/bin/k3s-uninstall.sh",
        Role::Agent => "/usr/local/bin/k3s-agent-uninstall.sh",
    }
}

/// What has to be seen of a host that is, or shall be, a node.
pub fn interests(role: Role) -> Vec<Interest> {
    let file = |path: &str| Interest::File(path.to_owned());
    let mut all = vec![
        Interest::Version(BINARY.to_owned()),
        Interest::Unit(SERVER_UNIT.to_owned()),
        Interest::Unit(AGENT_UNIT.to_owned()),
        file(CONFIG),
        file(&unit_path(role)),
        file(&env_path(role)),
        file(KILLALL),
        file(uninstall_path(role)),
    ];
    all.extend(LINKS.map(file));
    if role == Role::Server {
        all.extend([crate::engine::world::KUBECONFIG, NODE_TOKEN, SERVER_TOKEN].map(file));
    }
    all
}
