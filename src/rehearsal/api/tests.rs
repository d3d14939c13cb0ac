use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, EvictParams, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams, PropagationPolicy, WatchEvent, WatchParams,
};
use kube::core::Status;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::*;
use crate::rehearsal::{NodeInfo, admit_node, register_node, set_ready};

/// An API with a clock that is set by hand, and a client of it.
struct Bench {
    api: Api,
    client: Client,
    now: Arc<AtomicI64>,
}

fn bench() -> Bench {
    let now = Arc::new(AtomicI64::new(1_767_225_600_000));
    let clock = now.clone();
    let api = Api::new("v1.36.5+k3s1", Arc::new(move || clock.load(Ordering::Relaxed)));
    let served = api.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let api = served.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, kube::Error>(api.handle(Request::from_parts(parts, body)).await)
        }
    });
    Bench { api, client: Client::new(service, "default"), now }
}

impl Bench {
    fn pass(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::Relaxed);
    }

    fn all<K: Resource<DynamicType = ()>>(&self) -> kube::Api<K> {
        kube::Api::all(self.client.clone())
    }

    fn of<K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>>(&self) -> kube::Api<K> {
        kube::Api::namespaced(self.client.clone(), "default")
    }

    async fn node(&self, name: &str) {
        let info = NodeInfo { name: name.into(), internal: vec!["10.0.0.1".into()], ..NodeInfo::default() };
        register_node(&self.api, &info, "2026-01-01T00:00:00Z").unwrap();
        set_ready(&self.api, name, true, "KubeletReady", "", "2026-01-01T00:00:00Z");
    }

    /// The answer to a request as it is on the wire.
    async fn raw(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .unwrap();
        let response = self.api.handle(request).await;
        let code = response.status().as_u16();
        (code, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn status<T: std::fmt::Debug>(result: kube::Result<T>) -> Box<Status> {
    match result.unwrap_err() {
        kube::Error::Api(status) => status,
        other => panic!("{other:?}"),
    }
}

fn config_map(data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "namespace": "default" }, "data": data })
}

fn by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() }
}

fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "default" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } }, "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "web", "image": "web:1", "env": [{ "name": "A", "value": "1" }] }] } } },
    })
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing_and_what_is_left_out_goes() {
    let bench = bench();
    let maps: kube::Api<ConfigMap> = bench.of();
    let apply = |data: Value| Patch::Apply(config_map(data));
    let first = maps.patch("a", &by("xgenctl"), &apply(json!({ "x": "1", "y": "2" }))).await.unwrap();
    bench.pass(60_000);
    let again = maps.patch("a", &by("xgenctl"), &apply(json!({ "x": "1", "y": "2" }))).await.unwrap();
    assert_eq!(first, again, "neither resourceVersion nor managedFields change");

    // Another manager's field stays when ours goes; a field that only we owned is removed.
    maps.patch("a", &by("other"), &apply(json!({ "x": "1", "z": "3" }))).await.unwrap();
    let less = maps.patch("a", &by("xgenctl"), &apply(json!({}))).await.unwrap();
    let data: Vec<String> = less.data.unwrap().into_keys().collect();
    assert_eq!(data, ["x", "z"]);
}

#[tokio::test]
async fn drift_conflicts_and_force() {
    let bench = bench();
    let maps: kube::Api<ConfigMap> = bench.of();
    let ours = Patch::Apply(config_map(json!({ "x": "1", "y": "2" })));
    maps.patch("a", &by("xgenctl"), &ours).await.unwrap();
    // Somebody edits a field: he owns it from then on.
    let edit = Patch::Merge(json!({ "data": { "x": "edited" } }));
    maps.patch("a", &by("kubectl-edit"), &edit).await.unwrap();
    let refused = status(maps.patch("a", &by("xgenctl"), &ours).await);
    assert_eq!(
        (refused.code, refused.reason.as_str(), refused.message.as_str()),
        (
            409,
            "Conflict",
            "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1 at 2026-01-01T00:00:00Z: .data.x"
        )
    );
    let causes = refused.details.unwrap().causes;
    assert_eq!((causes[0].reason.as_str(), causes[0].field.as_str()), ("FieldManagerConflict", ".data.x"));

    let dry = PatchParams { dry_run: true, ..by("xgenctl").force() };
    let would = maps.patch("a", &dry, &ours).await.unwrap();
    assert_eq!(would.data.unwrap()["x"], "1");
    assert_eq!(maps.get("a").await.unwrap().data.unwrap()["x"], "edited", "a dry run changes nothing");

    maps.patch("a", &by("xgenctl").force(), &ours).await.unwrap();
    let mine = maps.get("a").await.unwrap();
    assert_eq!(mine.data.as_ref().unwrap()["x"], "1");
    let managers: Vec<String> = mine.managed_fields().iter().map(|m| m.manager.clone().unwrap()).collect();
    assert_eq!(managers, ["xgenctl"], "a manager that owns nothing any more is not listed");

    let others = Patch::Apply(config_map(json!({ "x": "9", "y": "9" })));
    let refused = status(maps.patch("a", &by("other"), &others).await);
    assert_eq!(refused.message, "Apply failed with 2 conflicts: conflicts with \"xgenctl\":\n- .data.x\n- .data.y");
    let nameless = status(maps.patch("a", &PatchParams::default(), &others).await);
    assert!(nameless.message.contains("fieldManager: Required value"), "{}", nameless.message);
}

#[tokio::test]
async fn lists_with_keys_are_merged_by_apply() {
    let bench = bench();
    let deployments: kube::Api<Deployment> = bench.of();
    deployments.patch("web", &by("xgenctl"), &Patch::Apply(deployment(1))).await.unwrap();
    let sidecar = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "template": { "spec": { "containers": [
            { "name": "web", "env": [{ "name": "B", "value": "2" }] }, { "name": "side", "image": "side:1" } ] } } },
    });
    deployments.patch("web", &by("injector"), &Patch::Apply(sidecar)).await.unwrap();
    let both = deployments.patch("web", &by("xgenctl"), &Patch::Apply(deployment(2))).await.unwrap();
    let spec = both.spec.unwrap();
    assert_eq!((spec.replicas, both.metadata.generation), (Some(2), Some(3)));
    let containers = spec.template.spec.unwrap().containers;
    let env: Vec<String> = containers[0].env.as_ref().unwrap().iter().map(|e| e.name.clone()).collect();
    assert_eq!((containers.len(), env), (2, vec!["A".to_owned(), "B".to_owned()]));

    // The injector leaves: its container and its variable go, ours stay.
    let empty = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" } });
    let left = deployments.patch("web", &by("injector"), &Patch::Apply(empty)).await.unwrap();
    let containers = left.spec.unwrap().template.spec.unwrap().containers;
    assert_eq!((containers.len(), containers[0].env.as_ref().unwrap().len()), (1, 1));
    assert_eq!(containers[0].image_pull_policy.as_deref(), Some("IfNotPresent"), "defaults stay");
    let again = deployments.patch("web", &by("xgenctl"), &Patch::Apply(deployment(2))).await.unwrap();
    assert_eq!(again.metadata.generation, left.metadata.generation, "defaults are no drift");
}

#[tokio::test]
async fn objects_are_created_read_replaced_and_deleted_as_the_real_server_does() {
    let bench = bench();
    let maps: kube::Api<ConfigMap> = bench.of();
    let object: ConfigMap = from(config_map(json!({ "x": "1" })));
    assert_eq!(status(maps.get("a").await).message, "configmaps \"a\" not found");
    let created = maps.create(&PostParams::default(), &object).await.unwrap();
    let twice = status(maps.create(&PostParams::default(), &object).await);
    assert_eq!((twice.code, twice.message.as_str()), (409, "configmaps \"a\" already exists"));

    let changed = ConfigMap { data: Some([("x".to_owned(), "2".to_owned())].into()), ..created.clone() };
    maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    let stale = status(maps.replace("a", &PostParams::default(), &changed).await);
    assert_eq!((stale.code, stale.reason.as_str()), (409, "Conflict"));
    assert!(stale.message.contains("the object has been modified"), "{}", stale.message);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(status(maps.delete("a", &DeleteParams::default()).await).code, 404);

    let elsewhere: kube::Api<ConfigMap> = kube::Api::namespaced(bench.client.clone(), "gone");
    let mut object = object;
    object.metadata.namespace = Some("gone".into());
    assert_eq!(
        status(elsewhere.create(&PostParams::default(), &object).await).message,
        "namespaces \"gone\" not found"
    );
    object.metadata.namespace = None;
    object.metadata.name = Some("Bad_Name".into());
    assert_eq!(status(maps.create(&PostParams::default(), &object).await).code, 422);

    let secrets: kube::Api<Secret> = bench.of();
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "password": "correct-horse" } });
    let stored = secrets.create(&PostParams::default(), &from(secret)).await.unwrap();
    assert_eq!(stored.data.unwrap()["password"].0, b"correct-horse");
    assert!(stored.string_data.is_none());

    let services: kube::Api<Service> = bench.of();
    let service = json!({ "metadata": { "name": "s" }, "spec": { "type": "NodePort", "ports": [{ "port": 80 }] } });
    let stored = services.create(&PostParams::default(), &from(service)).await.unwrap().spec.unwrap();
    assert!(stored.cluster_ip.is_some() && stored.ports.unwrap()[0].node_port.is_some());
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_and_discovery_tells_what_is_there() {
    let bench = bench();
    assert_eq!(bench.raw("GET", "/nope", "").await, (404, "404 page not found\n".into()));
    for path in ["/apis/nope.example/v1/things", "/api/v1/nodes/a/nope", "/api/v2/nodes", "/api/v1/pods/a"] {
        let (code, body) = bench.raw("GET", path, "").await;
        assert_eq!(code, 404, "{path}");
        assert!(body.contains("the server could not find the requested resource"), "{path}: {body}");
    }
    assert_eq!(bench.raw("POST", "/version", "{}").await.0, 405);
    assert_eq!(bench.raw("POST", "/api/v1/namespaces", "{]").await.0, 400);
    assert_eq!(bench.raw("GET", "/readyz", "").await, (200, "ok".into()));

    let version = bench.client.apiserver_version().await.unwrap();
    assert_eq!((version.minor.as_str(), version.git_version.as_str()), ("36", "v1.36.5+k3s1"));
    let groups = bench.client.list_api_groups().await.unwrap();
    let autoscaling = groups.groups.iter().find(|g| g.name == "autoscaling").unwrap();
    assert_eq!(autoscaling.preferred_version.as_ref().unwrap().version, "v2");
    let core = bench.client.list_core_api_resources("v1").await.unwrap();
    assert!(core.resources.iter().any(|r| r.name == "pods/eviction"));
}

#[tokio::test]
async fn a_custom_resource_definition_makes_its_kind_known() {
    let bench = bench();
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "gateways.net.example" },
        "spec": { "group": "net.example", "scope": "Namespaced",
            "names": { "kind": "Gateway", "plural": "gateways" },
            "versions": [{ "name": "v1beta1", "served": true, "storage": false },
                         { "name": "v1", "served": true, "storage": true }] },
    });
    let path = "/apis/net.example/v1/namespaces/default/gateways";
    assert_eq!(bench.raw("GET", path, "").await.0, 404);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(bench.raw("POST", definitions, &crd.to_string()).await.0, 201);
    bench.pass(200);
    let (_, body) = bench.raw("GET", &format!("{definitions}/gateways.net.example"), "").await;
    assert!(body.contains("Established"), "{body}");
    let kind = GroupVersionKind::gvk("net.example", "v1beta1", "Gateway");
    let gateways: kube::Api<DynamicObject> = kube::Api::namespaced_with(
        bench.client.clone(),
        "default",
        &ApiResource::from_gvk_with_plural(&kind, "gateways"),
    );
    let gateway = json!({ "apiVersion": "net.example/v1beta1", "kind": "Gateway", "metadata": { "name": "g" },
                          "spec": { "ports": [{ "port": 1 }] } });
    gateways.patch("g", &by("xgenctl"), &Patch::Apply(gateway)).await.unwrap();
    let (code, body) = bench.raw("GET", &format!("{path}/g"), "").await;
    assert!(code == 200 && body.contains("\"apiVersion\":\"net.example/v1\""), "{body}");
    bench.raw("DELETE", &format!("{definitions}/gateways.net.example"), "").await;
    assert_eq!(bench.raw("GET", path, "").await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_of_every_change_of_what_it_selects() {
    let bench = bench();
    let maps: kube::Api<ConfigMap> = bench.of();
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("app=x").timeout(30);
    let mut watch = maps.watch(&params, &version).await.unwrap().boxed();
    let labelled = |label: &str, value: &str| {
        Patch::Merge(json!({ "metadata": { "labels": { "app": label } }, "data": { "x": value } }))
    };
    maps.create(&PostParams::default(), &from(config_map(json!({})))).await.unwrap();
    maps.patch("a", &by("t"), &labelled("x", "1")).await.unwrap();
    maps.patch("a", &by("t"), &labelled("x", "2")).await.unwrap();
    maps.patch("a", &by("t"), &labelled("y", "2")).await.unwrap();
    maps.patch("a", &by("t"), &labelled("x", "3")).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = watch.try_next().await.unwrap() {
        seen.push(match event {
            WatchEvent::Added(o) => format!("added {:?}", o.data.unwrap()["x"]),
            WatchEvent::Modified(o) => format!("modified {:?}", o.data.unwrap()["x"]),
            WatchEvent::Deleted(o) => format!("deleted {:?}", o.data.unwrap()["x"]),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(seen, ["added \"1\"", "modified \"2\"", "deleted \"2\"", "added \"3\"", "deleted \"3\""]);

    // What a kept cluster had changed before it was kept is no longer known.
    let kept = serde_json::from_value(serde_json::to_value(bench.api.snapshot()).unwrap()).unwrap();
    let kept = Api::restore(kept, Arc::new(|| 0));
    let path = format!("/api/v1/configmaps?watch=true&resourceVersion={version}");
    let answer = kept.handle(Request::get(path).body(Bytes::new()).unwrap()).await;
    let body = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(body.contains("\"reason\":\"Expired\"") && body.contains("410"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_sees_what_controllers_do_while_nobody_asks() {
    let start = tokio::time::Instant::now();
    let clock = move || i64::try_from(start.elapsed().as_millis()).unwrap();
    let api = Api::new("v1.36.5+k3s1", Arc::new(clock));
    let bench = Bench { api, ..bench() };
    bench.node("n1").await;
    bench.raw("POST", "/apis/apps/v1/namespaces/default/deployments", &deployment(2).to_string()).await;
    let request = Request::get("/api/v1/pods?watch=true&timeoutSeconds=10").body(Bytes::new()).unwrap();
    let answer = bench.api.handle(request).await;
    let body = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(body.lines().filter(|l| l.contains("\"ADDED\"")).count(), 2, "{body}");
}

#[tokio::test]
async fn finalizers_hold_and_owners_take_what_they_own_with_them() {
    let bench = bench();
    let maps: kube::Api<ConfigMap> = bench.of();
    let mut owner: ConfigMap = from(config_map(json!({})));
    owner.metadata.finalizers = Some(vec!["example/hold".into()]);
    let owner = maps.create(&PostParams::default(), &owner).await.unwrap();
    let owned = json!({ "metadata": { "name": "b", "ownerReferences": [
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": owner.uid().unwrap() }] } });
    maps.create(&PostParams::default(), &from(owned.clone())).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("a", &by("t"), &free).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
    assert!(maps.get_opt("b").await.unwrap().is_none());

    let owner = maps.create(&PostParams::default(), &from(config_map(json!({})))).await.unwrap();
    let mut orphan: ConfigMap = from(owned);
    orphan.metadata.owner_references.as_mut().unwrap()[0].uid = owner.uid().unwrap();
    maps.create(&PostParams::default(), &orphan).await.unwrap();
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    maps.delete("a", &params).await.unwrap();
    assert!(maps.get_opt("b").await.unwrap().is_some());
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().fields("metadata.name=b")).await.unwrap();
    assert!(maps.get_opt("b").await.unwrap().is_none());
    assert!(maps.get_opt("kube-root-ca.crt").await.unwrap().is_some());
}

#[tokio::test]
async fn a_namespace_is_furnished_and_goes_with_its_content_or_by_finalize() {
    let bench = bench();
    let spaces: kube::Api<Namespace> = bench.all();
    let space: Namespace = from(json!({ "metadata": { "name": "site" } }));
    spaces.create(&PostParams::default(), &space).await.unwrap();
    let accounts: kube::Api<ServiceAccount> = kube::Api::namespaced(bench.client.clone(), "site");
    assert_eq!(accounts.get("default").await.unwrap().name_any(), "default");
    spaces.delete("site", &DeleteParams::default()).await.unwrap();
    let going = spaces.get("site").await.unwrap();
    assert_eq!(going.status.unwrap().phase.as_deref(), Some("Terminating"));
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(bench.client.clone(), "site");
    let late = status(maps.create(&PostParams::default(), &from(json!({ "metadata": { "name": "x" } }))).await);
    assert!(late.code == 403 && late.message.contains("because it is being terminated"), "{}", late.message);
    bench.pass(2_000);
    assert!(spaces.get_opt("site").await.unwrap().is_none());
    assert!(accounts.get_opt("default").await.unwrap().is_none());

    // Content that never goes holds it; finalize lets it go.
    spaces.create(&PostParams::default(), &space).await.unwrap();
    let held = json!({ "metadata": { "name": "x", "finalizers": ["example/never"] } });
    maps.create(&PostParams::default(), &from(held)).await.unwrap();
    spaces.delete("site", &DeleteParams::default()).await.unwrap();
    bench.pass(60_000);
    let stuck = spaces.get("site").await.unwrap();
    assert!(stuck.metadata.deletion_timestamp.is_some());
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "site" }, "spec": { "finalizers": [] } });
    assert_eq!(bench.raw("PUT", "/api/v1/namespaces/site/finalize", &body.to_string()).await.0, 200);
    assert!(spaces.get_opt("site").await.unwrap().is_none());
}

#[tokio::test]
async fn workloads_get_pods_that_move_when_evicted_unless_a_budget_forbids_it() {
    let bench = bench();
    bench.node("n1").await;
    bench.node("n2").await;
    let deployments: kube::Api<Deployment> = bench.of();
    let pods: kube::Api<Pod> = bench.of();
    deployments.create(&PostParams::default(), &from(deployment(2))).await.unwrap();
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    bench.pass(3_000);
    let ready = |d: Deployment| d.status.and_then(|s| s.ready_replicas).unwrap_or(0);
    assert_eq!(ready(deployments.get("web").await.unwrap()), 2);
    let on = |node: &str| ListParams::default().fields(&format!("spec.nodeName={node}")).labels("app=web");
    assert_eq!(pods.list(&on("n1")).await.unwrap().items.len(), 1, "they are spread");

    let mut daemon = deployment(0);
    daemon["kind"] = json!("DaemonSet");
    daemon["spec"] = json!({ "selector": { "matchLabels": { "app": "d" } }, "template": {
        "metadata": { "labels": { "app": "d" } }, "spec": { "containers": [{ "name": "d", "image": "d" }] } } });
    let daemons: kube::Api<DaemonSet> = bench.of();
    daemons.create(&PostParams::default(), &from(daemon)).await.unwrap();
    bench.pass(3_000);
    assert_eq!(daemons.get("web").await.unwrap().status.unwrap().number_ready, 2);

    let budgets: kube::Api<PodDisruptionBudget> = bench.of();
    let budget = json!({ "metadata": { "name": "web" }, "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } } });
    budgets.create(&PostParams::default(), &from(budget)).await.unwrap();
    let nodes: kube::Api<Node> = bench.all();
    nodes.cordon("n1").await.unwrap();
    let names: Vec<String> =
        pods.list(&ListParams::default().labels("app=web")).await.unwrap().iter().map(|p| p.name_any()).collect();
    pods.evict(&names[0], &EvictParams::default()).await.unwrap();
    let refused = status(pods.evict(&names[1], &EvictParams::default()).await);
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (429, "Cannot evict pod as it would violate the pod's disruption budget.")
    );
    assert_eq!(ready(deployments.get("web").await.unwrap()), 2, "the pod takes a moment to end");
    bench.pass(1_000);
    assert_eq!(ready(deployments.get("web").await.unwrap()), 1);
    bench.pass(3_000);
    assert_eq!(ready(deployments.get("web").await.unwrap()), 2);
    pods.evict(&names[1], &EvictParams::default()).await.unwrap();
    bench.pass(4_000);
    assert_eq!(pods.list(&on("n1")).await.unwrap().items.len(), 0, "a cordoned node gets no new pods");
    assert_eq!(pods.list(&on("n2")).await.unwrap().items.len(), 2);

    nodes.delete("n2", &DeleteParams::default()).await.unwrap();
    bench.pass(3_000);
    let pending = pods.list(&ListParams::default().labels("app=web")).await.unwrap();
    assert!(pending.iter().all(|p| p.status.as_ref().unwrap().phase.as_deref() == Some("Pending")));
    nodes.uncordon("n1").await.unwrap();
    bench.pass(3_000);
    assert_eq!(ready(deployments.get("web").await.unwrap()), 2);
    deployments.delete("web", &DeleteParams::default()).await.unwrap();
    bench.pass(2_000);
    assert!(pods.list(&ListParams::default().labels("app=web")).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn taints_are_merged_by_key_and_status_is_written_apart() {
    let bench = bench();
    bench.node("n1").await;
    let nodes: kube::Api<Node> = bench.all();
    let taint = |effect: &str| Patch::Strategic(json!({ "spec": { "taints": [{ "key": "gpu", "effect": effect }] } }));
    nodes.patch("n1", &by("t"), &taint("NoSchedule")).await.unwrap();
    let tainted = nodes.patch("n1", &by("t"), &taint("NoExecute")).await.unwrap();
    let taints = tainted.spec.unwrap().taints.unwrap();
    assert_eq!((taints.len(), taints[0].effect.as_str()), (1, "NoExecute"));
    let through = Patch::Merge(json!({ "status": { "phase": "Odd" }, "metadata": { "labels": { "a": "b" } } }));
    let node = nodes.patch("n1", &by("t"), &through).await.unwrap();
    assert_eq!((node.labels()["a"].as_str(), node.status.as_ref().unwrap().phase.as_deref()), ("b", None));
    let node = nodes.patch_status("n1", &by("t"), &through).await.unwrap();
    assert_eq!(node.status.unwrap().phase.as_deref(), Some("Odd"));
}

#[tokio::test]
async fn a_node_is_known_by_its_password() {
    let bench = bench();
    admit_node(&bench.api, "n1", "secret-one").unwrap();
    admit_node(&bench.api, "n1", "secret-one").unwrap();
    assert!(admit_node(&bench.api, "n1", "secret-two").unwrap_err().starts_with("Node password rejected"));
    let secrets: kube::Api<Secret> = kube::Api::namespaced(bench.client.clone(), "kube-system");
    secrets.delete("n1.node-password.k3s", &DeleteParams::default()).await.unwrap();
    admit_node(&bench.api, "n1", "secret-two").unwrap();
}

#[tokio::test]
async fn a_dry_run_leaves_no_trace() {
    let bench = bench();
    let before = serde_json::to_value(bench.api.snapshot()).unwrap();
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" },
                          "spec": { "type": "NodePort", "ports": [{ "port": 80 }] } });
    let services: kube::Api<Service> = bench.of();
    let params = PatchParams { dry_run: true, ..by("xgenctl") };
    let would = services.patch("s", &params, &Patch::Apply(service.clone())).await.unwrap();
    assert!(would.spec.unwrap().cluster_ip.is_some());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    services.create(&dry, &from(service)).await.unwrap();
    let spaces: kube::Api<Namespace> = bench.all();
    spaces.delete("default", &DeleteParams { dry_run: true, ..DeleteParams::default() }).await.unwrap();
    assert_eq!(serde_json::to_value(bench.api.snapshot()).unwrap(), before);
}
