//! What requests do to objects: read, create, replace, patch, apply, delete, and the subresources that act.

use serde_json::{Value, json};

use super::apply::{self, Writer};
use super::kinds::Kind;
use super::selector::Selector;
use super::status::{ApiResult, Failure};
use super::store::{Store, key_of, object_key};
use super::{controllers, defaults, patch};

/// The query of a request, as far as it matters.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldManager`, else the first part of the User-Agent.
    pub manager: String,
    /// `force=true`.
    pub force: bool,
    /// `propagationPolicy`, of the query or of the body.
    pub propagation: Option<String>,
    /// `gracePeriodSeconds`, of the query or of the body.
    pub grace_seconds: Option<i64>,
    /// `preconditions.uid` of a delete's body.
    pub uid: Option<String>,
}

/// How a patch is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7386.
    Merge,
    /// Kubernetes' own.
    Strategic,
    /// RFC 6902.
    Json,
    /// Server-side apply.
    Apply,
}

/// One request's target: a kind, a namespace, and the way it was asked for.
pub struct Request<'a> {
    /// The objects.
    pub store: &'a mut Store,
    /// The kind.
    pub kind: Kind,
    /// The version in the path.
    pub version: String,
    /// The namespace in the path.
    pub namespace: Option<String>,
    /// The subresource, or empty.
    pub subresource: String,
    /// The query.
    pub options: Options,
}

/// Which parts of an object a write through a subresource may change.
fn restrict(subresource: &str, has_status: bool, before: &Value, after: &mut Value) {
    if subresource == "status" {
        let status = after["status"].take();
        let version = after["metadata"]["resourceVersion"].take();
        *after = before.clone();
        after["status"] = status;
        after["metadata"]["resourceVersion"] = version;
    } else if has_status && subresource.is_empty() {
        match before.get("status") {
            Some(status) => after["status"] = status.clone(),
            None => {
                if let Some(map) = after.as_object_mut() {
                    map.remove("status");
                }
            }
        }
    }
}

impl Request<'_> {
    fn key(&self, name: &str) -> String {
        object_key(self.namespace.as_deref(), name)
    }

    fn find(&self, name: &str) -> ApiResult<Value> {
        self.store.get(&self.kind.key(), &self.key(name)).cloned().ok_or_else(|| Failure::not_found(&self.kind, name))
    }

    /// The object as this version of the API shows it.
    pub fn shown(&self, object: &Value) -> Value {
        let mut object = object.clone();
        object["apiVersion"] = json!(self.kind.api_version(&self.version));
        object["kind"] = json!(self.kind.kind);
        object
    }

    /// GET of one object.
    pub fn get(&self, name: &str) -> ApiResult<Value> {
        Ok(self.shown(&self.find(name)?))
    }

    /// GET of all.
    pub fn list(&self, selector: &Selector) -> Value {
        let items: Vec<Value> = self
            .store
            .list(&self.kind.key())
            .filter(|o| self.namespace.is_none() || o["metadata"]["namespace"].as_str() == self.namespace.as_deref())
            .filter(|o| selector.matches(o))
            .map(|o| self.shown(o))
            .collect();
        json!({
            "kind": format!("{}List", self.kind.kind),
            "apiVersion": self.kind.api_version(&self.version),
            "metadata": { "resourceVersion": self.store.resource_version().to_string() },
            "items": items,
        })
    }

    /// Checks that a body is an object of this kind and place, and sets what the path already says.
    fn admit(&self, mut object: Value, name: Option<&str>) -> ApiResult<Value> {
        if !object.is_object() {
            return Err(Failure::bad_request("the request's body is no object"));
        }
        let api_version = self.kind.api_version(&self.version);
        for (field, wanted) in [("kind", self.kind.kind.as_str()), ("apiVersion", api_version.as_str())] {
            match object.get(field).and_then(Value::as_str) {
                Some(given) if given != wanted => {
                    return Err(Failure::bad_request(format!(
                        "the {field} in the data ({given}) does not match the expected {field} ({wanted})"
                    )));
                }
                _ => object[field] = json!(wanted),
            }
        }
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let given = object["metadata"]["namespace"].as_str().map(str::to_owned);
        match (&self.namespace, given) {
            (Some(wanted), Some(given)) if *wanted != given => {
                return Err(Failure::bad_request(format!(
                    "the namespace of the provided object does not match the namespace sent on the request ({given}, {wanted})"
                )));
            }
            (Some(wanted), _) => object["metadata"]["namespace"] = json!(wanted),
            (None, _) => {
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.remove("namespace");
                }
            }
        }
        if let Some(name) = name {
            match object["metadata"]["name"].as_str() {
                Some(given) if given != name => {
                    return Err(Failure::bad_request(format!(
                        "the name of the object ({given}) does not match the name on the URL ({name})"
                    )));
                }
                _ => object["metadata"]["name"] = json!(name),
            }
        }
        Ok(object)
    }

    fn check_namespace(&self, name: &str) -> ApiResult<()> {
        let Some(namespace) = &self.namespace else { return Ok(()) };
        match self.store.get("/namespaces", namespace) {
            None => Err(Failure::new(
                404,
                "NotFound",
                format!("namespaces \"{namespace}\" not found"),
                json!({ "name": namespace, "kind": "namespaces" }),
            )),
            Some(found) if !found["metadata"]["deletionTimestamp"].is_null() => Err(Failure::forbidden(
                &self.kind,
                name,
                &format!("unable to create new content in namespace {namespace} because it is being terminated"),
            )),
            Some(_) => Ok(()),
        }
    }

    fn writer<'w>(&'w self, api_version: &'w str, time: &'w str) -> Writer<'w> {
        Writer { manager: &self.options.manager, api_version, subresource: &self.subresource, time }
    }

    /// POST.
    pub fn create(&mut self, body: Value) -> ApiResult<Value> {
        let mut object = self.admit(body, None)?;
        if object["metadata"]["name"].as_str().unwrap_or_default().is_empty() {
            let Some(prefix) = object["metadata"]["generateName"].as_str().map(str::to_owned) else {
                return Err(Failure::invalid(
                    &self.kind,
                    "",
                    "metadata.name",
                    "Required value: name or generateName is required",
                ));
            };
            object["metadata"]["name"] = json!(format!("{prefix}{:05x}", self.store.next_number()));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if !valid_name(&name) {
            return Err(Failure::invalid(
                &self.kind,
                &name,
                "metadata.name",
                &format!(
                    "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
                ),
            ));
        }
        self.check_namespace(&name)?;
        if self.store.get(&self.kind.key(), &self.key(&name)).is_some() {
            return Err(Failure::exists(&self.kind, &name));
        }
        if self.kind.status
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        self.commit(None, object, true)
    }

    /// PUT.
    pub fn replace(&mut self, name: &str, body: Value) -> ApiResult<Value> {
        let mut object = self.admit(body, Some(name))?;
        let before = self.find(name)?;
        restrict(&self.subresource, self.kind.status, &before, &mut object);
        self.check_version(name, &before, &object)?;
        self.commit(Some(before), object, true)
    }

    /// PUT of a namespace's `finalize`.
    pub fn finalize(&mut self, name: &str, body: &Value) -> ApiResult<Value> {
        let before = self.find(name)?;
        self.check_version(name, &before, body)?;
        let mut after = before.clone();
        after["spec"]["finalizers"] = body["spec"]["finalizers"].clone();
        self.commit(Some(before), after, false)
    }

    fn check_version(&self, name: &str, before: &Value, after: &Value) -> ApiResult<()> {
        match after["metadata"]["resourceVersion"].as_str() {
            Some(given) if !given.is_empty() && before["metadata"]["resourceVersion"] != given => {
                Err(Failure::stale(&self.kind, name))
            }
            _ => Ok(()),
        }
    }

    /// PATCH. The flag tells whether the object is new.
    pub fn patch(&mut self, name: &str, how: PatchKind, body: &Value) -> ApiResult<(Value, bool)> {
        if how == PatchKind::Apply {
            return self.apply(name, body.clone());
        }
        let before = self.find(name)?;
        let mut after = before.clone();
        match how {
            PatchKind::Merge => patch::merge(&mut after, body),
            PatchKind::Strategic if self.kind.custom => {
                return Err(Failure::new(
                    415,
                    "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                    json!({}),
                ));
            }
            PatchKind::Strategic => patch::strategic(&mut after, body),
            _ => patch::json_patch(&mut after, body)?,
        }
        let mut after = self.admit(after, Some(name))?;
        restrict(&self.subresource, self.kind.status, &before, &mut after);
        self.check_version(name, &before, &after)?;
        Ok((self.commit(Some(before), after, true)?, false))
    }

    fn apply(&mut self, name: &str, body: Value) -> ApiResult<(Value, bool)> {
        if !body["metadata"]["managedFields"].is_null() {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        for field in ["apiVersion", "kind"] {
            if body[field].as_str().is_none() {
                return Err(Failure::bad_request(format!("the applied object has no {field}")));
            }
        }
        let mut applied = self.admit(body, Some(name))?;
        if self.kind.key() == "/secrets" {
            defaults::encode_string_data(&mut applied);
        }
        let before = self.store.get(&self.kind.key(), &self.key(name)).cloned();
        match &before {
            None if !self.subresource.is_empty() => return Err(Failure::not_found(&self.kind, name)),
            None => self.check_namespace(name)?,
            Some(before) => {
                if let Some(uid) = applied["metadata"]["uid"].as_str()
                    && before["metadata"]["uid"] != uid
                {
                    return Err(Failure::conflict(&self.kind, name, "the UID in the applied object does not match"));
                }
                self.check_version(name, before, &applied)?;
            }
        }
        // A status in what is applied to the object itself is ignored, as the real server does.
        if self.subresource == "status" {
            let status = applied["status"].clone();
            let (api_version, kind) = (applied["apiVersion"].clone(), applied["kind"].clone());
            let metadata = json!({ "name": name, "namespace": applied["metadata"]["namespace"] });
            applied = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "status": status });
        } else if self.kind.status
            && let Some(map) = applied.as_object_mut()
        {
            map.remove("status");
        }
        if let Some(metadata) = applied["metadata"].as_object_mut() {
            for field in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
                metadata.remove(field);
            }
            metadata.retain(|_, value| !value.is_null());
        }
        let api_version = self.kind.api_version(&self.version);
        let time = self.store.timestamp();
        let merged =
            apply::apply(&self.kind, before.as_ref(), &applied, &self.writer(&api_version, &time), self.options.force)?;
        let created = before.is_none();
        Ok((self.commit(before, merged, false)?, created))
    }

    /// Completes and stores what a write made of an object. `track`: note the writer as owner of what it changed.
    fn commit(&mut self, before: Option<Value>, mut after: Value, track: bool) -> ApiResult<Value> {
        let api_version = self.kind.api_version(&self.version);
        let time = self.store.timestamp();
        if self.kind.key() == "/secrets" {
            defaults::encode_string_data(&mut after);
        }
        let mut preserved =
            vec!["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"];
        if track {
            preserved.push("managedFields");
        }
        let old_metadata = before.as_ref().map(|b| b["metadata"].clone()).unwrap_or_default();
        if let Some(metadata) = after["metadata"].as_object_mut() {
            for field in preserved {
                match old_metadata.get(field) {
                    Some(value) => metadata.insert(field.to_owned(), value.clone()),
                    None => metadata.remove(field),
                };
            }
            match old_metadata.get("resourceVersion") {
                Some(version) => metadata.insert("resourceVersion".into(), version.clone()),
                None => metadata.remove("resourceVersion"),
            };
        }
        if track {
            apply::track_update(&self.kind, before.as_ref(), &mut after, &self.writer(&api_version, &time));
        }
        let numbers = self.store.numbers();
        defaults::fill(self.store, &self.kind, before.as_ref(), &mut after)?;
        if self.options.dry_run {
            self.store.set_numbers(numbers);
        }
        let name = after["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if let Some(before) = &before {
            if *before == after || (self.shown(before) == self.shown(&after)) {
                return Ok(self.shown(before));
            }
            if after.get("spec") != before.get("spec") {
                let generation = before["metadata"]["generation"].as_i64().unwrap_or(1) + 1;
                after["metadata"]["generation"] = json!(generation);
            }
            if self.kind.key() == "/secrets" && before["type"] != after["type"] {
                return Err(Failure::invalid(&self.kind, &name, "type", "Invalid value: field is immutable"));
            }
        } else {
            if after.get("spec").is_some() {
                after["metadata"]["generation"] = json!(1);
            }
            if self.options.dry_run {
                after["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
                after["metadata"]["creationTimestamp"] = json!(time);
            } else {
                self.store.stamp(&mut after);
            }
        }
        if self.options.dry_run {
            return Ok(self.shown(&after));
        }
        let finished = !after["metadata"]["deletionTimestamp"].is_null() && !controllers::is_held(&self.kind, &after);
        let stored = self.store.put(&self.kind.key(), after);
        if finished {
            let gone = self.store.remove(&self.kind.key(), &key_of(&stored));
            controllers::removed(self.store, &self.kind.key(), &stored, self.options.propagation.as_deref());
            return Ok(self.shown(&gone.unwrap_or(stored)));
        }
        controllers::written(self.store, &self.kind.key(), before.as_ref(), &stored);
        Ok(self.shown(&stored))
    }

    /// DELETE of one object. The flag tells whether it is gone already.
    pub fn delete(&mut self, name: &str) -> ApiResult<(Value, bool)> {
        let before = self.find(name)?;
        if let Some(uid) = &self.options.uid
            && before["metadata"]["uid"] != *uid
        {
            let why = "the UID in the precondition does not match the UID in record. The object might have been deleted and then recreated";
            return Err(Failure::conflict(&self.kind, name, why));
        }
        if self.options.dry_run {
            return Ok((self.shown(&before), true));
        }
        let after = controllers::delete(
            self.store,
            &self.kind.key(),
            &self.key(name),
            self.options.grace_seconds,
            self.options.propagation.as_deref(),
        );
        Ok(match after {
            Some(waiting) => (self.shown(&waiting), false),
            None => (self.shown(&before), true),
        })
    }

    /// DELETE of all that a selector matches.
    pub fn delete_collection(&mut self, selector: &Selector) -> ApiResult<Value> {
        let list = self.list(selector);
        for item in list["items"].as_array().into_iter().flatten() {
            self.namespace = item["metadata"]["namespace"].as_str().map(str::to_owned);
            self.delete(item["metadata"]["name"].as_str().unwrap_or_default())?;
        }
        Ok(list)
    }

    /// POST to a pod's `eviction`.
    pub fn evict(&mut self, name: &str, body: &Value) -> ApiResult<Value> {
        let pod = self.find(name)?;
        let done = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        let budgets: Vec<Value> = controllers::budgets_of(self.store, &pod);
        if budgets.len() > 1 {
            return Err(Failure::new(
                500,
                "InternalError",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                json!({}),
            ));
        }
        let running = pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running";
        if let Some(budget) = budgets.first().filter(|_| running) {
            let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
            if allowed < 1 {
                let budget_name = budget["metadata"]["name"].as_str().unwrap_or_default();
                let healthy = budget["status"]["currentHealthy"].as_i64().unwrap_or(0);
                let desired = budget["status"]["desiredHealthy"].as_i64().unwrap_or(0);
                let message = format!(
                    "The disruption budget {budget_name} needs {desired} healthy pods and has {healthy} currently"
                );
                let causes = json!({ "causes": [{ "reason": "DisruptionBudget", "message": message }] });
                return Err(Failure::new(
                    429,
                    "TooManyRequests",
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    causes,
                ));
            }
            if !self.options.dry_run {
                self.store.modify("policy/poddisruptionbudgets", &key_of(budget), |b| {
                    b["status"]["disruptionsAllowed"] = json!(allowed - 1);
                });
            }
        }
        self.options.grace_seconds =
            body["deleteOptions"]["gracePeriodSeconds"].as_i64().or(self.options.grace_seconds);
        self.delete(name)?;
        Ok(done)
    }
}

fn valid_name(name: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    // Names of RBAC objects may hold colons: path segment names are all that is asked of those.
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|c| good(c) || matches!(c, b'-' | b'.' | b':'))
        && name.bytes().next().is_some_and(|c| good(c) || c == b':')
        && name.bytes().last().is_some_and(good)
}
