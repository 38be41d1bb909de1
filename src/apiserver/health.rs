//! Paths about the server itself: version, health, the CA's certificate.
//!
//! They need no identity: a prober, a joining worker and `kubectl version` come before any token.

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::query::Query;
use super::{Server, VERSION, respond};

/// Answers one of these paths; `None` if it is none of them.
pub(crate) fn serve(server: &Server, path: &str, query: &Query) -> Option<Response> {
    match path {
        "/version" => Some(version()),
        "/cacerts" => {
            let mut response = respond::text(StatusCode::OK, server.ca_certificate.clone());
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-pem-file"),
            );
            Some(response)
        }
        "/healthz" | "/healthz/ping" => Some(health(server, query, "healthz")),
        "/livez" | "/livez/ping" => Some(health(server, query, "livez")),
        "/readyz" | "/readyz/ping" => Some(health(server, query, "readyz")),
        _ => None,
    }
}

fn version() -> Response {
    respond::json(
        StatusCode::OK,
        &json!({
            "major": "1",
            "minor": "34",
            "gitVersion": VERSION,
            "gitCommit": "unknown",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "go0 (rust)",
            "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }),
    )
}

/// A server that drains is alive and not ready.
fn health(server: &Server, query: &Query, check: &str) -> Response {
    let is_stopping = server.tasks.cancelled().is_cancelled();
    let is_ok = !(check == "readyz" && is_stopping);
    let status = if is_ok {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let text = match (query.is_true("verbose"), is_ok) {
        (false, true) => "ok".to_owned(),
        (false, false) => "shutdown failed: the server is draining".to_owned(),
        (true, _) => {
            let sign = if is_ok { "+" } else { "-" };
            let result = if is_ok { "passed" } else { "failed" };
            format!("[+]ping ok\n[+]store ok\n[{sign}]shutdown\n{check} check {result}\n")
        }
    };
    respond::text(status, text)
}
