//! A mirror that fails in every way, over real HTTP: what is told, that nothing half-done stays, and that the next run
//! converges once the mirror is well.

use std::time::Duration;

use xgenctl::rehearsal::faults::{Fault, Plan, Point};

use super::engine::{Circumstances, Ground, Told};
use super::mirror::{Answer, Mirror};
use super::site::THREE;

const LIST: &str = "sha256sum-amd64.txt";
/// Far longer than anything on loopback takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Case {
    mirror: Mirror,
    ground: Ground,
    stall: Duration,
}

impl Case {
    fn new() -> Self {
        let mirror = Mirror::start();
        let ground = Ground::new(&format!("{THREE}mirrors: {{ k3s: '{}' }}\n", mirror.base()));
        Self { mirror, ground, stall: PATIENCE }
    }

    fn run(&self, skip_checks: &[&str]) -> Told {
        self.ground.setup(Circumstances {
            backend: Some(Mirror::backend(&self.ground.rehearsal, self.stall)),
            skip_checks: skip_checks.iter().map(|s| (*s).to_owned()).collect(),
            ..Circumstances::default()
        })
    }

    /// A run that must fail with nothing done on any server. Its text from the start of the fetch on is pinned.
    #[track_caller]
    fn fails(&self, name: &str, begin: &str, skip_checks: &[&str]) {
        let told = self.run(skip_checks);
        let summary = told.result.as_ref().unwrap_or_else(|e| panic!("{e}"));
        assert!(!summary.ok() && summary.tally.changed == 0, "{}", told.text);
        for host in ["master", "one", "two"] {
            for path in ["/usr/local/bin/k3s", "/etc/rancher/k3s/config.yaml", "/etc/systemd/system/k3s.service"] {
                assert!(!self.ground.has(host, path), "{path} on {host}");
            }
        }
        self.ground.is_tidy();
        pin(name, &told.from(begin).replace(&self.mirror.base(), "MIRROR"));
    }

    /// The mirror does everything right again, and the next run converges.
    #[track_caller]
    fn recovers(&self) {
        for file in ["k3s", LIST] {
            self.mirror.answer(file, [Answer::Good]);
        }
        let told = self.run(&[]).ok();
        assert!(told.text.contains("\nDone: 27 changed, 3 as wanted ("), "{}", told.text);
        self.ground.is_tidy();
        assert_eq!(self.ground.journal_text(), "");
        let again = self.run(&[]).ok();
        assert!(again.text.contains("\nNothing to do: 33 as wanted ("), "{}", again.text);
    }
}

#[track_caller]
pub fn pin(name: &str, text: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

const FETCH: &str = "[master] k3s: start: install";

#[test]
fn a_release_that_is_not_there_blocks_the_run() {
    let case = Case::new();
    case.mirror.answer(LIST, [Answer::Status(404)]);
    case.fails("download_list_404_blocks", "✘ preflight", &[]);
    assert_eq!(case.mirror.log(), [LIST]);
    case.fails("download_list_404", FETCH, &["download"]);
    case.recovers();
}

#[test]
fn a_binary_that_is_not_there() {
    let case = Case::new();
    case.mirror.answer("k3s", [Answer::Status(404)]);
    case.fails("download_404", FETCH, &[]);
    // What will not pass by itself is asked for once: the check and the list, then the binary.
    assert_eq!(case.mirror.log(), [LIST, LIST, "k3s"]);
    case.recovers();
}

#[test]
fn a_server_in_trouble_is_asked_three_times() {
    let case = Case::new();
    case.mirror.answer("k3s", [Answer::Status(500)]);
    case.fails("download_500", FETCH, &[]);
    assert_eq!(case.mirror.log(), [LIST, LIST, "k3s", "k3s", "k3s"]);
    case.recovers();
}

#[test]
fn a_server_that_stumbles_once_does_not_end_the_run() {
    let case = Case::new();
    case.mirror.answer("k3s", [Answer::Status(503), Answer::CutAfter(7), Answer::Good]);
    case.recovers_without_help();
    // Fetched once for three nodes, and continued where it broke off.
    assert_eq!(case.mirror.log(), [LIST, LIST, "k3s", "k3s", "k3s from 7"]);
}

impl Case {
    #[track_caller]
    fn recovers_without_help(&self) {
        self.run(&[]).ok();
        self.ground.is_tidy();
    }
}

#[test]
fn a_download_that_always_breaks_off() {
    let case = Case::new();
    case.mirror.answer("k3s", [Answer::CutAfter(5)]);
    case.fails("download_truncated", FETCH, &[]);
    assert_eq!(case.mirror.log(), [LIST, LIST, "k3s", "k3s from 5", "k3s from 10"]);
    // What came is not thrown away.
    case.recovers();
    assert!(case.mirror.log().contains(&"k3s from 15".to_owned()), "{:?}", case.mirror.log());
}

#[test]
fn a_changed_binary() {
    let case = Case::new();
    case.mirror.answer("k3s", [Answer::Other("xgenctl simulated k3s v1.36.5+k3s1 amd64 and more\n")]);
    case.fails("download_digest", FETCH, &[]);
    assert!(!case.ground.folder().join("cache/artifacts/k3s/v1.36.5+k3s1/k3s").exists());
    case.recovers();
}

#[test]
fn a_list_that_is_a_page_of_a_proxy() {
    let case = Case::new();
    case.mirror.answer(LIST, [Answer::Other("<html><body>Please log in</body></html>\n")]);
    case.fails("download_list_html", FETCH, &[]);
    case.recovers();
}

#[test]
fn a_server_that_stalls() {
    let mut case = Case::new();
    case.stall = Duration::from_millis(100);
    case.mirror.answer("k3s", [Answer::StallAfter(5)]);
    case.fails("download_stalled", FETCH, &[]);
    case.stall = PATIENCE;
    case.recovers();
}

#[test]
fn nobody_listens() {
    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ground = Ground::new(&format!("{THREE}mirrors: {{ k3s: 'http://{closed}' }}\n"));
    let told = ground.setup(Circumstances {
        backend: Some(Mirror::backend(&ground.rehearsal, PATIENCE)),
        skip_checks: vec!["download".into()],
        ..Circumstances::default()
    });
    assert!(!told.result.as_ref().unwrap().ok());
    pin("download_refused", &told.from(FETCH).replace(&format!("http://{closed}"), "MIRROR"));
    ground.is_tidy();
}

/// Faults of the first server's disk while the binary is put there.
fn disk(fault: Fault, name: &str) {
    let usual = Ground::new(THREE);
    usual.setup(Circumstances::default()).ok();
    // The put of the binary is the first program that reads its standard input in pieces.
    let ground = Ground::new(THREE);
    let point = if fault == Fault::WriteRefused { put_of_the_binary(&usual) } else { (Point::Stdin, 1) };
    let told =
        ground.setup(Circumstances { faults: Plan::none().at(point.0, point.1, fault), ..Circumstances::default() });
    assert!(!told.result.as_ref().unwrap().ok(), "{}", told.text);
    pin(name, &told.from(FETCH));
    ground.is_tidy();
    assert!(!ground.has("master", "/usr/local/bin/k3s"));
    let second = ground.setup(Circumstances::default()).ok();
    assert!(second.text.contains("\nDone: "), "{}", second.text);
    ground.is_tidy();
    assert_eq!(ground.fingerprint(), usual.fingerprint());
}

/// Which start of a program puts the binary, by the trace of a run without faults.
fn put_of_the_binary(usual: &Ground) -> (Point, u64) {
    let trace = usual.rehearsal.trace();
    let line = trace
        .iter()
        .find(|line| line.contains(" Spawn ") && line.contains("/usr/local/bin/k3s "))
        .unwrap_or_else(|| panic!("{trace:#?}"));
    let nth = line.split(' ').nth(2).unwrap().parse().unwrap();
    (Point::Spawn, nth)
}

#[test]
fn no_space_on_the_server() {
    disk(Fault::DiskFull, "server_disk_full");
}

#[test]
fn a_server_that_refuses_to_write() {
    disk(Fault::WriteRefused, "server_write_refused");
}
