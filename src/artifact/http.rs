//! Downloads over HTTP and HTTPS.

use std::error::Error as _;
use std::sync::Once;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use reqwest::{Response, StatusCode, header};

use super::{Body, Download, FetchError};

/// How long a download waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the next byte comes.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(15), stall: Duration::from_secs(30) }
    }
}

/// Downloads over HTTP(S), with the operating system's root certificates (or `SSL_CERT_FILE`) and the proxies of the
/// environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`).
pub struct HttpDownload {
    client: reqwest::Client,
    limits: Limits,
    /// Whether this machine has root certificates; without them HTTPS cannot work, plain HTTP still does.
    has_roots: bool,
}

/// Makes ring the process's cryptography, once, unless another part did so.
fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that a provider is there already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

impl HttpDownload {
    /// A client with the usual limits.
    ///
    /// # Errors
    /// Where no client can be made at all, for example because of a proxy variable that is no address.
    pub fn new() -> Result<Self, FetchError> {
        Self::with_limits(Limits::default())
    }

    /// A client with other limits.
    ///
    /// # Errors
    /// As [`HttpDownload::new`].
    pub fn with_limits(limits: Limits) -> Result<Self, FetchError> {
        Self::build(limits, |builder| builder)
    }

    /// A client that asks no proxy, whatever the environment says.
    ///
    /// # Errors
    /// As [`HttpDownload::new`].
    pub fn direct(limits: Limits) -> Result<Self, FetchError> {
        Self::build(limits, reqwest::ClientBuilder::no_proxy)
    }

    fn build(limits: Limits, change: fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Result<Self, FetchError> {
        install_provider();
        let builder = || {
            let agent = concat!("xgenctl/", env!("CARGO_PKG_VERSION"));
            change(reqwest::Client::builder().user_agent(agent).connect_timeout(limits.connect))
        };
        match builder().build() {
            Ok(client) => Ok(Self { client, limits, has_roots: true }),
            // A minimal server has no root certificates. A mirror over plain HTTP needs none: what is downloaded is
            // checked by digest.
            Err(_) => match builder().tls_backend_preconfigured(without_roots()).build() {
                Ok(client) => Ok(Self { client, limits, has_roots: false }),
                Err(error) => Err(FetchError::Connection { url: "HTTP client".into(), reason: reason(error) }),
            },
        }
    }

    async fn send(&self, url: &str, offset: u64) -> Result<Response, FetchError> {
        let mut request = self.client.get(url);
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        let shown = without_credentials(url);
        let wait = self.limits.connect + self.limits.stall;
        match tokio::time::timeout(wait, request.send()).await {
            Err(_) => {
                Err(FetchError::Connection { url: shown, reason: format!("no answer within {} s", wait.as_secs()) })
            }
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if is_about_trust(&error) => Err(FetchError::Trust {
                url: shown,
                reason: if self.has_roots { reason(error) } else { "this machine has no root certificates".into() },
            }),
            Ok(Err(error)) if error.is_connect() => {
                Err(FetchError::Connection { url: shown, reason: format!("cannot connect: {}", reason(error)) })
            }
            Ok(Err(error)) => Err(FetchError::Connection { url: shown, reason: reason(error) }),
        }
    }
}

#[async_trait]
impl Download for HttpDownload {
    async fn get(&self, url: &str, offset: u64) -> Result<Body, FetchError> {
        let response = self.send(url, offset).await?;
        let status = response.status();
        let skip = match status {
            StatusCode::OK => offset,
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(offset) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(FetchError::Connection {
                    url: without_credentials(url),
                    reason: format!("the server answered with another range than bytes {offset} and on"),
                });
            }
            _ => return Err(FetchError::Status { url: without_credentials(url), status: status.as_u16() }),
        };
        let announced = response.content_length();
        if announced.is_some_and(|length| length < skip) {
            return Err(FetchError::Status {
                url: without_credentials(url),
                status: StatusCode::RANGE_NOT_SATISFIABLE.as_u16(),
            });
        }
        let stream = body(response, self.limits.stall, announced.is_some());
        // A server without ranges sends everything: what is there already is passed over.
        Ok(Body { length: announced.map(|length| length - skip), stream: Box::pin(passing_over(stream, skip)) })
    }
}

/// The bytes of an answer, with the stall limit on each of them.
///
/// A connection that closes early ends the stream where the length is known: the reader sees by it what is missing.
fn body(response: Response, stall: Duration, length_known: bool) -> impl Stream<Item = Result<Bytes, String>> + Send {
    let source = Box::pin(response.bytes_stream());
    futures::stream::unfold(Some(source), move |source| async move {
        let mut source = source?;
        match tokio::time::timeout(stall, source.next()).await {
            Err(_) => Some((Err(format!("no byte came for {} s", stall.as_secs_f32())), None)),
            Ok(None) => None,
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(source))),
            Ok(Some(Err(error))) if length_known && is_cut_short(&error) => None,
            Ok(Some(Err(error))) => Some((Err(reason(error)), None)),
        }
    })
}

/// The stream without its first `skip` bytes.
fn passing_over(
    stream: impl Stream<Item = Result<Bytes, String>> + Send,
    mut skip: u64,
) -> impl Stream<Item = Result<Bytes, String>> + Send {
    stream.filter_map(move |item| {
        let item = item.map(|mut chunk| {
            let over = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= over as u64;
            chunk.split_off(over)
        });
        let empty = matches!(&item, Ok(chunk) if chunk.is_empty());
        std::future::ready((!empty).then_some(item))
    })
}

/// The first byte that `Content-Range: bytes 5-9/10` names.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// A TLS configuration that trusts nobody.
fn without_roots() -> rustls::ClientConfig {
    rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

/// What lies at the ground of an error: the layers above it only repeat each other.
fn reason(error: reqwest::Error) -> String {
    // The address may carry a password; the caller names it without.
    let error = error.without_url();
    let mut root: &dyn std::error::Error = &error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Whether it is the server's certificate that is wrong, which another try does not cure.
fn is_about_trust(error: &reqwest::Error) -> bool {
    fn tls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
        // An I/O error leaves the error that it was made from out of its own source().
        let wrapped = || tls(error.downcast_ref::<std::io::Error>()?.get_ref()?);
        error.downcast_ref::<rustls::Error>().or_else(wrapped)
    }
    chain(error).any(|e| matches!(tls(e), Some(rustls::Error::InvalidCertificate(_))))
}

/// Whether the connection closed before the announced end.
fn is_cut_short(error: &reqwest::Error) -> bool {
    chain(error).any(|e| {
        let closed = e.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let ended = e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof);
        closed || ended
    })
}

/// The address as messages show it: a mirror's user and password stay out of them.
pub(super) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
