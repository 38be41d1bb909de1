//! `pods/{name}/exec`, `…/attach` and `…/portforward`: the connection is passed on to the worker that
//! runs the pod.
//!
//! What can be known here is checked here (pod, container, node, protocol), because a client reads
//! a `Status` only before the upgrade. Then both sides are upgraded and bytes are copied until either
//! ends or the server stops: the worker speaks the protocol, WebSocket or SPDY.

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;

use super::log;
use crate::api::wire::COMMAND_PROTOCOLS;
use crate::apiserver::Server;
use crate::apiserver::error::Error;
use crate::apiserver::handlers::Context;
use crate::apiserver::query::Query;
use crate::apiserver::shares::Permit;

/// What the worker speaks over a WebSocket, best first.
const PORT_FORWARD_PROTOCOLS: [&str; 2] = ["SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io"];

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Exec,
    Attach,
    PortForward,
}

impl Purpose {
    fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Exec | Self::Attach => &COMMAND_PROTOCOLS,
            Self::PortForward => &PORT_FORWARD_PROTOCOLS,
        }
    }

    /// The worker's path, and the parameters that it takes.
    fn path(self, ctx: &Context, pod: &Pod) -> Result<String, Error> {
        let name = ctx.name()?;
        let namespace = ctx.namespace().ok_or(Error::UnknownPath)?;
        let (what, parameters): (_, &[&str]) = match self {
            Self::Exec => ("exec", &["command", "stdin", "stdout", "stderr", "tty"]),
            Self::Attach => ("attach", &["stdin", "stdout", "stderr", "tty"]),
            Self::PortForward => {
                let query = forwarded(&ctx.query, &["ports"]);
                return Ok(format!("/portForward/{namespace}/{name}?{query}"));
            }
        };
        let container = log::container(pod, name, wanted(ctx, pod))?;
        let query = forwarded(&ctx.query, parameters);
        Ok(format!("/{what}/{namespace}/{name}/{container}?{query}"))
    }
}

/// The headers of an upgrade that concern both ends.
const UPGRADE_HEADERS: [HeaderName; 7] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_PROTOCOL,
    HeaderName::from_static("x-stream-protocol-version"),
];

pub(crate) async fn connect(
    ctx: &Context,
    purpose: Purpose,
    parts: &mut Parts,
) -> Result<Response, Error> {
    let name = ctx.name()?;
    let stored = ctx.registry().get(ctx.resource, ctx.namespace(), name)?;
    let pod = stored.typed::<Pod>().map_err(|source| Error::Internal {
        operation: "decode a pod",
        source: Box::new(source),
    })?;
    let path = purpose.path(ctx, &pod)?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let Some(node) = node.filter(|node| !node.is_empty()) else {
        let text = format!("pod {name} does not have a host assigned");
        return Err(Error::BadRequest(text));
    };
    let mut headers = picked(&ctx.headers);
    // A token may be among the offers; the worker learns only what is spoken.
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    let chosen = protocol(&ctx.headers, purpose.protocols())?;
    if let Some(protocol) = chosen.filter(|name| !name.is_empty()) {
        let protocol = HeaderValue::from_static(protocol);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| Error::BadRequest(NO_UPGRADE.to_owned()))?;
    let permit = ctx.server.streams.take(&ctx.caller)?;
    let worker = &ctx.server.worker_api;
    let answer = worker.get(ctx.registry(), node, &path, headers).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(log::refused(answer.status(), answer.into_body()).await);
    }
    let headers = picked(answer.headers());
    Ok(switch(&ctx.server, upgrade, answer, headers, permit))
}

/// Answers the client as the other end has, and copies bytes from then on.
pub(super) fn switch(
    server: &Server,
    client: OnUpgrade,
    answer: Response<Incoming>,
    headers: HeaderMap,
    permit: Permit,
) -> Response {
    let stopping = server.tasks.cancelled();
    server.tasks.spawn_contained("remote stream", async move {
        tokio::select! {
            () = splice(client, hyper::upgrade::on(answer)) => {}
            () = stopping.cancelled() => {}
        }
        drop(permit);
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().extend(headers);
    response
}

/// The container that is named; else the one that the pod's annotation names; else the first, as
/// kubectl itself chooses.
fn wanted<'a>(ctx: &'a Context, pod: &'a Pod) -> Option<&'a str> {
    let named = ctx.query.get("container").filter(|name| !name.is_empty());
    named.or_else(|| {
        let annotations = pod.metadata.annotations.as_ref();
        let default = annotations.and_then(|it| it.get("kubectl.kubernetes.io/default-container"));
        let containers = pod.spec.as_ref().map(|spec| &spec.containers[..]);
        match (default, containers) {
            (Some(name), _) => Some(name.as_str()),
            (None, Some([only])) => Some(only.name.as_str()),
            (None, _) => None,
        }
    })
}

const NO_UPGRADE: &str = "Upgrade request required: WebSocket or SPDY/3.1, over HTTP/1.1";

/// The WebSocket protocol to speak, `None` for SPDY, whose version the worker settles; or why there
/// is none.
fn protocol(headers: &HeaderMap, known: &[&'static str]) -> Result<Option<&'static str>, Error> {
    let text = |name: HeaderName| {
        let values = headers.get_all(name).iter();
        let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        values.join(",")
    };
    let upgrade = text(header::UPGRADE).to_ascii_lowercase();
    if upgrade == "spdy/3.1" {
        return Ok(None);
    }
    if upgrade != "websocket" {
        return Err(Error::BadRequest(NO_UPGRADE.to_owned()));
    }
    let offers = text(header::SEC_WEBSOCKET_PROTOCOL);
    let is_offered = |known: &&&str| offers.split(',').any(|offer| offer.trim() == **known);
    let chosen = known.iter().find(is_offered);
    chosen.copied().map(Some).ok_or_else(|| {
        Error::BadRequest(format!(
            "none of the offered subprotocols is spoken here, only {}",
            known.join(" ").trim_end()
        ))
    })
}

fn picked(headers: &HeaderMap) -> HeaderMap {
    let wanted = UPGRADE_HEADERS.into_iter();
    let named = wanted.flat_map(|name| {
        let values = headers.get_all(&name).iter().cloned();
        values
            .map(move |value| (name.clone(), value))
            .collect::<Vec<_>>()
    });
    let mut picked = HeaderMap::new();
    for (name, value) in named {
        picked.append(name, value);
    }
    picked
}

/// The query for the worker: what it knows, as it was sent.
fn forwarded(query: &Query, parameters: &[&str]) -> String {
    let mut forwarded = form_urlencoded::Serializer::new(String::new());
    for name in parameters {
        match *name {
            "command" | "ports" => {
                for value in query.all(name) {
                    forwarded.append_pair(name, value);
                }
            }
            flag if query.is_true(flag) => {
                forwarded.append_pair(flag, "true");
            }
            _ => {}
        }
    }
    forwarded.finish()
}

async fn splice(client: OnUpgrade, other: OnUpgrade) {
    let (client, other) = match tokio::try_join!(client, other) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a stream's connection was not upgraded");
            return;
        }
    };
    let (mut client, mut other) = (TokioIo::new(client), TokioIo::new(other));
    let copied = tokio::io::copy_bidirectional(&mut client, &mut other).await;
    if let Err(error) = copied {
        tracing::debug!(%error, "a stream's connection broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        upgrade: &'static str,
        offers: &'static str,
        purpose: Purpose,
    ) -> Result<Option<&'static str>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(offers),
        );
        protocol(&headers, purpose.protocols()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_best_of_the_offered_protocols_is_spoken() {
        use Purpose::{Exec, PortForward};
        assert_eq!(
            check("websocket", "v4.channel.k8s.io, v5.channel.k8s.io", Exec),
            Ok(Some("v5.channel.k8s.io"))
        );
        assert_eq!(
            check(
                "WebSocket",
                "base64url.bearer.authorization.k8s.io.x, v4.channel.k8s.io",
                Exec
            ),
            Ok(Some("v4.channel.k8s.io"))
        );
        assert_eq!(
            check("websocket", "SPDY/3.1+portforward.k8s.io", PortForward),
            Ok(Some("SPDY/3.1+portforward.k8s.io"))
        );
        assert_eq!(
            check("websocket", "channel.k8s.io", Exec).unwrap(),
            Some("channel.k8s.io")
        );
        assert_eq!(check("websocket", "", Exec).unwrap(), Some(""));
        assert!(check("websocket", "v9.channel.k8s.io", Exec).is_err());
        assert!(check("websocket", "v5.channel.k8s.io", PortForward).is_err());
        assert_eq!(check("SPDY/3.1", "", Exec), Ok(None));
        assert!(check("SPDY/2", "", Exec).unwrap_err().contains("Upgrade"));
    }
}
