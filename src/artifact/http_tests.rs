use std::sync::Arc;

use futures::StreamExt as _;

use super::*;
use crate::artifact::testserver::{Answer, TestServer};

/// The environment of the child processes that the tests below start: which of them it is and what it fetches.
const CHILD: &str = "XGENCTL_HTTP_TEST_URL";

fn quick() -> HttpDownload {
    HttpDownload::direct(Limits { connect: Duration::from_secs(20), stall: Duration::from_millis(300) }).unwrap()
}

async fn read(download: &HttpDownload, url: &str, offset: u64) -> Result<(Option<u64>, Vec<u8>), String> {
    let Body { length, mut stream } = download.get(url, offset).await.map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok((length, bytes))
}

#[tokio::test]
async fn a_range_is_the_rest_of_the_file_with_and_without_the_servers_help() {
    let server = TestServer::start().await;
    let url = format!("{}/file", server.base);
    server.put("/file", b"0123456789");
    server.answer("/file", [Answer::Good, Answer::Good, Answer::NoRanges, Answer::Good]);
    let download = HttpDownload::direct(Limits::default()).unwrap();
    assert_eq!(read(&download, &url, 0).await.unwrap(), (Some(10), b"0123456789".to_vec()));
    assert_eq!(read(&download, &url, 4).await.unwrap(), (Some(6), b"456789".to_vec()));
    assert_eq!(read(&download, &url, 4).await.unwrap(), (Some(6), b"456789".to_vec()));
    assert_eq!(read(&download, &url, 11).await.unwrap_err(), format!("{url}: HTTP 416"));
    server.answer("/short", [Answer::Other(b"0123".to_vec())]);
    let short = format!("{}/short", server.base);
    assert_eq!(read(&download, &short, 11).await.unwrap_err(), format!("{short}: HTTP 416"));
}

#[tokio::test]
async fn statuses_stalls_and_refused_connections_are_told_with_the_address() {
    let server = TestServer::start().await;
    let url = format!("{}/file", server.base);
    server.put("/file", b"0123456789");
    server.answer("/file", [Answer::Status(503), Answer::StallAfter(4)]);
    let download = quick();
    assert_eq!(read(&download, &url, 0).await.unwrap_err(), format!("{url}: HTTP 503"));
    assert_eq!(read(&download, &url, 0).await.unwrap_err(), "no byte came for 0.3 s");
    // The port is free again once the listener is gone.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = download.get(&format!("http://user:hunter2@{closed}/x"), 0).await.err().unwrap();
    assert_eq!(error.to_string(), format!("http://{closed}/x: cannot connect: Connection refused (os error 111)"));
    assert!(error.is_transient());
}

#[test]
fn credentials_of_a_mirror_are_not_shown() {
    assert_eq!(without_credentials("https://me:a@b@mirror.example/x?y=@"), "https://mirror.example/x?y=@");
    assert_eq!(without_credentials("https://mirror.example/a@b"), "https://mirror.example/a@b");
    assert_eq!(without_credentials("mirror"), "mirror");
}

/// Runs the test `child` in a process of its own with the given environment and nothing else, and returns its answer.
fn in_child(url: &str, environment: &[(&str, &str)]) -> String {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "artifact::http::tests::child", "--nocapture", "--test-threads=1"])
        .env_clear()
        .env(CHILD, url)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some((_, answer)) = text.split_once("answer<<") else { panic!("{text}") };
    answer.split_once(">>").unwrap().0.to_owned()
}

/// Not a test of its own: what the tests below do in a process with another environment.
#[tokio::test]
async fn child() {
    let Ok(url) = std::env::var(CHILD) else { return };
    let download = HttpDownload::new().unwrap();
    let answer = match download.get(&url, 0).await {
        Ok(body) => format!("{} bytes", body.length.unwrap_or(0)),
        Err(error) => format!("{}{error}", if error.is_transient() { "transient: " } else { "" }),
    };
    println!("answer<<{answer}>>");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_come_from_the_environment() {
    let proxy = TestServer::start().await;
    proxy.put("http://mirror.invalid/file", b"via proxy");
    let direct = TestServer::start().await;
    direct.put("/file", b"direct");
    let environment = [("HTTP_PROXY", proxy.base.as_str()), ("NO_PROXY", "127.0.0.1")];
    assert_eq!(in_child("http://mirror.invalid/file", &environment), "9 bytes");
    assert_eq!(in_child(&format!("{}/file", direct.base), &environment), "6 bytes");
    assert_eq!(proxy.log(), ["GET http://mirror.invalid/file"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_against_the_roots_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, certificate.cert.pem()).unwrap();
    let other = folder.path().join("other.pem");
    let mut params = rcgen::CertificateParams::new(["other".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "other");
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&other, params.self_signed(&key).unwrap().pem()).unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();

    install_provider();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/file", listener.local_addr().unwrap());
    let server = TestServer::start().await;
    server.put("/file", b"over TLS");
    let plain = format!("{}/file", server.base);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(server.clone().serve(stream));
            }
        }
    });

    let path = |p: &std::path::Path| p.to_str().unwrap().to_owned();
    assert_eq!(in_child(&url, &[("SSL_CERT_FILE", &path(&roots))]), "8 bytes");
    assert_eq!(
        in_child(&url, &[("SSL_CERT_FILE", &path(&other))]),
        format!("{url}: invalid peer certificate: UnknownIssuer")
    );
    assert_eq!(
        in_child(&url, &[("SSL_CERT_FILE", &path(&empty))]),
        format!("{url}: this machine has no root certificates")
    );
    assert_eq!(in_child(&plain, &[("SSL_CERT_FILE", &path(&empty))]), "8 bytes");
}
