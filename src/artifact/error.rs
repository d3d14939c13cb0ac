//! What can go wrong when an artifact is fetched.

use thiserror::Error;

/// A failure on the way to a verified artifact. `Display` is one line; [`FetchError::hint`] says what to do.
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
    /// The server's certificate is not trusted here, or this machine has no root certificates.
    #[error("{url}: {reason}")]
    Trust {
        /// The address.
        url: String,
        /// What is wrong with the certificate or the roots.
        reason: String,
    },
    /// The server answered with another status than 200 or 206. 408, 429 and 5xx are worth another try.
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
    /// The cache on the operator's machine cannot be written or read.
    #[error("{path}: {reason}")]
    Cache {
        /// The file or folder.
        path: String,
        /// What happened.
        reason: String,
    },
}

impl FetchError {
    /// Whether the same request may succeed when it is made again.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Truncated { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 429),
            Self::Trust { .. } | Self::Digest { .. } | Self::NoChecksum { .. } | Self::Cache { .. } => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        const SEED: &str = "in a closed network put the release's file and its checksum list into the folder \
                            artifacts/<product>/<version> of xgenctl's cache ($XDG_CACHE_HOME/xgenctl or \
                            ~/.cache/xgenctl)";
        Some(match self {
            Self::Connection { .. } | Self::Truncated { .. } => format!(
                "check the network of this machine and its proxy (HTTPS_PROXY, NO_PROXY), or name a mirror as \
                 `mirrors.k3s` in project.yaml; {SEED}"
            ),
            Self::Trust { .. } => "install the package ca-certificates on this machine; where a proxy or mirror has a \
                                   certificate of its own, name a file with its root certificate in SSL_CERT_FILE"
                .into(),
            Self::Status { status: 404, .. } => {
                "check `k3s.version` in project.yaml: the release has no such file; with a mirror, check `mirrors.k3s`: \
                 files must be at <base>/<version>/<file>"
                    .into()
            }
            Self::Status { status: 401 | 403 | 407, .. } => format!(
                "the server or a proxy (HTTPS_PROXY) refuses this machine; name another mirror as `mirrors.k3s` in \
                 project.yaml; {SEED}"
            ),
            Self::Status { .. } => format!(
                "the server has trouble: run the same command again later, or name a mirror as `mirrors.k3s` in \
                 project.yaml; {SEED}"
            ),
            Self::Digest { .. } => "nothing of it was kept: run the same command again; if the digests differ again, \
                                    the mirror (`mirrors.k3s`) or a proxy hands out a changed or damaged file"
                .into(),
            Self::NoChecksum { .. } => "the address answers, but not with the release's checksum list: check \
                                        `mirrors.k3s` and `k3s.version` in project.yaml, and whether a proxy answers \
                                        with a page of its own"
                .into(),
            Self::Cache { .. } => "free space or correct the permissions on this machine, or set XDG_CACHE_HOME to a \
                                   folder that can be written"
                .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<FetchError> {
        let url = || "https://mirror.example/v1.36.5%2Bk3s1/k3s".to_owned();
        let status = |status| FetchError::Status { url: url(), status };
        vec![
            FetchError::Connection { url: url(), reason: "cannot connect: Connection refused".into() },
            FetchError::Trust { url: url(), reason: "invalid peer certificate: UnknownIssuer".into() },
            status(404),
            status(407),
            status(503),
            FetchError::Truncated { url: url(), got: 10, expected: 20 },
            FetchError::Digest { url: url(), list: url() + ".txt", expected: "aa".into(), got: "bb".into() },
            FetchError::NoChecksum { url: url(), asset: "k3s".into() },
            FetchError::Cache { path: "/home/op/.cache/xgenctl".into(), reason: "Permission denied".into() },
        ]
    }

    #[test]
    fn every_failure_says_what_happened_and_what_to_do() {
        let told: Vec<_> = all().iter().map(|e| format!("{e}\n  {}\n", e.hint().unwrap_or_default())).collect();
        insta::assert_snapshot!(told.concat(), @r#"
        https://mirror.example/v1.36.5%2Bk3s1/k3s: cannot connect: Connection refused
          check the network of this machine and its proxy (HTTPS_PROXY, NO_PROXY), or name a mirror as `mirrors.k3s` in project.yaml; in a closed network put the release's file and its checksum list into the folder artifacts/<product>/<version> of xgenctl's cache ($XDG_CACHE_HOME/xgenctl or ~/.cache/xgenctl)
        https://mirror.example/v1.36.5%2Bk3s1/k3s: invalid peer certificate: UnknownIssuer
          install the package ca-certificates on this machine; where a proxy or mirror has a certificate of its own, name a file with its root certificate in SSL_CERT_FILE
        https://mirror.example/v1.36.5%2Bk3s1/k3s: HTTP 404
          check `k3s.version` in project.yaml: the release has no such file; with a mirror, check `mirrors.k3s`: files must be at <base>/<version>/<file>
        https://mirror.example/v1.36.5%2Bk3s1/k3s: HTTP 407
          the server or a proxy (HTTPS_PROXY) refuses this machine; name another mirror as `mirrors.k3s` in project.yaml; in a closed network put the release's file and its checksum list into the folder artifacts/<product>/<version> of xgenctl's cache ($XDG_CACHE_HOME/xgenctl or ~/.cache/xgenctl)
        https://mirror.example/v1.36.5%2Bk3s1/k3s: HTTP 503
          the server has trouble: run the same command again later, or name a mirror as `mirrors.k3s` in project.yaml; in a closed network put the release's file and its checksum list into the folder artifacts/<product>/<version> of xgenctl's cache ($XDG_CACHE_HOME/xgenctl or ~/.cache/xgenctl)
        https://mirror.example/v1.36.5%2Bk3s1/k3s: the download broke off after 10 of 20 bytes
          check the network of this machine and its proxy (HTTPS_PROXY, NO_PROXY), or name a mirror as `mirrors.k3s` in project.yaml; in a closed network put the release's file and its checksum list into the folder artifacts/<product>/<version> of xgenctl's cache ($XDG_CACHE_HOME/xgenctl or ~/.cache/xgenctl)
        https://mirror.example/v1.36.5%2Bk3s1/k3s: sha256 is bb, but https://mirror.example/v1.36.5%2Bk3s1/k3s.txt says aa
          nothing of it was kept: run the same command again; if the digests differ again, the mirror (`mirrors.k3s`) or a proxy hands out a changed or damaged file
        https://mirror.example/v1.36.5%2Bk3s1/k3s: no sha256 for k3s in it
          the address answers, but not with the release's checksum list: check `mirrors.k3s` and `k3s.version` in project.yaml, and whether a proxy answers with a page of its own
        /home/op/.cache/xgenctl: Permission denied
          free space or correct the permissions on this machine, or set XDG_CACHE_HOME to a folder that can be written
        "#);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let transient: Vec<_> = all().iter().map(FetchError::is_transient).collect();
        assert_eq!(transient, [true, false, false, false, true, true, false, false, false]);
    }
}
