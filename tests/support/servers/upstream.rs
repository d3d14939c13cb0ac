//! K3s as upstream's install script leaves it: what other people installed before xgenctl came.

use super::k3s::K3s;
use super::server::Server;

/// Puts K3s on a server with everything the script leaves there, enables it and starts it.
///
/// `arguments` start with `server` or `agent`; the script writes flags into the unit and `K3S_` variables into the file
/// beside it.
pub fn install(server: &Server, k3s: &K3s, arguments: &[&str], variables: &[(&str, &str)]) {
    let name = if arguments.first() == Some(&"agent") { "k3s-agent" } else { "k3s" };
    let kind = if name == "k3s" { "notify" } else { "exec" };
    server.write("/usr/local/bin/k3s", &k3s.binary);
    server.sh(
        "chmod 755 /usr/local/bin/k3s; cd /usr/local/bin; for name in kubectl crictl ctr; do ln -s k3s $name; done",
    );
    for script in ["k3s-killall.sh", &format!("{name}-uninstall.sh")] {
        server.write(&format!("/usr/local/bin/{script}"), b"#!/bin/sh\nexit 0\n");
        server.sh(&format!("chmod 755 /usr/local/bin/{script}"));
    }
    let variables: String = variables.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
    let unit = format!("/etc/systemd/system/{name}.service");
    server.write(&format!("{unit}.env"), variables.as_bytes());
    server.sh(&format!("chmod 600 {unit}.env"));
    let quoted: String = arguments.iter().map(|argument| format!("    '{argument}' \\\n\t")).collect();
    let quoted = quoted.replacen(&format!("'{}'", arguments[0]), arguments[0], 1);
    let content = format!(
        "[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type={kind}
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-{unit}.env
KillMode=process
Delegate=yes
User=root
# Having non-zero Limit*s causes performance problems due to accounting overhead
# in the kernel. We recommend using cgroups to do container-local accounting.
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s \\
{quoted}

"
    );
    server.write(&unit, content.as_bytes());
    server.sh(&format!("systemctl daemon-reload; systemctl enable --quiet {name}; systemctl start {name}"));
}
