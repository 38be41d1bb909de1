//! Connections to those who are not called directly, and one exchange over one.

use std::net::{Ipv4Addr, SocketAddr};

use http::Uri;
use http::uri::PathAndQuery;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi_http::{Error as WasiHttpError, WasiBody};

use super::Client;
use super::attempt::{Failure, Response, Unconnected};
use crate::runtime::net;

/// What a connection can be used again for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::runtime::http) struct Destination {
    pub(super) address: SocketAddr,
    /// Whose certificate it must show; `None` speaks plain HTTP.
    pub(super) name: Option<ServerName<'static>>,
}

impl Client {
    pub(super) async fn connect(
        &self,
        to: &Destination,
    ) -> Result<SendRequest<WasiBody>, Unconnected> {
        let address = to.address;
        let conn = match self.net.connect(&self.owner, address).await {
            // Whoever listens on the pod's loopback only is reached there.
            Err(net::Error::ConnectionRefused) if address.ip() == self.net.ip() => {
                let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port());
                self.net.connect(&self.owner, loopback).await
            }
            other => other,
        }?;
        let Some(name) = &to.name else {
            let (sender, connection) = http1::handshake(TokioIo::new(conn)).await?;
            self.drive(connection);
            return Ok(sender);
        };
        let secured = self.tls.connect(name, conn).await;
        let secured = secured.map_err(Unconnected::Tls)?;
        let (sender, connection) = http1::handshake(TokioIo::new(secured)).await?;
        self.drive(connection);
        Ok(sender)
    }

    fn drive<S>(&self, connection: Connection<TokioIo<S>, WasiBody>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.tasks.spawn_contained("guest http client", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection of a guest's request");
            }
        });
    }

    pub(super) async fn exchange(
        &self,
        to: &Destination,
        mut connection: SendRequest<WasiBody>,
        mut request: http::Request<WasiBody>,
    ) -> Result<Response, Failure> {
        // A server wants the path alone; the host is in its header.
        let absolute = request.uri().clone();
        *request.uri_mut() = Uri::from(match absolute.path_and_query() {
            // It reads as `/` also when it is empty, but would be sent as nothing.
            Some(path) if path.as_str() != "/" => path.clone(),
            _ => PathAndQuery::from_static("/"),
        });
        match connection.try_send_request(request).await {
            Ok(response) => {
                self.pool.put(to, connection);
                Ok(response.map(|body| body.map_err(WasiHttpError::from).boxed_unsync()))
            }
            Err(mut error) => match error.take_message() {
                Some(mut unsent) => {
                    *unsent.uri_mut() = absolute;
                    let error = error.into_error().into();
                    Err(Failure::Unsent(Box::new(unsent), error))
                }
                None => Err(Failure::Broken(error.into_error().into())),
            },
        }
    }
}
