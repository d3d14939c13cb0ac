//! What somebody changed on a server is seen, shown, and repaired.

use super::site::Site;

const CONFIG: &str = "/etc/rancher/k3s/config.yaml";

fn edited() -> Site {
    let site = Site::converged();
    site.tamper("one", |host| {
        let text = &mut host["files"][CONFIG]["content"]["text"];
        let edited = text.as_str().unwrap().replace("node-name: one\n", "node-name: one\nkubelet-arg: [max-pods=3]\n");
        *text = edited.into();
    });
    site
}

#[test]
fn an_edited_file_is_drift_with_a_diff_and_repaired_with_one_restart() {
    let site = edited();
    let before = site.main_pids();
    let status = site.rehearse("status").ends_with_code(4).complains("");
    assert_eq!(
        status.stdout,
        "shop

module  state        version       wanted
k3s     ✔ converged  v1.36.5+k3s1  v1.36.5+k3s1
agents  ~ drifted    v1.36.5+k3s1  v1.36.5+k3s1

k3s
  nodes:
    name    role    state  version       address
    master  server  Ready  v1.36.5+k3s1  10.0.0.10

agents
  differs: write /etc/rancher/k3s/config.yaml
           restart k3s-agent.service
           wait until node one is Ready
  nodes:
    name  role   state  version       address
    one   agent  Ready  v1.36.5+k3s1  10.0.0.11
    two   agent  Ready  v1.36.5+k3s1  10.0.0.12

1 of 2 modules not as wanted.
"
    );
    let json = site.rehearse("status -o json").ends_with_code(4).value();
    assert_eq!((&json["converged"], &json["modules"][1]["state"]), (&false.into(), &"drifted".into()));
    site.rehearse("status k3s").ok();

    let dry = site.rehearse("setup all --dry-run --exit-code").ends_with_code(4).complains("");
    let diff = "
    one  write /etc/rancher/k3s/config.yaml  (drifted)
      --- /etc/rancher/k3s/config.yaml
      +++ /etc/rancher/k3s/config.yaml
      @@ -1,6 +1,5 @@
       # Managed by xgenctl: change project.yaml (k3s.config or the node's config) instead.
       node-ip: 10.0.0.11
       node-name: one
      -kubelet-arg: [max-pods=3]
       server: https://10.0.0.10:6443
       token: [redacted]
  ! one  restart k3s-agent.service  (follows from another change)  restarts a unit; running pods stay
    one  wait until node one is Ready  (follows from another change)
";
    assert!(dry.stdout.contains(diff), "{}", dry.stdout);
    assert_eq!(site.main_pids(), before);

    let repair = site.rehearse("setup all -o json").ok();
    assert_eq!(repair.finished()["changed"], 2);
    let after = site.main_pids();
    let restarted: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| a.0.as_str()).collect();
    assert_eq!(restarted, ["one/k3s-agent.service"]);
    assert!(!site.file_on("one", CONFIG).unwrap().contains("max-pods"));
    site.rehearse("status").ok();
}

#[test]
fn a_file_that_others_may_read_is_drift_without_a_restart() {
    let site = Site::converged();
    let before = site.main_pids();
    site.tamper("master", |host| host["files"][CONFIG]["mode"] = 0o644.into());
    let dry = site.rehearse("setup all --dry-run --exit-code").ends_with_code(4);
    assert!(dry.stdout.contains("mode, owner or kind of /etc/rancher/k3s/config.yaml changes to 600 root:root\n"));
    site.rehearse("setup all").ok();
    assert_eq!(site.main_pids(), before);
    assert_eq!(site.state()["state"]["hosts"]["master"]["files"][CONFIG]["mode"], 0o600);
    site.rehearse("status").ok();
}

#[test]
fn a_lost_binary_and_a_removed_unit_come_back() {
    for path in ["/usr/local/bin/k3s", "/usr/local/bin/kubectl", "/usr/local/bin/k3s-killall.sh"] {
        let site = Site::converged();
        site.tamper("two", |host| assert!(host["files"].as_object_mut().unwrap().remove(path).is_some()));
        site.rehearse("status").ends_with_code(4);
        site.rehearse("setup all").ok();
        site.rehearse("status").ok();
        assert!(site.state()["state"]["hosts"]["two"]["files"][path].is_object(), "{path}");
    }
}
