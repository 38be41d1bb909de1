//! `pods/…/proxy`, `services/…/proxy` and `nodes/…/proxy`: HTTP to a pod, to one of a service's pods,
//! or to a node's worker, through the API server and with its rights.
//!
//! A request goes on as it came, but for what concerns this hop alone ([`forward`]): any method, a
//! body that streams, an upgrade. Pods are reached through their worker, one connection for each
//! request; the caller's token goes no further than here. Pages are not rewritten: only a `Location`
//! below `/` gets the proxy's path in front.

mod forward;
mod target;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use self::forward::Held;
use self::target::{Place, Target};
use super::stream;
use crate::apiserver::error::Error;
use crate::apiserver::handlers::Context;

/// Passes a request on to what the path names, and its answer back.
pub(crate) async fn connect(
    ctx: &Context,
    parts: &mut Parts,
    body: Body,
) -> Result<Response, Error> {
    let path = parts.uri.path().to_owned();
    let Some((prefix, rest)) = split(&path) else {
        return Err(Error::UnknownPath);
    };
    let target = Target::parse(ctx.name()?, ctx.resource.plural)?;
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let upgrade = upgrade.filter(|_| forward::is_upgrade(&parts.headers));
    if rest.is_empty() && upgrade.is_none() {
        return Ok(with_slash(parts));
    }
    let place = target.resolve(ctx)?;
    let permit = ctx.server.streams.take(&ctx.caller)?;
    let request = forward::request(parts, body, prefix, &place.host(rest), upgrade.is_some())?;
    let mut answer = send(ctx, &place, request).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(upgrade) = upgrade else {
            let text = "error trying to reach service: it switched protocols unasked";
            return Err(Error::Unavailable(text.to_owned()));
        };
        let headers = std::mem::take(answer.headers_mut());
        return Ok(stream::switch(
            &ctx.server,
            upgrade,
            answer,
            headers,
            permit,
        ));
    }
    forward::clean(answer.headers_mut());
    forward::relocate(answer.headers_mut(), prefix);
    Ok(answer.map(|body| Body::new(Held::new(body, permit))))
}

async fn send(
    ctx: &Context,
    place: &Place,
    request: http::Request<Body>,
) -> Result<Response<hyper::body::Incoming>, Error> {
    let worker = &ctx.server.worker_api;
    let (pod, port) = match place {
        Place::Node { name } => return worker.send(ctx.registry(), name, request).await,
        Place::Pod { pod, port } => (pod, *port),
    };
    let (namespace, name) = (&pod.namespace, &pod.name);
    let path = format!("/dial/{namespace}/{name}/{port}");
    let connection = worker.dial(ctx.registry(), &pod.node, &path).await?;
    let failed = |error: hyper::Error| {
        let error = crate::errors::chain(&error).to_string();
        Error::Unavailable(format!("error trying to reach service: {error}"))
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await;
    let (mut sender, connection) = handshake.map_err(failed)?;
    let stopping = ctx.server.tasks.cancelled();
    ctx.server
        .tasks
        .spawn_contained("proxied connection", async move {
            tokio::select! {
                ended = connection.with_upgrades() => if let Err(error) = ended {
                    tracing::debug!(%error, "a proxied connection broke");
                },
                () = stopping.cancelled() => {}
            }
        });
    sender.send_request(request).await.map_err(failed)
}

/// The path up to `proxy`, and what follows it, as it was sent: decoding would change its meaning.
fn split(path: &str) -> Option<(&str, &str)> {
    // `/api/v1/namespaces/NS/pods/NAME/proxy` or `/api/v1/nodes/NAME/proxy`.
    let is_namespaced = path.starts_with("/api/v1/namespaces/");
    let at = if is_namespaced { 7 } else { 5 };
    let mut slashes = path.match_indices('/').map(|(index, _)| index);
    let start = slashes.nth(at - 1)?;
    let end = slashes.next().unwrap_or(path.len());
    (&path[start + 1..end] == "proxy").then(|| path.split_at(end))
}

/// As in Kubernetes: links of the page at the root would else be relative to its parent.
fn with_slash(parts: &Parts) -> Response {
    let query = parts.uri.query().map(|query| format!("?{query}"));
    let location = format!("{}/{}", parts.uri.path(), query.unwrap_or_default());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, prefix: Option<usize>) {
        let expected = prefix.map(|length| path.split_at(length));
        assert_eq!(split(path), expected, "{path}");
    }

    #[test]
    fn what_follows_the_proxy_stays_as_it_is() {
        check("/api/v1/namespaces/a/pods/p:80/proxy", Some(36));
        check("/api/v1/namespaces/a/pods/p:80/proxy/", Some(36));
        check("/api/v1/namespaces/a/services/p/proxy/x%2Fy//z/", Some(37));
        check("/api/v1/nodes/n/proxy/proxy/pods", Some(21));
        check("/api/v1/nodes/n/status", None);
        check("/api/v1/nodes/n", None);
    }
}
