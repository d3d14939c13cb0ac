//! Watches: changes as a stream of JSON lines.

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};

use super::Api;
use super::kinds::Kind;
use super::selector::Selector;
use super::store::{Change, Store};

/// What a watch looks at.
#[derive(Clone)]
pub(super) struct Watch {
    pub kind: Kind,
    pub version: String,
    pub namespace: Option<String>,
    pub selector: Selector,
    /// The resourceVersion that the client has seen; `None`: it wants everything there is first.
    pub from: Option<u64>,
    /// How long it lasts.
    pub timeout: std::time::Duration,
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({ "type": kind, "object": object }).to_string();
    text.push('\n');
    Bytes::from(text)
}

impl Watch {
    fn wants(&self, object: &Value) -> bool {
        (self.namespace.is_none() || object["metadata"]["namespace"].as_str() == self.namespace.as_deref())
            && self.selector.matches(object)
    }

    fn shown(&self, object: &Value, version: Option<u64>) -> Value {
        let mut object = object.clone();
        object["apiVersion"] = json!(self.kind.api_version(&self.version));
        object["kind"] = json!(self.kind.kind);
        if let Some(version) = version {
            object["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        object
    }

    /// The event that a change is for this watch, if any. An object that stops matching is gone for it.
    fn event(&self, change: &Change) -> Option<Bytes> {
        let before = change.before.as_ref().filter(|o| self.wants(o));
        let after = change.after.as_ref().filter(|o| self.wants(o));
        match (before, after) {
            (None, Some(after)) => Some(line("ADDED", &self.shown(after, None))),
            (Some(_), Some(after)) => Some(line("MODIFIED", &self.shown(after, None))),
            (Some(before), None) => Some(line("DELETED", &self.shown(before, Some(change.version)))),
            (None, None) => None,
        }
    }

    /// Everything that happened since `from`, and the version up to which it did. `Err` holds the line that ends the watch.
    fn catch_up(&self, store: &Store, from: Option<u64>) -> Result<(Vec<Bytes>, u64), Bytes> {
        let newest = store.resource_version();
        let Some(from) = from else {
            let key = self.kind.key();
            let all = store.list(&key).filter(|o| self.wants(o));
            return Ok((all.map(|o| line("ADDED", &self.shown(o, None))).collect(), newest));
        };
        let Some(changes) = store.changes_since(from) else {
            let expired = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
                "message": format!("too old resource version: {from} ({newest})"),
            });
            return Err(line("ERROR", &expired));
        };
        let key = self.kind.key();
        Ok((changes.filter(|c| c.kind == key).filter_map(|c| self.event(c)).collect(), newest))
    }
}

/// The stream of a watch; it ends after its time-out.
pub(super) fn stream(api: Api, watch: Watch) -> impl Stream<Item = Bytes> + Send + 'static {
    struct State {
        api: Api,
        watch: Watch,
        from: Option<u64>,
        changed: tokio::sync::watch::Receiver<u64>,
        end: tokio::time::Instant,
        over: bool,
    }
    let state = State {
        changed: api.changes(),
        end: tokio::time::Instant::now() + watch.timeout,
        from: watch.from,
        over: false,
        api,
        watch,
    };
    futures::stream::unfold(state, |mut state| async move {
        loop {
            if state.over {
                return None;
            }
            // Marked as seen before looking, so that no change between the two is missed.
            state.changed.borrow_and_update();
            let (caught_up, due) = state.api.look(|store| (state.watch.catch_up(store, state.from), store.next_due()));
            match caught_up {
                Err(last) => {
                    state.over = true;
                    return Some((last, state));
                }
                Ok((lines, newest)) => {
                    state.from = Some(newest);
                    if !lines.is_empty() {
                        return Some((Bytes::from(lines.concat()), state));
                    }
                }
            }
            let wait = state.api.until(due);
            tokio::select! {
                changed = state.changed.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                () = tokio::time::sleep(wait) => {}
                () = tokio::time::sleep_until(state.end) => state.over = true,
            }
        }
    })
}
