//! Values that must never be seen, and the one place that knows them all.

use std::fmt;
use std::sync::{Arc, RwLock};

use serde::{Serialize, Serializer};

/// What stands in for a secret wherever text leaves the program.
pub const MASK: &str = "[redacted]";

/// A value that is never printed, logged or serialised: only [`Secret::expose`] gives it away.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the file or the channel it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Replaces every secret it was told of. Cloning shares the same list.
#[derive(Clone, Default)]
pub struct Redactor {
    values: Arc<RwLock<Vec<String>>>,
}

/// Shorter values would mask ordinary words and are no secrets worth the name.
const SHORTEST_SECRET: usize = 6;

impl Redactor {
    /// Learns a secret; from now on no text that passes through shows it.
    ///
    /// The same value in base64, as Kubernetes Secrets carry it, is learnt too.
    pub fn learn(&self, secret: &Secret) {
        use base64::Engine as _;
        let value = secret.expose();
        if value.len() < SHORTEST_SECRET {
            return;
        }
        let encoded = base64::engine::general_purpose::STANDARD.encode(value);
        let mut values = self.values.write().unwrap_or_else(|e| e.into_inner());
        for text in [value.to_owned(), encoded] {
            if !values.contains(&text) {
                values.push(text);
            }
        }
        // The longest first: a secret that contains another one is masked whole.
        values.sort_by_key(|v| std::cmp::Reverse(v.len()));
    }

    /// The text with every known secret masked.
    pub fn redact(&self, text: &str) -> String {
        let values = self.values.read().unwrap_or_else(|e| e.into_inner());
        let mut out = text.to_owned();
        for value in values.iter() {
            if out.contains(value.as_str()) {
                out = out.replace(value.as_str(), MASK);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_everywhere() {
        let secret = Secret::new("correct-horse");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[redacted]\"");
    }

    #[test]
    fn the_redactor_masks_plain_and_base64_and_leaves_the_rest() {
        let redactor = Redactor::default();
        redactor.learn(&Secret::new("correct-horse"));
        redactor.learn(&Secret::new("no"));
        assert_eq!(
            redactor.redact("no token=correct-horse b64=Y29ycmVjdC1ob3JzZQ=="),
            "no token=[redacted] b64=[redacted]"
        );
    }
}
