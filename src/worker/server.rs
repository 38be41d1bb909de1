//! The worker's own HTTPS API, asked by the API server: logs, commands, connections to pods, pods,
//! statistics, health.
//!
//! Every request but `/healthz` carries the cluster's wire secret as bearer token. On loopback the
//! certificate is the worker's own; an address that others can reach needs one from the cluster's
//! CA, which is not issued yet, so such an address is refused at start.

mod commands;
mod log_choice;
mod port_forward;
mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query as UrlQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::Container;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::context::{Context, PodView};
use super::logs::{LogId, Query};
use super::wire::is_same;
use super::{plan, stats};
use crate::errors::chain;
use crate::tasks::{FirstRequest, TaskGroup};

const CONNECTIONS: usize = 512;
const STREAMS: usize = 512;
const HANDSHAKE: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(30);

/// Why the worker's API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make the worker's certificate")]
    Certificate(#[source] rcgen::Error),
    #[error("use the worker's certificate")]
    Tls(#[source] rustls::Error),
}

/// Bound, but not served.
pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

struct Shared {
    context: Arc<Context>,
    node: String,
    secret: Vec<u8>,
    tasks: TaskGroup,
    /// Places of connections that have switched from HTTP.
    streams: Arc<Semaphore>,
}

impl Server {
    /// Takes a bound socket and makes a certificate for its address.
    pub fn new(listener: TcpListener, address: SocketAddr) -> Result<Self, Error> {
        let names = vec![address.ip().to_string(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(Error::Certificate)?;
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key))
            .map_err(Error::Tls)?;
        Ok(Self {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Serves until the group is cancelled.
    pub async fn run(self, context: Arc<Context>, node: String, secret: Vec<u8>, tasks: TaskGroup) {
        let router = router(Arc::new(Shared {
            context,
            node,
            secret,
            tasks: tasks.clone(),
            streams: Arc::new(Semaphore::new(STREAMS)),
        }));
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let serve = |stream, _| {
            let (acceptor, router) = (self.acceptor.clone(), router.clone());
            let (group, stop) = (tasks.clone(), tasks.cancelled());
            async move {
                tokio::select! {
                    () = serve(stream, acceptor, router, group) => {}
                    () = stop.cancelled() => {}
                }
            }
        };
        let name = "worker API connection";
        tasks.accept(name, &self.listener, &places, serve).await;
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, router: Router, tasks: TaskGroup) {
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let Ok(Ok(stream)) = handshake else { return };
    let executor = tasks.executor("worker API request");
    let mut builder = hyper_util::server::conn::auto::Builder::new(executor);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    let first = FirstRequest::default();
    let asking = first.clone();
    let router = router.layer(middleware::map_request(move |request: Request| {
        asking.arrived();
        std::future::ready(request)
    }));
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::trace!(error = %chain(&*error), "worker API connection");
        },
        () = first.missing_for(HEAD) => {}
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs))
        .route("/exec/{namespace}/{pod}/{container}", get(commands::exec))
        .route(
            "/attach/{namespace}/{pod}/{container}",
            get(commands::attach),
        )
        .route(
            "/portForward/{namespace}/{pod}",
            get(port_forward::port_forward),
        )
        .route("/dial/{namespace}/{pod}/{port}", get(port_forward::dial))
        .route("/pods", get(pods))
        .route("/stats/summary", get(summary))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            authenticate,
        ))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(shared)
}

async fn authenticate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    let token = header
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if is_same(token, &shared.secret) {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, "unauthorized\n").into_response()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LogOptions {
    follow: Option<String>,
    previous: Option<String>,
    timestamps: Option<String>,
    tail_lines: Option<usize>,
    since_seconds: Option<u64>,
    since_time: Option<String>,
    limit_bytes: Option<u64>,
}

impl LogOptions {
    /// What to read, and whether of the run before.
    fn query(self) -> Result<(Query, bool), String> {
        let flag = |value: &Option<String>| match value.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(other) => Err(format!("`{other}` is neither true nor false")),
        };
        let since_time = self.since_time.as_ref().map(|text| {
            let parsed = text.parse();
            parsed.map_err(|_| format!("sinceTime: `{text}` is not an RFC 3339 time"))
        });
        let previous = flag(&self.previous)?;
        let query = Query {
            follow: flag(&self.follow)?,
            timestamps: flag(&self.timestamps)?,
            tail_lines: self.tail_lines,
            since_seconds: self.since_seconds,
            since_time: since_time.transpose()?,
            limit_bytes: self.limit_bytes,
        };
        Ok((query, previous))
    }
}

async fn logs(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    UrlQuery(options): UrlQuery<LogOptions>,
) -> Response {
    let (query, previous) = match options.query() {
        Ok(query) => query,
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let view = match find(&shared, &namespace, &name, &container) {
        Ok((view, _)) => view,
        Err(refusal) => return refusal.into_response(),
    };
    let id = LogId {
        namespace,
        pod: name,
        uid: view.pod.metadata.uid.clone().unwrap_or_default(),
        container,
    };
    let incarnation = match log_choice::choose(&view, &id.container, previous) {
        Ok(incarnation) => incarnation,
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let reader = shared.context.logs.read(&id, incarnation, &query).await;
    let chunks = futures::stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((chunk, reader))
    });
    let body = Body::from_stream(chunks);
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

type Refusal = (StatusCode, String);

/// The pod that is meant, and its container.
fn find(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(PodView, Container), Refusal> {
    let Some(view) = shared.context.directory.find(namespace, pod) else {
        let text = format!("pod \"{pod}\" is not on this worker");
        return Err((StatusCode::NOT_FOUND, text));
    };
    let spec = view.pod.spec.as_ref();
    let mut known = spec.into_iter().flat_map(plan::containers);
    let found = known.find(|(known, _)| known.name == container);
    let found = found.map(|(found, _)| found.into_owned());
    drop(known);
    match found {
        Some(found) => Ok((view, found)),
        None => Err((
            StatusCode::BAD_REQUEST,
            format!("container {container} is not valid for pod {pod}"),
        )),
    }
}

async fn pods(State(shared): State<Arc<Shared>>) -> Response {
    let pods: Vec<_> = shared.context.directory.all();
    let items: Vec<_> = pods.iter().map(|view| &*view.pod).collect();
    axum::Json(
        serde_json::json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}),
    )
    .into_response()
}

async fn summary(State(shared): State<Arc<Shared>>) -> Response {
    let pods = shared.context.directory.all();
    let now = shared.context.clock.now();
    axum::Json(stats::summary(&shared.node, &pods, now)).into_response()
}

/// Binds the worker's API; port 0 takes any.
pub async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_options_are_read_as_kubernetes_writes_them() {
        let read = |query: &str| {
            let pairs = form_urlencoded::parse(query.as_bytes());
            let map: serde_json::Map<String, serde_json::Value> = pairs
                .map(|(key, value)| {
                    let number = value
                        .parse::<u64>()
                        .ok()
                        .filter(|_| key.ends_with('s') || key.ends_with("Lines"));
                    (
                        key.to_string(),
                        number.map_or_else(|| value.to_string().into(), Into::into),
                    )
                })
                .collect();
            let options: LogOptions = serde_json::from_value(map.into()).unwrap();
            options.query()
        };
        let (query, previous) =
            read("follow=true&tailLines=10&sinceTime=2026-01-01T00:00:00Z").unwrap();
        assert!(query.follow && !previous);
        assert_eq!(query.tail_lines, Some(10));
        assert!(query.since_time.is_some());
        assert!(read("follow=maybe").is_err());
        assert!(read("sinceTime=yesterday").is_err());
    }
}
