//! Errors as the Kubernetes API words them.

use serde_json::{Value, json};

use super::kinds::Kind;

/// A `Status` with a failure.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// HTTP status.
    pub code: u16,
    /// `reason`.
    pub reason: &'static str,
    /// `message`.
    pub message: String,
    /// `details`.
    pub details: Value,
}

/// The outcome of an API operation.
pub type ApiResult<T> = Result<T, Box<Failure>>;

impl Failure {
    /// Any failure.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>, details: Value) -> Box<Self> {
        Box::new(Self { code, reason, message: message.into(), details })
    }

    fn object(code: u16, reason: &'static str, kind: &Kind, name: &str, message: String) -> Box<Self> {
        Self::new(code, reason, message, json!({ "name": name, "group": kind.group, "kind": kind.plural }))
    }

    /// 404 for an object.
    pub fn not_found(kind: &Kind, name: &str) -> Box<Self> {
        Self::object(404, "NotFound", kind, name, format!("{} \"{name}\" not found", kind.qualified()))
    }

    /// 409 for an object that is there already.
    pub fn exists(kind: &Kind, name: &str) -> Box<Self> {
        Self::object(409, "AlreadyExists", kind, name, format!("{} \"{name}\" already exists", kind.qualified()))
    }

    /// 409 for a stale resourceVersion.
    pub fn stale(kind: &Kind, name: &str) -> Box<Self> {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your changes \
             to the latest version and try again",
            kind.qualified()
        );
        Self::object(409, "Conflict", kind, name, message)
    }

    /// 409 for another reason.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Box<Self> {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::object(409, "Conflict", kind, name, message)
    }

    /// 422.
    pub fn invalid(kind: &Kind, name: &str, field: &str, why: &str) -> Box<Self> {
        let mut failure =
            Self::object(422, "Invalid", kind, name, format!("{} \"{name}\" is invalid: {field}: {why}", kind.kind));
        failure.details["causes"] = json!([{ "reason": "FieldValueInvalid", "message": why, "field": field }]);
        failure
    }

    /// 403.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Box<Self> {
        Self::object(403, "Forbidden", kind, name, format!("{} \"{name}\" is forbidden: {why}", kind.qualified()))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Box<Self> {
        Self::new(400, "BadRequest", message, Value::Null)
    }

    /// 404 for a path nobody serves.
    pub fn no_such_path() -> Box<Self> {
        Self::new(404, "NotFound", "the server could not find the requested resource", json!({}))
    }

    /// 405.
    pub fn method() -> Box<Self> {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", json!({}))
    }

    /// The body.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            body["details"] = self.details.clone();
        }
        body
    }
}
