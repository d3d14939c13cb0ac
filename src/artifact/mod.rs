//! Files that come from elsewhere: downloaded once, checked, cached on the operator's machine.

mod error;
mod http;
mod k3s;
mod store;

#[cfg(test)]
mod testserver;

use std::path::PathBuf;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use serde::{Deserialize, Serialize};

pub use error::FetchError;
pub use http::{HttpDownload, Limits};
pub use k3s::{K3sArch, UnsupportedArch};
pub use store::Store;

/// A file of an upstream release and where its checksum stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Name of the product: `k3s`.
    pub product: String,
    /// Its version: `v1.36.5+k3s1`.
    pub version: String,
    /// Base address; files are at `<base>/<version>/<asset>` with `+` as `%2B`.
    pub base_url: String,
    /// The file: `k3s`, `k3s-arm64`, `k3s-armhf`.
    pub asset: String,
    /// The list of checksums beside it: `sha256sum-amd64.txt`.
    pub checksums: String,
}

impl Artifact {
    /// Where the file itself is.
    pub fn url(&self) -> String {
        self.url_of(&self.asset)
    }

    /// Where the list of checksums is.
    pub fn checksums_url(&self) -> String {
        self.url_of(&self.checksums)
    }

    fn url_of(&self, file: &str) -> String {
        // A plus sign stands for a space in what some mirrors make of an address.
        let version = self.version.replace('+', "%2B");
        format!("{}/{version}/{file}", self.base_url.trim_end_matches('/'))
    }
}

/// A verified artifact in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The file on the operator's machine.
    pub path: PathBuf,
    /// Its SHA-256, in hexadecimal, as the release's list has it.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it had to be downloaded now.
    pub downloaded: bool,
}

/// The body of an answer, from the asked offset on, and how long it says it is.
pub struct Body {
    /// Bytes that will come, if the server says so (`Content-Length`).
    pub length: Option<u64>,
    /// The bytes.
    pub stream: Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>,
}

/// Where bytes come from: HTTP, or a rehearsal's simulated mirror.
#[async_trait]
pub trait Download: Send + Sync {
    /// Opens `url` from byte `offset` on, whether the server can do so or not.
    ///
    /// An offset behind the end is [`FetchError::Status`] 416.
    async fn get(&self, url: &str, offset: u64) -> Result<Body, FetchError>;
}
