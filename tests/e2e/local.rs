//! xgenctl on the server itself: no `nodes:`, no SSH.

use std::path::Path;

use crate::XGENCTL;
use crate::servers::api::Api;
use crate::servers::k3s::stripped;
use crate::servers::lab::{Lab, MirrorFor};
use crate::servers::operator::Run;
use crate::servers::wanted;

#[test]
fn this_machine_is_the_only_server_without_nodes() {
    if !wanted("local") {
        return;
    }
    let lab = Lab::new(XGENCTL, &["solo"], MirrorFor::Servers);
    let server = lab.server("solo");
    server.write("/opt/xgenctl", &stripped(Path::new(XGENCTL)));
    server.sh("chmod 755 /opt/xgenctl");
    server.write("/root/project.yaml", lab.project_head().as_bytes());
    let xgenctl = |args: &[&str]| {
        let fixed = ["env", "-C", "/root", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "/opt/xgenctl"];
        let argv = lab.args(&[&fixed[..], args].concat());
        Run::new(format!("{argv:?}"), server.exec(&argv))
    };

    xgenctl(&["status"]).expect(4);
    xgenctl(&["setup", "all"]).expect(0);
    Api::of(server).wait_for_nodes(&[("solo", true)]);
    let pid = server.main_pid("k3s.service");
    let again = xgenctl(&["setup", "all", "-o", "json"]).expect(0);
    assert_eq!(again.finished()["changed"], 0, "{again}");
    assert_eq!(server.main_pid("k3s.service"), pid);
    xgenctl(&["status"]).expect(0);
}
