//! K3s itself, without xgenctl: what the other tests take for granted. The stand-in has to pass what a real one passes.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};

use crate::XGENCTL;
use crate::servers::api::Api;
use crate::servers::lab::{Lab, MirrorFor};
use crate::servers::server::Server;
use crate::servers::{upstream, wanted};

#[test]
fn k3s_joins_refuses_and_recovers_as_documented() {
    if !wanted("contract") {
        return;
    }
    let lab = Lab::new(XGENCTL, &["alpha", "beta"], MirrorFor::Operator);
    let (alpha, beta) = (lab.server("alpha"), lab.server("beta"));
    alpha.write("/etc/rancher/k3s/config.yaml", lab.k3s_config().as_bytes());
    upstream::install(alpha, lab.k3s, &["server", "--node-label", "tier=control"], &[]);

    assert_eq!(
        alpha.sh("k3s --version | head -n 1").split_whitespace().take(3).collect::<Vec<_>>(),
        ["k3s", "version", lab.k3s.version.as_str()]
    );
    let modes = alpha.sh("stat -c %a /etc/rancher/k3s/k3s.yaml /var/lib/rancher/k3s/server/token");
    assert_eq!(modes, "600\n600");
    let token = alpha.sh("cat /var/lib/rancher/k3s/server/node-token");
    let authority = alpha.sh("sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt");
    assert!(token.starts_with(&format!("K10{}::server:", &authority[..64])), "{token}");
    let api = Api::of(alpha);
    api.wait_for_nodes(&[("alpha", true)]);
    let (_, node) = api.ask(Method::GET, "/api/v1/nodes/alpha");
    assert_eq!(node["metadata"]["labels"]["tier"], "control");
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], lab.k3s.version);

    // The token of another cluster does not open this one.
    let url = format!("https://{}:6443", alpha.ip);
    let foreign = format!("K10{}::server:x", "0".repeat(64));
    upstream::install(beta, lab.k3s, &["agent"], &[("K3S_URL", &url), ("K3S_TOKEN", &foreign)]);
    wait_for_log(beta, "k3s-agent", "token CA hash does not match");
    beta.write(
        "/etc/systemd/system/k3s-agent.service.env",
        format!("K3S_URL='{url}'\nK3S_TOKEN='{token}'\n").as_bytes(),
    );
    beta.sh("systemctl restart k3s-agent");
    api.wait_for_nodes(&[("alpha", true), ("beta", true)]);

    // A name belongs to the machine that used it first, until its password is forgotten.
    beta.sh("systemctl stop k3s-agent; rm /etc/rancher/node/password");
    api.wait_for_nodes(&[("alpha", true), ("beta", false)]);
    beta.sh("systemctl start --no-block k3s-agent");
    wait_for_log(beta, "k3s-agent", "Node password rejected, duplicate hostname or contents of");
    let secret = "/api/v1/namespaces/kube-system/secrets/beta.node-password.k3s";
    assert_eq!(api.ask(Method::DELETE, secret).0, StatusCode::OK);
    beta.sh("systemctl restart --no-block k3s-agent");
    api.wait_for_nodes(&[("alpha", true), ("beta", true)]);

    // A server keeps its cluster over a restart; an agent fails on what it does not know.
    alpha.sh("systemctl restart k3s");
    Api::of(alpha).wait_for_nodes(&[("alpha", true), ("beta", true)]);
    beta.sh("systemctl stop k3s-agent");
    beta.write("/etc/rancher/k3s/config.yaml", b"no-such-key: 1\n");
    beta.sh("systemctl start --no-block k3s-agent");
    wait_for_log(beta, "k3s-agent", "flag provided but not defined: -no-such-key");
}

#[track_caller]
fn wait_for_log(server: &Server, unit: &str, text: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while !server.journal(unit).contains(text) {
        assert!(Instant::now() < end, "{}: {unit} does not say {text:?}:\n{}", server.name, server.journal(unit));
        std::thread::sleep(Duration::from_millis(300));
    }
}
