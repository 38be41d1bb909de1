//! The remote client: how worker, router and command line reach the API server.
//!
//! From a kubeconfig, or from a server's URL and a join token `wo1.<sha256 of the CA>.<secret>`: the
//! CA is fetched from `/cacerts`, checked against the hash in the token and trusted from then on, so
//! that nobody has to copy certificates. Small requests leave at once (TCP_NODELAY) and a dead
//! peer is noticed by keep-alive; a watch has no read timeout, because silence is its normal state.

mod mirror;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use tower::ServiceBuilder;

use crate::api::image::Digest;

pub use mirror::{Change, Mirror, MirrorKey};
pub use watch::watch;

/// How to find the server and prove who one is.
#[derive(Clone, Debug)]
pub enum Login {
    Kubeconfig(PathBuf),
    Join {
        server: String,
        token: String,
        /// The node that joins; sent as `X-Wasmorch-Node`.
        node: Option<String>,
    },
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read kubeconfig {path}")]
    ReadKubeconfig {
        path: PathBuf,
        #[source]
        source: KubeconfigError,
    },
    #[error("`{0}` is not a server URL: it must be like https://127.0.0.1:6443")]
    Url(String),
    #[error("{0} is plain http to another machine, which would show it the secret: use https")]
    PlainHttp(String),
    #[error(
        "the join token is malformed: it must be `wo1.<sha256 of the CA certificate>.<secret>`"
    )]
    Token,
    #[error("fetch the cluster's CA from {server}")]
    FetchCa {
        server: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{server}/cacerts answered {status}, not a certificate")]
    NotACa { server: String, status: u16 },
    #[error(
        "the CA of {server} has not the hash that the join token names: wrong server, or somebody in between"
    )]
    WrongCa { server: String },
    #[error("build the API client")]
    Build(#[source] Box<kube::Error>),
}

/// The header by which a joining worker says its node's name.
pub const NODE_HEADER: HeaderName = HeaderName::from_static("x-wasmorch-node");

/// The bearer token of a kubeconfig that wasmorch wrote: its one user's.
pub fn token_in(path: &Path) -> Result<Option<String>, Error> {
    let kubeconfig = Kubeconfig::read_from(path).map_err(|source| Error::ReadKubeconfig {
        path: path.to_owned(),
        source,
    })?;
    let user = kubeconfig.auth_infos.first();
    let token = user.and_then(|user| user.auth_info.as_ref()?.token.as_ref());
    Ok(token.map(|token| token.expose_secret().to_owned()))
}

/// The server that a login leads to, for those who lead others there.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its TLS socket, if it has one and its name is known.
    pub address: Option<SocketAddr>,
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Builds a client.
pub async fn connect(login: &Login) -> Result<Client, Error> {
    Ok(open(login).await?.0)
}

/// Builds a client, and says whose.
pub async fn open(login: &Login) -> Result<(Client, Server), Error> {
    let mut config = match login {
        Login::Kubeconfig(path) => {
            let failed = |source| Error::ReadKubeconfig {
                path: path.clone(),
                source,
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            let options = KubeConfigOptions::default();
            let read = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            read.map_err(failed)?
        }
        Login::Join {
            server,
            token,
            node,
        } => join(server, token, node.as_deref()).await?,
    };
    config.headers.push((USER_AGENT, agent(login)));
    let server = Server {
        address: address(&config.cluster_url).await,
        authorities: config
            .root_cert
            .iter()
            .flatten()
            .map(|der| CertificateDer::from(der.clone()))
            .collect(),
    };
    Ok((build(config)?, server))
}

/// Who writes, as `managedFields` names it: a worker does what Kubernetes' kubelet does.
fn agent(login: &Login) -> HeaderValue {
    HeaderValue::from_static(match login {
        Login::Join { node: Some(_), .. } => concat!("kubelet/", env!("CARGO_PKG_VERSION")),
        Login::Join { node: None, .. } | Login::Kubeconfig(_) => {
            concat!("wasmorch/", env!("CARGO_PKG_VERSION"))
        }
    })
}

async fn address(url: &Uri) -> Option<SocketAddr> {
    if url.scheme_str() != Some("https") {
        return None;
    }
    let host = url.host()?.trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(443);
    let found = tokio::net::lookup_host((host, port)).await;
    found.ok()?.next()
}

async fn join(server: &str, token: &str, node: Option<&str>) -> Result<Config, Error> {
    let uri: Uri = server.parse().map_err(|_| Error::Url(server.to_owned()))?;
    let token = JoinToken::parse(token)?;
    let mut config = Config::new(uri.clone());
    match uri.scheme_str() {
        // On loopback the server also speaks plain http; there is nothing to verify.
        Some("http") if is_loopback(&uri) => {}
        Some("http") => return Err(Error::PlainHttp(server.to_owned())),
        Some("https") => config.root_cert = Some(vec![fetch_ca(server, uri, &token).await?]),
        Some(_) | None => return Err(Error::Url(server.to_owned())),
    }
    config.auth_info.token = Some(token.secret.into());
    if let Some(node) = node {
        let name = HeaderValue::from_str(node).map_err(|_| Error::Url(node.to_owned()))?;
        config.headers.push((NODE_HEADER, name));
    }
    Ok(config)
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

struct JoinToken {
    /// What the server is shown; the hash is for this side only.
    secret: String,
    ca_sha256: String,
}

impl JoinToken {
    fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let (hash, secret) = text
            .strip_prefix("wo1.")
            .and_then(|rest| rest.split_once('.'))
            .ok_or(Error::Token)?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hash || secret.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Token);
        }
        Ok(Self {
            secret: secret.to_owned(),
            ca_sha256: hash.to_ascii_lowercase(),
        })
    }

    /// Whether this is the CA that the token names.
    fn vouches_for(&self, ca: &[u8]) -> bool {
        Digest::of(ca).hex() == self.ca_sha256
    }
}

/// Fetches the CA without trusting the connection: the hash in the token decides.
async fn fetch_ca(server: &str, uri: Uri, token: &JoinToken) -> Result<Vec<u8>, Error> {
    let failed = |source: kube::Error| Error::FetchCa {
        server: server.to_owned(),
        source: Box::new(source),
    };
    let mut config = Config::new(uri);
    config.accept_invalid_certs = true;
    let client = build(config)?;
    let request = Request::get("/cacerts").body(Body::empty());
    let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
    let response = client.send(request).await.map_err(failed)?;
    let status = response.status().as_u16();
    let refuse = || Error::NotACa {
        server: server.to_owned(),
        status,
    };
    let body = http_body_util::Limited::new(response.into_body(), 64 << 10);
    let pem = body.collect().await.map_err(|_| refuse())?.to_bytes();
    let ca = CertificateDer::from_pem_slice(&pem).map_err(|_| refuse())?;
    if token.vouches_for(&ca) {
        Ok(ca.to_vec())
    } else {
        Err(Error::WrongCa {
            server: server.to_owned(),
        })
    }
}

fn build(config: Config) -> Result<Client, Error> {
    let failed = |source: kube::Error| Error::Build(Box::new(source));
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    connector.set_keepalive(Some(Duration::from_secs(5)));
    connector.set_keepalive_interval(Some(Duration::from_secs(2)));
    connector.set_keepalive_retries(Some(3));
    let connector = config.rustls_https_connector_with_connector(connector);
    let http = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_mins(1))
        .pool_max_idle_per_host(32)
        .build(connector.map_err(failed)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(failed)?)
        .layer(config.extra_headers_layer().map_err(failed)?)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_secret_goes_in_the_clear_to_this_machine_only() {
        let token = format!("wo1.{}.secret", Digest::of(b"").hex());
        for server in [
            "http://127.0.0.1:7070",
            "http://localhost:7070",
            "http://[::1]:7070",
        ] {
            assert!(join(server, &token, None).await.is_ok(), "{server}");
        }
        for server in ["http://10.0.0.1:7070", "http://localhost.example.com"] {
            let refused = join(server, &token, None).await;
            assert!(matches!(refused, Err(Error::PlainHttp(_))), "{server}");
        }
    }

    #[test]
    fn join_tokens() {
        let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let token = JoinToken::parse(&format!("wo1.{hash}.secret\n")).unwrap();
        assert!(token.vouches_for(b""));
        assert!(!token.vouches_for(b"x"));
        assert_eq!(token.secret, "secret");
        for bad in [
            "",
            "wo1.",
            "wo1..x",
            &format!("wo1.{hash}."),
            &format!("wo1.{hash}"),
            "wo1.12.x",
            &format!("wo2.{hash}.x"),
        ] {
            assert!(JoinToken::parse(bad).is_err(), "{bad}");
        }
    }
}
