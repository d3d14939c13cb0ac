//! Files that come from elsewhere: downloaded once, checked, cached on the operator's machine.

use std::path::PathBuf;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use serde::{Deserialize, Serialize};
use thiserror::Error;

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

/// What can go wrong when an artifact is fetched.
#[derive(Debug, Clone, Error)]
pub enum FetchError {
    /// No connection, or it broke. Worth another try.
    #[error("{url}: {reason}")]
    Connection {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server answered with another status than 200 or 206. 5xx and 429 are worth another try.
    #[error("{url}: HTTP {status}")]
    Status {
        /// The address.
        url: String,
        /// The status code.
        status: u16,
    },
    /// Fewer bytes came than were announced. Worth another try.
    #[error("{url}: the download broke off after {got} of {expected} bytes")]
    Truncated {
        /// The address.
        url: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced.
        expected: u64,
    },
    /// The content is not what the release's checksum list says.
    #[error("{url}: sha256 is {got}, but {list} says {expected}")]
    Digest {
        /// The address.
        url: String,
        /// The list.
        list: String,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The checksum list has no line for the asset, or is no such list.
    #[error("{url}: no sha256 for {asset} in it")]
    NoChecksum {
        /// The list's address.
        url: String,
        /// The asset.
        asset: String,
    },
    /// The cache cannot be written.
    #[error("{path}: {reason}")]
    Cache {
        /// The file or folder.
        path: String,
        /// What happened.
        reason: String,
    },
}

/// The body of an answer, and how long it says it is.
pub struct Body {
    /// `Content-Length`, if given.
    pub length: Option<u64>,
    /// The bytes.
    pub stream: Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>,
}

/// Where bytes come from: HTTP, or a rehearsal's simulated mirror.
#[async_trait]
pub trait Download: Send + Sync {
    /// Opens `url` from byte `offset` on.
    async fn get(&self, url: &str, offset: u64) -> Result<Body, FetchError>;
}

/// The cache of verified artifacts on the operator's machine.
pub struct Store {}
impl Store {
    pub fn new(_cache_dir: impl Into<PathBuf>) -> Self {
        Self {}
    }
    pub async fn fetch(
        &self,
        _artifact: &Artifact,
        _download: &dyn Download,
        _progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        todo!()
    }
}
