//! A cluster that upstream's script installed: taken as it is.

use crate::XGENCTL;
use crate::servers::api::Api;
use crate::servers::lab::{Lab, MirrorFor};
use crate::servers::{upstream, wanted};

#[test]
fn what_the_install_script_set_up_is_adopted() {
    if !wanted("adoption") {
        return;
    }
    let lab = Lab::new(XGENCTL, &["old-1", "old-2"], MirrorFor::Operator);
    let (first, second) = (lab.server("old-1"), lab.server("old-2"));
    first.write("/etc/rancher/k3s/config.yaml", lab.k3s_config().as_bytes());
    upstream::install(first, lab.k3s, &["server", "--disable", "traefik", "--disable", "servicelb"], &[]);
    let token = first.sh("cat /var/lib/rancher/k3s/server/node-token");
    let url = format!("https://{}:6443", first.ip);
    upstream::install(second, lab.k3s, &["agent"], &[("K3S_URL", &url), ("K3S_TOKEN", &token)]);
    let api = Api::of(first);
    api.wait_for_nodes(&[("old-1", true), ("old-2", true)]);

    let pids = lab.main_pids();
    let units = || {
        let unit = |name: &str, unit: &str| lab.server(name).sh(&format!("sha256sum /etc/systemd/system/{unit}*"));
        (unit("old-1", "k3s.service"), unit("old-2", "k3s-agent.service"))
    };
    let units_before = units();
    lab.operator.write("project.yaml", &lab.project(1));
    lab.xgenctl(&["setup", "all"]).expect(0);
    assert_eq!(lab.main_pids(), pids, "a healthy K3s is not restarted");
    assert_eq!(units(), units_before, "nor are its units written anew");
    assert!(lab.mirror.take_requests().iter().all(|line| line.ends_with(".txt") || line.starts_with("HEAD ")));
    lab.xgenctl(&["status"]).expect(0);
    let again = lab.xgenctl(&["setup", "all", "-o", "json"]).expect(0);
    assert_eq!(again.finished()["changed"], 0, "{again}");
    api.wait_for_nodes(&[("old-1", true), ("old-2", true)]);
}
