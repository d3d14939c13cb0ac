//! A client for the API of a server, over connections that the server's transport opens.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::BoxError;

use super::ClusterError;
use crate::host::{Host, Stream};

/// Makes a client from a server's kubeconfig. Nothing is sent yet.
///
/// The kubeconfig's own address is kept: it is reached from the server's side (`127.0.0.1:6443`).
///
/// # Errors
/// Where the kubeconfig cannot be understood.
pub async fn connect(host: &Host, kubeconfig: &str) -> Result<Client, ClusterError> {
    let broken = |error: &dyn std::fmt::Display| {
        ClusterError::local(format!("read the kubeconfig of {}", host.name()), error.to_string())
    };
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(|e| broken(&e))?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(|e| broken(&e))?;
    // A proxy of the operator's machine has no business inside the tunnel.
    config.proxy_url = None;
    config.connect_timeout = Some(std::time::Duration::from_secs(10));
    let connector =
        config.rustls_https_connector_with_connector(Tunnel { host: host.clone() }).map_err(|e| broken(&e))?;
    let http: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let auth = config.auth_layer().map_err(|e| broken(&e))?;
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// Opens connections through the server.
#[derive(Clone)]
struct Tunnel {
    host: Host,
}

impl tower::Service<Uri> for Tunnel {
    type Response = Tunnelled;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Tunnelled, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = self.host.clone();
        Box::pin(async move {
            let name = uri.host().unwrap_or("127.0.0.1").trim_matches(['[', ']']).to_owned();
            let stream = host.open_tcp(&name, uri.port_u16().unwrap_or(6443)).await?;
            Ok(Tunnelled(TokioIo::new(stream)))
        })
    }
}

/// One connection through the tunnel.
struct Tunnelled(TokioIo<Box<dyn Stream>>);

impl Connection for Tunnelled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Tunnelled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Tunnelled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
