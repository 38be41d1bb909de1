//! `pods/{name}/exec` and `…/attach`: the connection is passed on to the worker that runs the pod.
//!
//! What can be known here is checked here (pod, container, node, protocol), because a client reads
//! a `Status` only before the upgrade. Then both sides are upgraded and bytes are copied until either
//! ends or the server stops: the worker speaks the protocol. SPDY is refused in words; every client
//! that is younger than kubectl 1.29 speaks WebSocket.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;

use super::log;
use crate::apiserver::error::Error;
use crate::apiserver::handlers::Context;
use crate::apiserver::query::Query;

/// What the worker speaks, best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// The worker's own parameters.
const FLAGS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

/// The headers of an upgrade that concern both ends.
const UPGRADE_HEADERS: [HeaderName; 5] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_ACCEPT,
];

pub(crate) async fn connect(
    ctx: &Context,
    what: &str,
    parts: &mut Parts,
) -> Result<Response, Error> {
    let name = ctx.name()?;
    let namespace = ctx.namespace().ok_or(Error::UnknownPath)?;
    let stored = ctx.registry().get(ctx.resource, Some(namespace), name)?;
    let pod = stored.typed::<Pod>().map_err(|source| Error::Internal {
        operation: "decode a pod",
        source: Box::new(source),
    })?;
    let container = log::container(&pod, name, wanted(ctx, &pod))?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let Some(node) = node.filter(|node| !node.is_empty()) else {
        let text = format!("pod {name} does not have a host assigned");
        return Err(Error::BadRequest(text));
    };
    let protocol = protocol(&ctx.headers)?;
    let mut headers = picked(&ctx.headers);
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(protocol),
    );
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| Error::BadRequest(NO_UPGRADE.to_owned()))?;
    let path = format!(
        "/{what}/{namespace}/{name}/{container}?{}",
        forwarded(&ctx.query)
    );
    let worker = &ctx.server.worker_api;
    let answer = worker.get(ctx.registry(), node, &path, headers).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(log::refused(answer.status(), answer.into_body()).await);
    }
    let permit = Arc::clone(&ctx.server.streams)
        .try_acquire_owned()
        .map_err(|_| Error::Busy)?;
    let mut headers = picked(answer.headers());
    headers.extend(
        answer
            .headers()
            .get(header::SEC_WEBSOCKET_PROTOCOL)
            .map(|chosen| (header::SEC_WEBSOCKET_PROTOCOL, chosen.clone())),
    );
    let stopping = ctx.server.tasks.cancelled();
    ctx.server
        .tasks
        .spawn_contained("remote command", async move {
            tokio::select! {
                () = splice(upgrade, hyper::upgrade::on(answer)) => {}
                () = stopping.cancelled() => {}
            }
            drop(permit);
        });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().extend(headers);
    Ok(response)
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

const NO_UPGRADE: &str =
    "this needs an upgrade to WebSocket over HTTP/1.1 (subprotocol v5.channel.k8s.io)";

/// The protocol to speak, or why there is none.
fn protocol(headers: &HeaderMap) -> Result<&'static str, Error> {
    let text = |name: HeaderName| {
        let values = headers.get_all(name).iter();
        let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        values.join(",")
    };
    let upgrade = text(header::UPGRADE).to_ascii_lowercase();
    if upgrade.starts_with("spdy/") {
        return Err(Error::BadRequest(
            "SPDY is not spoken here: use a client that speaks WebSocket (kubectl 1.31 or later; 1.29 and 1.30 with KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true)"
                .to_owned(),
        ));
    }
    if upgrade != "websocket" {
        return Err(Error::BadRequest(NO_UPGRADE.to_owned()));
    }
    let offers = text(header::SEC_WEBSOCKET_PROTOCOL);
    let is_offered = |known: &&str| offers.split(',').any(|offer| offer.trim() == *known);
    let chosen = PROTOCOLS.into_iter().find(is_offered);
    chosen.ok_or_else(|| {
        Error::BadRequest(format!(
            "none of the offered subprotocols is spoken here, only {}",
            PROTOCOLS.join(" and ")
        ))
    })
}

fn picked(headers: &HeaderMap) -> HeaderMap {
    let wanted = UPGRADE_HEADERS.into_iter();
    wanted
        .filter_map(|name| {
            headers
                .get(&name)
                .map(|value| (name.clone(), value.clone()))
        })
        .collect()
}

/// The query for the worker.
fn forwarded(query: &Query) -> String {
    let mut forwarded = form_urlencoded::Serializer::new(String::new());
    for word in query.all("command") {
        forwarded.append_pair("command", word);
    }
    for flag in FLAGS {
        if query.is_true(flag) {
            forwarded.append_pair(flag, "true");
        }
    }
    forwarded.finish()
}

async fn splice(client: OnUpgrade, worker: OnUpgrade) {
    let (client, worker) = match tokio::try_join!(client, worker) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a remote command's connection was not upgraded");
            return;
        }
    };
    let (mut client, mut worker) = (TokioIo::new(client), TokioIo::new(worker));
    let copied = tokio::io::copy_bidirectional(&mut client, &mut worker).await;
    if let Err(error) = copied {
        tracing::debug!(%error, "a remote command's connection broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(upgrade: &'static str, offers: &'static str) -> Result<&'static str, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(offers),
        );
        protocol(&headers).map_err(|error| error.to_string())
    }

    #[test]
    fn websocket_is_spoken_and_spdy_refused_in_words() {
        assert_eq!(
            check("websocket", "v4.channel.k8s.io, v5.channel.k8s.io"),
            Ok("v5.channel.k8s.io")
        );
        assert_eq!(
            check(
                "WebSocket",
                "base64url.bearer.authorization.k8s.io.x, v4.channel.k8s.io"
            ),
            Ok("v4.channel.k8s.io")
        );
        assert!(check("websocket", "channel.k8s.io").is_err());
        assert!(check("SPDY/3.1", "").unwrap_err().contains("WebSocket"));
    }
}
