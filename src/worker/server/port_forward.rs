//! `/portForward`: to what listens in a pod; and `/dial`: one connection to the pod's address, as raw
//! bytes, for the API server's proxy.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::upgrade::{Spoken, Switched, Upgrade, place, run, switching};
use super::{Refusal, Shared};
use crate::api::wire::RAW_BYTES;
use crate::runtime::PodSandbox;
use crate::worker::context::PodView;
use crate::worker::port_forward::{self, MAX_PORTS, Target};

pub(super) async fn port_forward(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let spoken = Spoken {
        websocket: &port_forward::WEBSOCKET_PROTOCOLS,
        spdy: &port_forward::SPDY_PROTOCOLS,
    };
    let (mut parts, _) = request.into_parts();
    let prepared = async {
        let (view, sandbox) = running(&shared, &namespace, &pod)?;
        let ports = ports(query.as_deref().unwrap_or_default())?;
        let target = Target {
            pod: format!("{pod}_{namespace}"),
            uid: view.pod.metadata.uid.clone().unwrap_or_default(),
            sandbox,
        };
        let upgrade = Upgrade::of(&mut parts, &spoken).await?;
        if upgrade.protocol() == port_forward::WEBSOCKET_PROTOCOLS[1] && ports.is_empty() {
            let text = "query parameter \"ports\" is required";
            return Err((StatusCode::BAD_REQUEST, text.to_owned()));
        }
        Ok((target, ports, upgrade))
    };
    let (target, ports, upgrade) = match prepared.await {
        Ok(prepared) => prepared,
        Err(refusal) => return refusal.into_response(),
    };
    upgrade.serve(&shared, move |switched| match switched {
        Switched::Spdy(io) => Box::pin(port_forward::over_spdy(io, target)),
        Switched::WebSocket(socket, port_forward::TUNNELLED) => {
            Box::pin(port_forward::spdy_over_websocket(*socket, target))
        }
        Switched::WebSocket(socket, _) => {
            Box::pin(port_forward::over_channels(*socket, ports, target))
        }
    })
}

/// The ports of a query: `ports=80&ports=81`, or with commas.
fn ports(query: &str) -> Result<Vec<u16>, Refusal> {
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    let mut ports = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "ports" {
            continue;
        }
        for text in value.split(',') {
            let port = text.parse::<u16>().ok().filter(|port| *port != 0);
            ports.push(port.ok_or_else(|| bad(format!("unable to parse \"{text}\" as a port")))?);
        }
    }
    if ports.len() > MAX_PORTS {
        return Err(bad(format!("at most {MAX_PORTS} ports are forwarded")));
    }
    Ok(ports)
}

pub(super) async fn dial(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, port)): Path<(String, String, u16)>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let is_meant = parts
        .headers
        .get(header::UPGRADE)
        .is_some_and(|it| it == RAW_BYTES);
    let Some(on) = parts.extensions.remove::<OnUpgrade>().filter(|_| is_meant) else {
        let text = format!("this needs an upgrade to {RAW_BYTES}");
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let sandbox = match running(&shared, &namespace, &pod) {
        Ok((_, sandbox)) => sandbox,
        Err(refusal) => return refusal.into_response(),
    };
    let mut conn = match sandbox.dial(port) {
        Ok(conn) => conn,
        Err(error) => {
            let text = format!("dial tcp {}:{port}: {error}", sandbox.spec().ip);
            return (StatusCode::BAD_GATEWAY, text).into_response();
        }
    };
    drop(sandbox);
    let place = match place(&shared) {
        Ok(place) => place,
        Err(refusal) => return refusal.into_response(),
    };
    run(&shared, place, async move {
        if let Ok(upgraded) = on.await {
            let mut io = TokioIo::new(upgraded);
            if let Err(error) = tokio::io::copy_bidirectional(&mut io, &mut conn).await {
                tracing::debug!(%error, "a proxied connection broke");
            }
        }
    });
    switching(RAW_BYTES, HeaderMap::new())
}

fn running(
    shared: &Shared,
    namespace: &str,
    pod: &str,
) -> Result<(PodView, Arc<PodSandbox>), Refusal> {
    let view = shared
        .context
        .directory
        .find(namespace, pod)
        .ok_or_else(|| {
            let text = format!("pod \"{pod}\" is not on this worker");
            (StatusCode::NOT_FOUND, text)
        })?;
    let sandbox = view.sandbox.clone().ok_or_else(|| {
        let text = format!("pod \"{pod}\" is not running");
        (StatusCode::BAD_REQUEST, text)
    })?;
    Ok((view, sandbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Option<&[u16]>) {
        assert_eq!(ports(query).ok().as_deref(), expected, "{query}");
    }

    #[test]
    fn ports_stand_in_the_query() {
        check("", Some(&[]));
        check("ports=80&ports=8080", Some(&[80, 8080]));
        check("ports=80,8080&x=y", Some(&[80, 8080]));
        check("ports=0", None);
        check("ports=65536", None);
        check("ports=http", None);
        check("ports=", None);
        check(&["ports=1"; MAX_PORTS + 1].join("&"), None);
    }
}
