//! The router about itself, on a loopback address: `/healthz`, `/readyz`, `/metrics` in
//! Prometheus' text form and `/stats` in JSON.

mod metrics;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::feed::Health;
use super::front::Front;
use crate::tasks::TaskGroup;

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at a time.
const CONNECTIONS: usize = 64;

/// What the pages are made of.
pub(super) struct Admin {
    pub(super) front: Arc<Front>,
    pub(super) health: Arc<Health>,
}

impl Admin {
    /// Serves until the group is cancelled.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener, tasks: TaskGroup) {
        let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
        let serve = |stream, from| {
            let (admin, stopped) = (Arc::clone(&self), tasks.cancelled());
            async move {
                tokio::select! {
                    () = admin.serve(stream, from) => {}
                    () = stopped.cancelled() => {}
                }
            }
        };
        tasks
            .accept("admin connection", &listener, &places, serve)
            .await;
    }

    async fn serve(self: Arc<Self>, stream: tokio::net::TcpStream, from: SocketAddr) {
        let service = service_fn(|request: Request<Incoming>| {
            let page = self.page(request.uri().path());
            async move { Ok::<_, Infallible>(page) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%from, %error, "admin connection");
        }
    }

    fn page(&self, path: &str) -> Response<Full<Bytes>> {
        let table = self.front.table();
        let (status, kind, text) = match path {
            "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/readyz" if self.health.has_table() => {
                (StatusCode::OK, "text/plain", "ok\n".to_owned())
            }
            "/readyz" => (
                StatusCode::SERVICE_UNAVAILABLE,
                "text/plain",
                "no routing table yet\n".to_owned(),
            ),
            "/metrics" => (
                StatusCode::OK,
                "text/plain; version=0.0.4",
                metrics::prometheus(&table, &self.health),
            ),
            "/stats" => (
                StatusCode::OK,
                "application/json",
                metrics::json(&table, &self.health).to_string(),
            ),
            _ => (
                StatusCode::NOT_FOUND,
                "text/plain",
                "try /healthz, /readyz, /metrics or /stats\n".to_owned(),
            ),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}
