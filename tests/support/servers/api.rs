//! The cluster's API, asked directly and not through xgenctl: what it says is what xgenctl is judged by.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::{Certificate, Client, Identity, Method, StatusCode};
use serde_json::Value;

use super::server::Server;

/// A client with the kubeconfig of a server.
pub struct Api {
    runtime: tokio::runtime::Runtime,
    client: Client,
    url: String,
}

impl Api {
    /// Reads the kubeconfig on a server; requests go to that server's address.
    pub fn of(server: &Server) -> Self {
        // Another test of this process may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig: Value =
            serde_yaml::from_slice(&server.read("/etc/rancher/k3s/k3s.yaml")).expect("the kubeconfig is YAML");
        let pem = |text: &Value| {
            let text = text.as_str().expect("certificate data in the kubeconfig");
            base64::engine::general_purpose::STANDARD.decode(text).expect("base64 in the kubeconfig")
        };
        let authority = pem(&kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]);
        let user = &kubeconfig["users"][0]["user"];
        let identity = [pem(&user["client-certificate-data"]), pem(&user["client-key-data"])].concat();
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([Certificate::from_pem(&authority).expect("the authority's certificate")])
            .identity(Identity::from_pem(&identity).expect("the client's certificate"))
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, client, url: format!("https://{}:6443", server.ip) }
    }

    /// One request: status code and answer.
    pub fn ask(&self, method: Method, path: &str) -> (StatusCode, Value) {
        self.runtime.block_on(async {
            let answer = self.client.request(method, format!("{}{path}", self.url)).send().await;
            let answer = answer.unwrap_or_else(|e| panic!("{path}: {e:?}"));
            let status = answer.status();
            let body = answer.bytes().await.unwrap_or_else(|e| panic!("{path}: {e:?}"));
            (status, serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body:?}")))
        })
    }

    /// Every node of the cluster and whether it is Ready.
    pub fn nodes(&self) -> BTreeMap<String, bool> {
        let (status, list) = self.ask(Method::GET, "/api/v1/nodes");
        assert_eq!(status, StatusCode::OK, "{list}");
        let is_ready = |node: &Value| {
            let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        let name = |node: &Value| node["metadata"]["name"].as_str().expect("a name").to_owned();
        list["items"].as_array().expect("a list").iter().map(|node| (name(node), is_ready(node))).collect()
    }

    /// Waits until the nodes are exactly these, Ready or not.
    ///
    /// # Panics
    /// Where they are not within two minutes.
    #[track_caller]
    pub fn wait_for_nodes(&self, expected: &[(&str, bool)]) {
        let expected: BTreeMap<String, bool> =
            expected.iter().map(|(name, ready)| ((*name).to_owned(), *ready)).collect();
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let nodes = self.nodes();
            if nodes == expected {
                return;
            }
            assert!(Instant::now() < end, "the nodes are {nodes:?}, expected {expected:?}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}
