use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::artifact::testserver::{Answer, TestServer};
use crate::artifact::{HttpDownload, K3sArch, Limits};

const LIST: &str = "/v1.36.5%2Bk3s1/sha256sum-amd64.txt";
const FILE: &str = "/v1.36.5%2Bk3s1/k3s";

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn binary() -> Vec<u8> {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect()
}

/// A server in the upstream layout, a store in an empty folder, and what is to be fetched.
struct Ground {
    server: TestServer,
    download: HttpDownload,
    folder: tempfile::TempDir,
    store: Store,
    artifact: Artifact,
}

impl Ground {
    async fn new() -> Self {
        let server = TestServer::start().await;
        server.put(FILE, &binary());
        server.put(LIST, format!("{}  k3s-airgap.tar\n{}  k3s\n", "0".repeat(64), sha256(&binary())).as_bytes());
        let folder = tempfile::tempdir().unwrap();
        // Over real sockets a paused clock would run ahead of the bytes: these tests do not pause at all.
        let store = Store { first_pause: Duration::ZERO, ..Store::new(folder.path()) };
        let artifact = Artifact::k3s("v1.36.5+k3s1", K3sArch::Amd64, &server.base);
        let download = HttpDownload::direct(Limits::default()).unwrap();
        Self { server, download, folder, store, artifact }
    }

    async fn fetch(&self) -> Result<Fetched, FetchError> {
        self.store.fetch(&self.artifact, &self.download, &|_, _| {}).await
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join("artifacts/k3s/v1.36.5+k3s1").join(name)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn seed(&self, name: &str, content: &[u8]) {
        fs::create_dir_all(self.at("")).unwrap();
        fs::write(self.at(name), content).unwrap();
    }

    fn assert_complete(&self) {
        assert_eq!(self.files(), ["k3s", "k3s.sha256"]);
        assert!(fs::read(self.at("k3s")).unwrap() == binary());
    }
}

#[tokio::test]
async fn an_artifact_is_downloaded_once_and_then_comes_from_the_cache() {
    let ground = Ground::new().await;
    let told = Mutex::new(Vec::new());
    let progress = |done, total| told.lock().unwrap().push((done, total));
    let fetched = ground.store.fetch(&ground.artifact, &ground.download, &progress).await.unwrap();
    let expected = Fetched { path: ground.at("k3s"), sha256: sha256(&binary()), size: 400_000, downloaded: true };
    assert_eq!(fetched, expected);
    ground.assert_complete();
    assert_eq!(fs::read_to_string(ground.at("k3s.sha256")).unwrap(), format!("{}  k3s\n", sha256(&binary())));
    let told = told.into_inner().unwrap();
    assert_eq!((told[0], told[told.len() - 1]), ((0, Some(400_000)), (400_000, Some(400_000))));
    assert!(told.is_sorted() && told.len() <= 4, "{told:?}");

    let log = ground.server.log();
    assert_eq!(log, [format!("GET {LIST}"), format!("GET {FILE}")]);
    assert_eq!(ground.fetch().await.unwrap(), Fetched { downloaded: false, ..expected });
    assert_eq!(ground.server.log(), log, "a hit asks nobody");
}

#[tokio::test]
async fn a_tampered_file_is_fetched_again_without_the_list() {
    let ground = Ground::new().await;
    ground.fetch().await.unwrap();
    fs::write(ground.at("k3s"), "tampered").unwrap();
    assert!(ground.fetch().await.unwrap().downloaded);
    ground.assert_complete();
    assert_eq!(ground.server.log().len(), 3);
}

#[tokio::test]
async fn the_files_of_a_release_can_be_put_into_the_cache_as_they_are() {
    let ground = Ground::new().await;
    ground.seed("k3s", &binary());
    ground.seed("sha256sum-amd64.txt", format!("{} *./k3s\n", sha256(&binary()).to_uppercase()).as_bytes());
    assert!(!ground.fetch().await.unwrap().downloaded);
    assert_eq!(ground.server.log(), Vec::<String>::new());
}

#[tokio::test]
async fn a_missing_release_is_told_at_once() {
    let ground = Ground::new().await;
    ground.server.answer(LIST, [Answer::Status(404)]);
    let error = ground.fetch().await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}{LIST}: HTTP 404", ground.server.base));
    assert!(error.hint().unwrap().starts_with("check `k3s.version` in project.yaml"), "{:?}", error.hint());
    assert_eq!(ground.server.log().len(), 1);
    assert_eq!(ground.files(), Vec::<String>::new());
}

#[tokio::test]
async fn what_passes_by_itself_is_tried_again() {
    let ground = Ground::new().await;
    ground.server.answer(LIST, [Answer::Status(500), Answer::Status(429)]);
    ground.server.answer(FILE, [Answer::Status(503)]);
    assert!(ground.fetch().await.unwrap().downloaded);
    ground.assert_complete();
    let tries = [LIST, LIST, LIST, FILE, FILE].map(|p| format!("GET {p}"));
    assert_eq!(ground.server.log(), tries);
}

#[tokio::test]
async fn three_tries_are_enough() {
    let ground = Ground::new().await;
    ground.server.answer(FILE, [500, 502, 503, 500].map(Answer::Status));
    let error = ground.fetch().await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}{FILE}: HTTP 503", ground.server.base));
    assert_eq!(ground.files(), ["k3s.sha256"]);
}

#[tokio::test]
async fn a_download_that_broke_off_is_continued() {
    let ground = Ground::new().await;
    ground.server.answer(FILE, [Answer::CutAfter(150_000)]);
    assert!(ground.fetch().await.unwrap().downloaded);
    ground.assert_complete();
    let log = ground.server.log();
    assert!(log[2].starts_with(&format!("GET {FILE} from ")), "{log:?}");
}

#[tokio::test]
async fn a_download_that_keeps_breaking_off_stays_for_the_next_run() {
    let ground = Ground::new().await;
    let script = Scripted::new(&[Step::Short(10, 20), Step::Broken(10), Step::Short(10, 20)]);
    // With the usual pauses, on a clock that does not wait.
    let store = Store::new(ground.folder.path());
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let error = store.fetch(&ground.artifact, &script, &|_, _| {}).await.unwrap_err();
    let url = ground.artifact.url();
    assert_eq!(error.to_string(), format!("{url}: the download broke off after 30 of 40 bytes"));
    assert_eq!(ground.files(), ["k3s.part", "k3s.sha256"]);
    assert_eq!(script.offsets(), [0, 10, 20]);
    assert_eq!(begin.elapsed().as_secs(), 3, "one second and then two on the paused clock");
    let again = Scripted::new(&[Step::Broken(5)]);
    ground.store.fetch(&ground.artifact, &again, &|_, _| {}).await.unwrap_err();
    assert_eq!(again.offsets()[0], 30);
}

#[tokio::test]
async fn a_part_is_continued_by_a_later_run_with_and_without_ranges() {
    for (answer, last) in [(Answer::Good, " from 1000"), (Answer::NoRanges, " from 1000")] {
        let ground = Ground::new().await;
        ground.seed("k3s.part", &binary()[..1000]);
        ground.server.answer(FILE, [answer]);
        assert!(ground.fetch().await.unwrap().downloaded);
        ground.assert_complete();
        assert_eq!(ground.server.log(), [format!("GET {LIST}"), format!("GET {FILE}{last}")]);
    }
}

#[tokio::test]
async fn a_part_that_is_complete_needs_no_request_and_a_wrong_one_starts_over() {
    let ground = Ground::new().await;
    ground.seed("k3s.part", &binary());
    assert_eq!(ground.fetch().await.unwrap().size, 400_000);
    ground.assert_complete();
    assert_eq!(ground.server.log(), [format!("GET {LIST}")]);

    // Of another file, and longer than the right one.
    for part in [vec![7; 1000], vec![7; 500_000]] {
        let ground = Ground::new().await;
        ground.seed("k3s.part", &part);
        ground.fetch().await.unwrap();
        ground.assert_complete();
        let from = format!("GET {FILE} from {}", part.len());
        assert_eq!(ground.server.log(), [format!("GET {LIST}"), from, format!("GET {FILE}")]);
    }
}

#[tokio::test]
async fn a_wrong_digest_names_both_and_keeps_nothing() {
    let ground = Ground::new().await;
    ground.server.answer(FILE, [Answer::Other(b"evil".to_vec())]);
    let error = ground.fetch().await.unwrap_err();
    let (base, got, want) = (&ground.server.base, sha256(b"evil"), sha256(&binary()));
    assert_eq!(error.to_string(), format!("{base}{FILE}: sha256 is {got}, but {base}{LIST} says {want}"));
    assert_eq!(ground.files(), Vec::<String>::new());
    assert_eq!(ground.server.log().len(), 2, "another try would not help");

    // A list that a person put there is named as what it is.
    ground.seed("sha256sum-amd64.txt", format!("{}  k3s\n", "b".repeat(64)).as_bytes());
    let error = ground.fetch().await.unwrap_err().to_string();
    let list = ground.at("sha256sum-amd64.txt");
    assert_eq!(error, format!("{base}{FILE}: sha256 is {want}, but {} says {}", list.display(), "b".repeat(64)));
    assert_eq!(ground.files(), ["sha256sum-amd64.txt"]);
}

#[tokio::test]
async fn a_list_without_the_asset_or_a_page_instead_of_it_is_told() {
    for answer in ["<html><title>Log in</title></html>".to_owned(), format!("{}  k3s-arm64\n", "a".repeat(64))] {
        let ground = Ground::new().await;
        ground.server.answer(LIST, [Answer::Other(answer.into_bytes())]);
        let error = ground.fetch().await.unwrap_err();
        assert_eq!(error.to_string(), format!("{}{LIST}: no sha256 for k3s in it", ground.server.base));
        assert_eq!(ground.files(), Vec::<String>::new());
        assert_eq!(ground.server.log().len(), 1);
    }
}

#[tokio::test]
async fn nobody_there_is_told_after_three_tries() {
    let ground = Ground::new().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let artifact = Artifact::k3s("v1.36.5+k3s1", K3sArch::Amd64, &format!("http://{closed}"));
    let error = ground.store.fetch(&artifact, &ground.download, &|_, _| {}).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("http://{closed}{LIST}: ")), "{text}");
    assert!(error.hint().unwrap().contains("`mirrors.k3s`"));
}

#[tokio::test]
async fn two_at_once_download_it_once() {
    let ground = Ground::new().await;
    let (one, two) = tokio::join!(ground.fetch(), ground.fetch());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.downloaded != two.downloaded, "{one:?} {two:?}");
    ground.assert_complete();
    assert_eq!(ground.server.log(), [format!("GET {LIST}"), format!("GET {FILE}")]);
}

#[tokio::test]
async fn a_full_disk_of_the_operators_machine_is_named() {
    let ground = Ground::new().await;
    fs::create_dir_all(ground.at("")).unwrap();
    std::os::unix::fs::symlink("/dev/full", ground.at("k3s.part")).unwrap();
    let error = ground.fetch().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: no space left on this machine for the download: No space left on device (os error 28)",
            ground.at("k3s.part").display()
        )
    );
    assert_eq!(ground.files(), ["k3s.sha256"]);
}

#[tokio::test]
async fn names_that_would_leave_the_cache_are_refused() {
    let ground = Ground::new().await;
    let artifact = Artifact { version: "../..".into(), ..ground.artifact.clone() };
    let error = ground.store.fetch(&artifact, &ground.download, &|_, _| {}).await.unwrap_err();
    assert!(error.to_string().ends_with("`../..` cannot be the name of a file or folder"), "{error}");
}

/// A source of bytes that does what it is told, for what a real server does too rarely.
struct Scripted {
    steps: Mutex<Vec<Step>>,
    offsets: Mutex<Vec<u64>>,
}

#[derive(Clone)]
enum Step {
    /// So many bytes of so many more than that.
    Short(usize, u64),
    /// So many bytes, then an error.
    Broken(usize),
}

impl Scripted {
    fn new(steps: &[Step]) -> Self {
        Self { steps: Mutex::new(steps.iter().rev().cloned().collect()), offsets: Mutex::default() }
    }

    fn offsets(&self) -> Vec<u64> {
        self.offsets.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Download for Scripted {
    async fn get(&self, url: &str, offset: u64) -> Result<Body, FetchError> {
        if url.ends_with(".txt") {
            let list = Bytes::from(format!("{}  k3s\n", sha256(&binary())));
            return Ok(Body {
                length: Some(list.len() as u64),
                stream: Box::pin(futures::stream::once(async { Ok(list) })),
            });
        }
        self.offsets.lock().unwrap().push(offset);
        let step = self.steps.lock().unwrap().pop();
        let (bytes, length, end) = match step {
            Some(Step::Short(bytes, length)) => (bytes, Some(length), None),
            Some(Step::Broken(bytes)) => (bytes, None, Some(Err("reset by peer".to_owned()))),
            None => return Err(FetchError::Connection { url: url.into(), reason: "gone".into() }),
        };
        let chunks = [Ok(Bytes::from(vec![1; bytes]))].into_iter().chain(end);
        Ok(Body { length, stream: Box::pin(futures::stream::iter(chunks)) })
    }
}
