//! Three servers with one database among them.

use crate::XGENCTL;
use crate::servers::api::Api;
use crate::servers::lab::{Lab, MirrorFor};
use crate::servers::wanted;

#[test]
fn three_servers_form_one_control_plane() {
    if !wanted("control plane") {
        return;
    }
    let names = ["cp-1", "cp-2", "cp-3"];
    let lab = Lab::new(XGENCTL, &names, MirrorFor::Operator);
    lab.operator.write("project.yaml", &lab.project(3));
    lab.xgenctl(&["setup", "all"]).expect(0);
    for server in &lab.servers {
        Api::of(server).wait_for_nodes(&names.map(|name| (name, true)));
    }
    let pids = lab.main_pids();
    let again = lab.xgenctl(&["setup", "all", "-o", "json"]).expect(0);
    assert_eq!(again.finished()["changed"], 0, "{again}");
    assert_eq!(lab.main_pids(), pids);
}
