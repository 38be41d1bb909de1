//! The API server as a client of a worker's HTTPS API (logs, commands, connections to pods).
//!
//! Where a worker is, its Node object says; the wire secret is the password. A worker on loopback
//! may show a certificate it made itself: whoever can forge that address owns the machine anyway.
//! Everywhere else the certificate must be the cluster CA's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Secret};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::api::wire::RAW_BYTES;
use crate::registry::{Error as RegistryError, Registry};
use crate::tasks::TaskGroup;

use super::error::Error;

/// Namespace and name of the secret that the data plane shares.
pub const WIRE_SECRET: (&str, &str) = ("kube-system", "wasmorch-wire");

const CONNECT: Duration = Duration::from_secs(5);
const FIRST_BYTE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    strict: TlsConnector,
    on_loopback: TlsConnector,
    tasks: TaskGroup,
}

impl Client {
    pub(crate) fn new(ca: &CertificateDer<'static>, tasks: TaskGroup) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .expect("ring offers the default protocol versions")
        };
        let mut roots = RootCertStore::empty();
        if let Err(error) = roots.add(ca.clone()) {
            tracing::error!(%error, "the cluster's CA cannot vouch for workers on other machines");
        }
        let strict = builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let on_loopback = builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::clone(&provider))))
            .with_no_client_auth();
        Self {
            strict: TlsConnector::from(Arc::new(strict)),
            on_loopback: TlsConnector::from(Arc::new(on_loopback)),
            tasks,
        }
    }

    /// GETs a path of a node's worker; the body may stream for as long as it likes. `headers` may ask
    /// for an upgrade.
    pub(crate) async fn get(
        &self,
        registry: &Registry,
        node: &str,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Error> {
        let request = Request::get(path).body(Body::empty());
        let mut request = request.map_err(|error| Error::BadRequest(error.to_string()))?;
        *request.headers_mut() = headers;
        let answering = self.send(registry, node, request);
        let answer = tokio::time::timeout(FIRST_BYTE, answering).await;
        answer
            .map_err(|_| Error::Unavailable(format!("the worker of node {node} does not answer")))?
    }

    /// Opens a connection to a pod: `path` says to which.
    pub(crate) async fn dial(
        &self,
        registry: &Registry,
        node: &str,
        path: &str,
    ) -> Result<TokioIo<Upgraded>, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(RAW_BYTES));
        let answer = self.get(registry, node, path, headers).await?;
        let failed = |text: &str| {
            Error::Unavailable(format!("error trying to reach service: {}", text.trim()))
        };
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let text = Limited::new(answer.into_body(), 4096).collect().await;
            let text = text
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            return Err(failed(&String::from_utf8_lossy(&text)));
        }
        let upgraded = hyper::upgrade::on(answer).await;
        Ok(TokioIo::new(
            upgraded.map_err(|error| failed(&error.to_string()))?,
        ))
    }

    /// Sends any request to a node's worker, with the cluster's secret.
    pub(crate) async fn send(
        &self,
        registry: &Registry,
        node: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        let address = worker_address(registry, node)?;
        let secret = wire_secret(registry)?;
        let unreachable = |error: &dyn std::fmt::Display| {
            Error::Unavailable(format!(
                "the worker of node {node} cannot be reached at {address}: {error}"
            ))
        };
        let connected = tokio::time::timeout(CONNECT, self.connect(address))
            .await
            .map_err(|_| unreachable(&"timed out"))?
            .map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(connected)
            .await
            .map_err(|error| unreachable(&error))?;
        self.tasks
            .spawn_contained("connection to a worker", async move {
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!(%error, "a connection to a worker broke");
                }
            });
        let host = HeaderValue::from_str(&address.to_string());
        let host = host.map_err(|error| unreachable(&error))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers.insert(header::AUTHORIZATION, bearer(&secret)?);
        sender
            .send_request(request)
            .await
            .map_err(|error| unreachable(&error))
    }

    async fn connect(
        &self,
        address: SocketAddr,
    ) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connector = if address.ip().is_loopback() {
            &self.on_loopback
        } else {
            &self.strict
        };
        let name = ServerName::IpAddress(address.ip().into());
        Ok(TokioIo::new(connector.connect(name, stream).await?))
    }
}

fn bearer(secret: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(&format!("Bearer {secret}")).map_err(|source| Error::Internal {
        operation: "use the wire secret",
        source: Box::new(source),
    })
}

fn worker_address(registry: &Registry, node: &str) -> Result<SocketAddr, Error> {
    let resource = registry.find("", "v1", "nodes").ok_or(Error::UnknownPath)?;
    let stored = registry.get(resource, None, node)?;
    let object = stored.typed::<Node>().map_err(|source| Error::Internal {
        operation: "decode a node",
        source: Box::new(source),
    })?;
    let status = object.status.clone().unwrap_or_default();
    let ip = status
        .addresses
        .into_iter()
        .flatten()
        .find(|address| address.type_ == "InternalIP")
        .and_then(|address| address.address.parse::<IpAddr>().ok());
    let port = status
        .daemon_endpoints
        .and_then(|endpoints| endpoints.kubelet_endpoint)
        .and_then(|endpoint| u16::try_from(endpoint.port).ok());
    match (ip, port) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        _ => Err(Error::Unavailable(format!(
            "node {node} has not said where its worker listens"
        ))),
    }
}

/// The secret that the data plane shares, as bootstrap made it.
fn wire_secret(registry: &Registry) -> Result<String, Error> {
    let (namespace, name) = WIRE_SECRET;
    let resource = registry
        .find("", "v1", "secrets")
        .ok_or(Error::UnknownPath)?;
    let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Internal {
        operation: "read the wire secret",
        source,
    };
    let stored = match registry.get(resource, Some(namespace), name) {
        Ok(stored) => stored,
        Err(error @ RegistryError::NotFound { .. }) => return Err(unreadable(Box::new(error))),
        Err(error) => return Err(error.into()),
    };
    let secret = stored
        .typed::<Secret>()
        .map_err(|error| unreadable(Box::new(error)))?;
    let bytes = secret
        .data
        .as_ref()
        .and_then(|data| data.get("secret"))
        .ok_or_else(|| unreadable("it has no key `secret`".into()))?;
    String::from_utf8(bytes.0.clone()).map_err(|error| unreadable(Box::new(error)))
}

/// Accepts any certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
