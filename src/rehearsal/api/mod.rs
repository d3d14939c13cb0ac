//! A Kubernetes API server that exists only in memory, at the level of HTTP.
//!
//! It knows nothing of hosts and of simulated time: [`Api::handle`] answers a request, whoever sends it. A rehearsal puts
//! it behind the tunnel of a simulated server; a test program can serve it over TLS. What it does not know it answers as
//! a real server answers an unknown path, never with success.

mod apply;
mod controllers;
mod defaults;
mod discovery;
mod fields;
mod kinds;
mod patch;
mod selector;
mod status;
mod store;
mod verbs;
mod watch;
mod workloads;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

pub use apply::{Writer, track_update};
pub use kinds::Kind;
pub use selector::Selector;
pub use status::{ApiResult, Failure};
pub use store::{Store, key_of, object_key, timestamp};
pub use verbs::{Options, PatchKind};

/// The body of an answer: whole, or the lines of a watch.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Milliseconds since 1970, whatever clock that is.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The simulated API server of one cluster. Cloning shares it.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    store: Mutex<Store>,
    clock: Clock,
    changed: tokio::sync::watch::Sender<u64>,
}

/// The namespaces of a fresh cluster.
const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

impl Api {
    /// The API of a fresh cluster; `version` is what `/version` says, such as `v1.36.5+k3s1`.
    pub fn new(version: &str, clock: Clock) -> Self {
        let mut store = Store::new(version, clock());
        if let Some(kind) = kinds::find(&store, "", "v1", "namespaces") {
            for name in NAMESPACES {
                let mut namespace = json!({ "metadata": { "name": name } });
                // Filling in a namespace cannot fail.
                let _ = defaults::fill(&mut store, &kind, None, &mut namespace);
                store.ensure(&kind, namespace.clone());
                controllers::written(&mut store, "/namespaces", None, &namespace);
            }
        }
        Self::restore(store, clock)
    }

    /// The API of a cluster whose objects were kept.
    pub fn restore(store: Store, clock: Clock) -> Self {
        let (changed, _) = tokio::sync::watch::channel(0);
        Self { inner: Arc::new(Inner { store: Mutex::new(store), clock, changed }) }
    }

    /// The objects, to be kept.
    pub fn snapshot(&self) -> Store {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.inner.store.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Works on the store at the present time: controllers first do what is due; watches are told afterwards.
    pub fn look<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let (result, before, after) = {
            let mut store = self.lock();
            let before = (store.resource_version(), store.next_due());
            controllers::settle(&mut store, (self.inner.clock)());
            let result = work(&mut store);
            (result, before, (store.resource_version(), store.next_due()))
        };
        if before != after {
            self.inner.changed.send_replace(after.0);
        }
        result
    }

    /// Tells of every change.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// How long from now until `due_ms`; an hour where nothing is due.
    fn until(&self, due_ms: Option<i64>) -> Duration {
        let wait = due_ms.map_or(3_600_000, |due| due - (self.inner.clock)());
        Duration::from_millis(u64::try_from(wait).unwrap_or(0).max(1))
    }

    /// When the controllers have something to do next, milliseconds since 1970.
    pub fn next_due(&self) -> Option<i64> {
        self.lock().next_due()
    }

    /// Creates an object as a component of the cluster would, under its own field manager.
    ///
    /// # Errors
    /// What a request for the same would be answered with.
    pub fn create_as(&self, manager: &str, api_version: &str, plural: &str, object: Value) -> ApiResult<Value> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.look(|store| {
            let kind = kinds::find(store, group, version, plural).ok_or_else(Failure::no_such_path)?;
            let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
            let options = Options { manager: manager.to_owned(), ..Options::default() };
            let mut request = verbs::Request {
                store,
                kind,
                version: version.to_owned(),
                namespace,
                subresource: String::new(),
                options,
            };
            request.create(object)
        })
    }

    /// Changes an object as a component of the cluster would; `false` where it is not there or stays as it is.
    pub fn modify_as(&self, manager: &str, kind_key: &str, key: &str, change: impl FnOnce(&mut Value)) -> bool {
        self.look(|store| {
            let Some(before) = store.get(kind_key, key).cloned() else { return false };
            let (group, plural) = kind_key.split_once('/').unwrap_or(("", kind_key));
            let Some(kind) = kinds::all(store).into_iter().find(|k| k.group == group && k.plural == plural) else {
                return false;
            };
            let mut after = before.clone();
            change(&mut after);
            if before == after {
                return false;
            }
            let time = store.timestamp();
            let api_version = kind.api_version(kind.versions.first().map(String::as_str).unwrap_or("v1"));
            let writer = Writer { manager, api_version: &api_version, subresource: "", time: &time };
            track_update(&kind, Some(&before), &mut after, &writer);
            let stored = store.put(kind_key, after);
            controllers::written(store, kind_key, Some(&before), &stored);
            true
        })
    }

    /// Has the controllers look at nodes again, after one became ready or ceased to be.
    pub fn nodes_changed(&self) {
        self.look(controllers::node_changed);
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Body> {
        match self.route(&request) {
            Ok(answer) => answer,
            Err(failure) => json_response(failure.code, &failure.body()),
        }
    }

    fn route(&self, request: &Request<Bytes>) -> ApiResult<Response<Body>> {
        let path: Vec<String> = request.uri().path().split('/').filter(|s| !s.is_empty()).map(percent_decode).collect();
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let found = |value: Option<Value>| value.ok_or_else(Failure::no_such_path);
        let is_get = request.method() == Method::GET;
        let document = match parts.as_slice() {
            ["version"] => Some(self.look(|s| discovery::version(s))),
            ["livez" | "readyz" | "healthz", ..] if is_get => return Ok(text_response("ok")),
            ["api"] => Some(discovery::core_versions()),
            ["apis"] => Some(self.look(|s| discovery::group_list(s))),
            ["apis", group] => Some(found(self.look(|s| discovery::one_group(s, group)))?),
            ["api", version] => Some(found(self.look(|s| discovery::resources(s, "", version)))?),
            ["apis", group, version] => Some(found(self.look(|s| discovery::resources(s, group, version)))?),
            _ => None,
        };
        match (document, parts.as_slice()) {
            (Some(document), _) if is_get => Ok(json_response(200, &document)),
            (Some(_), _) => Err(Failure::method()),
            (None, ["api", version, rest @ ..]) => self.resource(request, "", version, rest),
            (None, ["apis", group, version, rest @ ..]) => self.resource(request, group, version, rest),
            _ => Ok(Response::builder()
                .status(StatusCode::NOT_FOUND)
                .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
                .body(whole("404 page not found\n"))
                .unwrap_or_default_body()),
        }
    }

    fn resource(
        &self,
        request: &Request<Bytes>,
        group: &str,
        version: &str,
        rest: &[&str],
    ) -> ApiResult<Response<Body>> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let (namespace, rest) = match rest {
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
            _ => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, ""),
            [plural, name] => (*plural, Some(*name), ""),
            [plural, name, subresource] => (*plural, Some(*name), *subresource),
            _ => return Err(Failure::no_such_path()),
        };
        let kind = self.look(|s| kinds::find(s, group, version, plural)).ok_or_else(Failure::no_such_path)?;
        if !kind.namespaced && namespace.is_some() || kind.namespaced && namespace.is_none() && name.is_some() {
            return Err(Failure::no_such_path());
        }
        let known = match (kind.key().as_str(), subresource) {
            (_, "") => true,
            (_, "status") => kind.status,
            ("/pods", "eviction" | "log") | ("/namespaces", "finalize") => true,
            _ => false,
        };
        if !known {
            return Err(Failure::no_such_path());
        }
        let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"))?;
        if *request.method() == Method::GET && query.is_true("watch") && subresource.is_empty() {
            return self.watch(kind, version, namespace, name, selector, &query);
        }
        let body = || parse_body(request);
        let mut options = query.options(request)?;
        if *request.method() == Method::DELETE && !request.body().is_empty() {
            let given = body()?;
            options.propagation = given["propagationPolicy"].as_str().map(str::to_owned).or(options.propagation);
            options.grace_seconds = given["gracePeriodSeconds"].as_i64().or(options.grace_seconds);
            options.uid = given["preconditions"]["uid"].as_str().map(str::to_owned);
            options.dry_run |= given["dryRun"].as_array().is_some_and(|all| all.iter().any(|d| d == "All"));
        }
        self.look(|store| {
            let mut on = verbs::Request {
                store,
                kind,
                version: version.to_owned(),
                namespace,
                subresource: subresource.to_owned(),
                options,
            };
            match (request.method().as_str(), name, subresource) {
                ("GET", Some(name), "log") => {
                    on.get(name)?;
                    Ok(text_response(""))
                }
                ("GET", Some(name), "" | "status") => Ok(json_response(200, &on.get(name)?)),
                ("GET", None, "") => Ok(json_response(200, &on.list(&selector))),
                ("POST", None, "") => Ok(json_response(201, &on.create(body()?)?)),
                ("POST", Some(name), "eviction") => Ok(json_response(201, &on.evict(name, &body()?)?)),
                ("PUT", Some(name), "finalize") => Ok(json_response(200, &on.finalize(name, &body()?)?)),
                ("PUT", Some(name), "" | "status") => Ok(json_response(200, &on.replace(name, body()?)?)),
                ("PATCH", Some(name), "" | "status") => {
                    let (object, created) = on.patch(name, patch_kind(request)?, &body()?)?;
                    Ok(json_response(if created { 201 } else { 200 }, &object))
                }
                ("DELETE", Some(name), "") => {
                    let (object, gone) = on.delete(name)?;
                    if gone && on.kind.key() != "/pods" {
                        let uid = &object["metadata"]["uid"];
                        let details =
                            json!({ "name": name, "group": on.kind.group, "kind": on.kind.plural, "uid": uid });
                        let done = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                                           "details": details });
                        return Ok(json_response(200, &done));
                    }
                    Ok(json_response(200, &object))
                }
                ("DELETE", None, "") => Ok(json_response(200, &on.delete_collection(&selector)?)),
                _ => Err(Failure::method()),
            }
        })
    }

    fn watch(
        &self,
        kind: Kind,
        version: &str,
        namespace: Option<String>,
        name: Option<&str>,
        selector: Selector,
        query: &Query,
    ) -> ApiResult<Response<Body>> {
        if name.is_some() {
            return Err(Failure::method());
        }
        let from = match query.get("resourceVersion") {
            None | Some("" | "0") => None,
            Some(text) => Some(text.parse().map_err(|_| {
                Failure::bad_request(format!("resourceVersion: Invalid value: {text:?}: must be a number"))
            })?),
        };
        let seconds = query.get("timeoutSeconds").and_then(|s| s.parse().ok()).unwrap_or(1800);
        let timeout = Duration::from_secs(seconds);
        let watch = watch::Watch { kind, version: version.to_owned(), namespace, selector, from, timeout };
        let lines = watch::stream(self.clone(), watch).map(|line| Ok(Frame::data(line)));
        Ok(Response::builder()
            .header(header::CONTENT_TYPE, "application/json")
            .body(StreamBody::new(lines).boxed_unsync())
            .unwrap_or_default_body())
    }
}

/// Building a response from constants cannot fail; this says so in one place.
trait OrDefaultBody {
    fn unwrap_or_default_body(self) -> Response<Body>;
}

impl OrDefaultBody for Result<Response<Body>, http::Error> {
    fn unwrap_or_default_body(self) -> Response<Body> {
        self.unwrap_or_else(|_| Response::new(whole("")))
    }
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// An answer in JSON.
pub fn json_response(code: u16, value: &Value) -> Response<Body> {
    Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json")
        .body(whole(value.to_string()))
        .unwrap_or_default_body()
}

fn text_response(text: &'static str) -> Response<Body> {
    Response::builder().header(header::CONTENT_TYPE, "text/plain").body(whole(text)).unwrap_or_default_body()
}

/// Bodies are JSON, or YAML (which includes JSON) for server-side apply.
fn parse_body(request: &Request<Bytes>) -> ApiResult<Value> {
    let text = std::str::from_utf8(request.body())
        .map_err(|_| Failure::bad_request("the object provided is unrecognized: not UTF-8"))?;
    serde_json::from_str(text)
        .or_else(|_| serde_yaml::from_str(text))
        .map_err(|error| Failure::bad_request(format!("error decoding the request's body: {error}")))
}

fn patch_kind(request: &Request<Bytes>) -> ApiResult<PatchKind> {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match given.split(';').next().unwrap_or_default().trim() {
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        other => Err(Failure::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - {other:?} is no kind of patch"),
            json!({}),
        )),
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let coded = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        out.push(coded.unwrap_or(bytes[at]));
        at += if coded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let decode = |part: &str| percent_decode(&part.replace('+', " "));
        Self(
            text.split('&')
                .filter(|part| !part.is_empty())
                .map(|part| part.split_once('=').unwrap_or((part, "")))
                .map(|(key, value)| (decode(key), decode(value)))
                .collect(),
        )
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn is_true(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1" | ""))
    }

    fn options(&self, request: &Request<Bytes>) -> ApiResult<Options> {
        let dry_run = match self.get("dryRun") {
            None | Some("") => false,
            Some("All") => true,
            Some(other) => {
                return Err(Failure::bad_request(format!(
                    "dryRun: Unsupported value: {other:?}: supported values: \"All\""
                )));
            }
        };
        let is_apply = *request.method() == Method::PATCH && patch_kind(request)? == PatchKind::Apply;
        let given = self.get("fieldManager").filter(|m| !m.is_empty()).map(str::to_owned);
        let manager = match given {
            Some(manager) => manager,
            None if is_apply => {
                return Err(Failure::bad_request(
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                ));
            }
            None => {
                let agent = request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok());
                agent.and_then(|a| a.split('/').next()).filter(|a| !a.is_empty()).unwrap_or("unknown").to_owned()
            }
        };
        Ok(Options {
            dry_run,
            manager,
            force: self.is_true("force"),
            propagation: self.get("propagationPolicy").map(str::to_owned),
            grace_seconds: self.get("gracePeriodSeconds").and_then(|s| s.parse().ok()),
            uid: None,
        })
    }
}

#[cfg(test)]
mod tests;
