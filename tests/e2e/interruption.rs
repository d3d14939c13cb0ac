//! xgenctl killed in the middle: the next run finishes what the first began.

use std::time::{Duration, Instant};

use crate::XGENCTL;
use crate::servers::api::Api;
use crate::servers::lab::{Lab, MirrorFor};
use crate::servers::wanted;

#[test]
fn a_run_that_was_killed_is_finished_by_the_next_one() {
    if !wanted("interruption") {
        return;
    }
    let lab = Lab::new(XGENCTL, &["target"], MirrorFor::Operator);
    let server = lab.server("target");
    lab.operator.write("project.yaml", &lab.project(1));

    for (moment, condition) in [
        ("the binary is on its way", "ls /usr/local/bin/.k3s.* || test -e /usr/local/bin/k3s"),
        ("files are there", "ls /etc/rancher/k3s/.config.yaml.* || test -e /etc/rancher/k3s/config.yaml"),
        (
            "the unit starts",
            "systemctl is-active --quiet k3s || test $(systemctl show -p SubState --value k3s) = start",
        ),
    ] {
        let mut run = lab.operator.start(lab.args(&["setup", "all"]));
        let started = Instant::now();
        while !server.test(condition) && run.is_running() {
            assert!(started.elapsed() < Duration::from_secs(60), "{moment}: never seen");
            std::thread::sleep(Duration::from_millis(20));
        }
        run.kill();
    }

    let freed = Instant::now();
    while lab.xgenctl(&["setup", "all"]).code == 5 {
        assert!(freed.elapsed() < Duration::from_secs(30), "the lock of a killed run is not freed");
        std::thread::sleep(Duration::from_millis(300));
    }
    Api::of(server).wait_for_nodes(&[("target", true)]);
    let run = lab.xgenctl(&["setup", "all", "-o", "json"]).expect(0);
    assert_eq!(run.finished()["changed"], 0, "{run}");
    let left = server.sh("find / -xdev \\( -name '*.xgenctl-tmp' -o -name '*.xgenctl-part' \\) 2>/dev/null || true");
    assert_eq!(left, "", "temporary files");
}
