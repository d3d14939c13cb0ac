//! A mirror that does not deliver: a clear message, exit code 1, and a server on which nothing was left.

use crate::XGENCTL;
use crate::servers::lab::{Lab, MirrorFor};
use crate::servers::mirror::Fault;
use crate::servers::wanted;

#[test]
fn a_broken_mirror_stops_the_run_and_leaves_nothing() {
    if !wanted("downloads") {
        return;
    }
    let lab = Lab::new(XGENCTL, &["target"], MirrorFor::Operator);
    let server = lab.server("target");
    lab.operator.write("project.yaml", &lab.project(1));
    let before = server.tree();
    let url = lab.mirror.url();

    for (fault, said) in [
        (Fault::NotFound, "404"),
        (Fault::ServerError, "500"),
        (Fault::Truncated, "broke off"),
        (Fault::WrongDigest, "sha256"),
    ] {
        lab.mirror.fail(Some(fault));
        let run = lab.xgenctl(&["setup", "all"]).expect(1);
        let text = format!("{}{}", run.stdout, run.stderr);
        assert!(text.contains(said) && text.contains(&url), "{fault:?}: {said:?} and {url} have to be named\n{run}");
        let after = server.tree();
        let paths = before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path));
        // The lock's folder vanishes with the next boot.
        let changed: Vec<_> = paths.filter(|path| !path.starts_with("/run")).collect();
        assert!(changed.is_empty(), "{fault:?}: {changed:?} changed\n{run}");
    }

    lab.mirror.fail(None);
    lab.xgenctl(&["setup", "all"]).expect(0);
}
