//! What the API fills in by itself, of the fields that later reads or diffs would show.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::status::{ApiResult, Failure};
use super::store::Store;

fn or(value: &mut Value, key: &str, default: Value) {
    if value[key].is_null() {
        value[key] = default;
    }
}

/// Moves `stringData` of a Secret into `data`.
pub fn encode_string_data(secret: &mut Value) {
    let Some(Value::Object(plain)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) else { return };
    for (key, value) in plain {
        secret["data"][key] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
    }
}

/// Completes an object before it is stored.
///
/// # Errors
/// 422 for the few invalid objects that are recognised.
pub fn fill(store: &mut Store, kind: &Kind, before: Option<&Value>, object: &mut Value) -> ApiResult<()> {
    match kind.key().as_str() {
        "/namespaces" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            if before.is_none() {
                object["spec"]["finalizers"] = json!(["kubernetes"]);
                object["status"]["phase"] = json!("Active");
            }
        }
        "/secrets" => {
            or(object, "type", json!("Opaque"));
            for (key, value) in object["data"].as_object().into_iter().flatten() {
                if value.as_str().is_none_or(|v| STANDARD.decode(v).is_err()) {
                    return Err(Failure::bad_request(format!(
                        "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data in data.{key}"
                    )));
                }
            }
        }
        "/services" => service(store, before, object),
        "/pods" => {
            pod_spec(&mut object["spec"]);
            if before.is_none() {
                or(&mut object["status"], "phase", json!("Pending"));
            }
        }
        "apps/deployments" => {
            let spec = &mut object["spec"];
            or(spec, "replicas", json!(1));
            or(spec, "revisionHistoryLimit", json!(10));
            or(spec, "progressDeadlineSeconds", json!(600));
            let rolling =
                json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } });
            or(spec, "strategy", rolling);
            template(kind, object)?;
        }
        "apps/statefulsets" => {
            let spec = &mut object["spec"];
            or(spec, "replicas", json!(1));
            or(spec, "revisionHistoryLimit", json!(10));
            or(spec, "podManagementPolicy", json!("OrderedReady"));
            or(spec, "updateStrategy", json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } }));
            template(kind, object)?;
        }
        "apps/daemonsets" => {
            let spec = &mut object["spec"];
            or(spec, "revisionHistoryLimit", json!(10));
            let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } });
            or(spec, "updateStrategy", rolling);
            template(kind, object)?;
        }
        "apiextensions.k8s.io/customresourcedefinitions" => {
            let spec = &object["spec"];
            let wanted = format!(
                "{}.{}",
                spec["names"]["plural"].as_str().unwrap_or_default(),
                spec["group"].as_str().unwrap_or_default()
            );
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if name != wanted {
                let why = format!("Invalid value: {name:?}: must be spec.names.plural+\".\"+spec.group");
                return Err(Failure::invalid(kind, name, "metadata.name", &why));
            }
            or(&mut object["spec"], "conversion", json!({ "strategy": "None" }));
        }
        _ => {}
    }
    Ok(())
}

/// Workloads must select their own pods.
fn template(kind: &Kind, object: &mut Value) -> ApiResult<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let spec = &mut object["spec"];
    if !spec["selector"].is_object() {
        return Err(Failure::invalid(kind, &name, "spec.selector", "Required value"));
    }
    if !super::selector::Selector::label_selector(&spec["selector"], &spec["template"]["metadata"]["labels"]) {
        let why = "Invalid value: `selector` does not match template `labels`";
        return Err(Failure::invalid(kind, &name, "spec.template.metadata.labels", why));
    }
    if spec["template"]["spec"]["containers"].as_array().is_none_or(Vec::is_empty) {
        return Err(Failure::invalid(kind, &name, "spec.template.spec.containers", "Required value"));
    }
    pod_spec(&mut spec["template"]["spec"]);
    Ok(())
}

fn pod_spec(spec: &mut Value) {
    or(spec, "restartPolicy", json!("Always"));
    or(spec, "terminationGracePeriodSeconds", json!(30));
    or(spec, "dnsPolicy", json!("ClusterFirst"));
    or(spec, "schedulerName", json!("default-scheduler"));
    or(spec, "securityContext", json!({}));
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let latest = container["image"].as_str().is_none_or(|image| {
                let last = image.rsplit('/').next().unwrap_or_default();
                !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
            });
            or(container, "imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" }));
            or(container, "terminationMessagePath", json!("/dev/termination-log"));
            or(container, "terminationMessagePolicy", json!("File"));
            or(container, "resources", json!({}));
            for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                or(port, "protocol", json!("TCP"));
            }
        }
    }
}

fn service(store: &mut Store, before: Option<&Value>, object: &mut Value) {
    let spec = &mut object["spec"];
    or(spec, "type", json!("ClusterIP"));
    or(spec, "sessionAffinity", json!("None"));
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind == "ExternalName" {
        return;
    }
    if spec["clusterIP"].is_null() {
        let kept = before.map(|b| b["spec"]["clusterIP"].clone()).filter(|ip| !ip.is_null());
        spec["clusterIP"] = kept.unwrap_or_else(|| {
            let number = store.next_number();
            json!(format!("10.43.{}.{}", 1 + number / 250, 1 + number % 250))
        });
    }
    let ip = spec["clusterIP"].clone();
    or(spec, "clusterIPs", json!([ip]));
    or(spec, "ipFamilies", json!(["IPv4"]));
    or(spec, "ipFamilyPolicy", json!("SingleStack"));
    or(spec, "internalTrafficPolicy", json!("Cluster"));
    let old_ports = before.map(|b| b["spec"]["ports"].clone()).unwrap_or_default();
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        or(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        or(port, "targetPort", number);
        if kind != "ClusterIP" && port["nodePort"].is_null() {
            let same = |old: &&Value| old["port"] == port["port"] && old["protocol"] == port["protocol"];
            let kept = old_ports.as_array().and_then(|ports| ports.iter().find(same)).map(|p| p["nodePort"].clone());
            port["nodePort"] = match kept.filter(|p| !p.is_null()) {
                Some(kept) => kept,
                None => json!(31000 + store.next_number() % 1700),
            };
        }
    }
    if kind != "ClusterIP" {
        or(spec, "externalTrafficPolicy", json!("Cluster"));
    }
}
