//! `pods/{name}/log`: asks the worker that runs the pod, and passes its answer through.
//!
//! The API server keeps no logs. What the worker streams is streamed on, and ends when either side
//! ends or the server stops.

use std::future::ready;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Pod;

use crate::apiserver::error::Error;
use crate::apiserver::handlers::Context;
use crate::apiserver::query::Query;
use crate::apiserver::respond;
use crate::apiserver::websocket::{BINARY, Encoding, Socket};
use crate::registry::{self, FieldError};

/// The worker's own parameters; what else a client sends (`stream`, `pretty`) is dropped.
const FORWARDED: [&str; 7] = [
    "follow",
    "tailLines",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "limitBytes",
    "previous",
];

pub(crate) async fn get(ctx: &Context, parts: &mut Parts) -> Result<Response, Error> {
    let name = ctx.name()?;
    check(&ctx.query, name)?;
    let namespace = ctx.namespace().ok_or(Error::UnknownPath)?;
    let stored = ctx.registry().get(ctx.resource, Some(namespace), name)?;
    let pod = stored.typed::<Pod>().map_err(|source| Error::Internal {
        operation: "decode a pod",
        source: Box::new(source),
    })?;
    let container = container(&pod, name, ctx.query.get("container"))?;
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone())
        .filter(|node| !node.is_empty());
    let Some(node) = node else {
        // Kubernetes answers an empty log for a pod that no node has yet.
        return Ok(respond::text(StatusCode::OK, ""));
    };
    let path = format!(
        "/containerLogs/{namespace}/{name}/{container}?{}",
        forwarded(&ctx.query)
    );
    let socket = Socket::asked(parts, BINARY, Encoding::Binary).await?;
    let answer = ctx
        .server
        .worker_api
        .get(ctx.registry(), &node, &path, HeaderMap::new())
        .await?;
    if !answer.status().is_success() {
        return Err(refused(answer.status(), answer.into_body()).await);
    }
    let permit = ctx.server.streams.take(&ctx.caller)?;
    let stopping = ctx.server.tasks.cancelled().cancelled_owned();
    let lines = answer
        .into_body()
        .into_data_stream()
        .take_until(stopping)
        .inspect(move |_| {
            // The permit lives as long as the stream.
            let _ = &permit;
        });
    if let Some(socket) = socket {
        // The first message says that there is a log, even one that is silent for now.
        let first = stream::once(ready(Bytes::new()));
        let whole = lines.take_while(|piece| ready(piece.is_ok()));
        let pieces = first.chain(whole.filter_map(|piece| ready(piece.ok())));
        return Ok(socket.serve(&ctx.server, "log over websocket", pieces));
    }
    let mut response = respond::text(StatusCode::OK, Body::from_stream(lines));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// What each number is at least.
const LEAST: [(&str, i64, &str); 3] = [
    ("tailLines", 0, "must be greater than or equal to 0"),
    ("limitBytes", 1, "must be greater than 0"),
    ("sinceSeconds", 1, "must be greater than 0"),
];

/// Options that make no sense are told before anything is looked for, as in Kubernetes.
fn check(query: &Query, name: &str) -> Result<(), Error> {
    let is_twice = query.get("sinceSeconds").is_some() && query.get("sinceTime").is_some();
    let mut errors = Vec::new();
    for (field, least, detail) in LEAST {
        let number = query.number::<i64>(field)?;
        if let Some(number) = number.filter(|number| *number < least) {
            errors.push(FieldError {
                reason: "FieldValueInvalid",
                field: field.to_owned(),
                message: format!("Invalid value: {number}: {detail}"),
            });
        }
    }
    if is_twice {
        errors.retain(|error| error.field != "sinceSeconds");
        errors.push(FieldError {
            reason: "FieldValueForbidden",
            field: String::new(),
            message: "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
                .to_owned(),
        });
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Registry(registry::Error::Invalid {
        group: String::new(),
        kind: "PodLogOptions".to_owned(),
        name: name.to_owned(),
        errors,
    }))
}

/// The query for the worker.
fn forwarded(query: &Query) -> String {
    let mut forwarded = form_urlencoded::Serializer::new(String::new());
    for parameter in FORWARDED {
        if let Some(value) = query.get(parameter) {
            forwarded.append_pair(parameter, value);
        }
    }
    forwarded.finish()
}

/// The container meant: the one that is named, or the only one.
pub(super) fn container(pod: &Pod, name: &str, wanted: Option<&str>) -> Result<String, Error> {
    let spec = pod.spec.clone().unwrap_or_default();
    let containers: Vec<String> = spec.containers.into_iter().map(|one| one.name).collect();
    let init: Vec<String> = spec
        .init_containers
        .into_iter()
        .flatten()
        .map(|one| one.name)
        .collect();
    let ephemeral: Vec<String> = spec
        .ephemeral_containers
        .into_iter()
        .flatten()
        .map(|one| one.name)
        .collect();
    let mut all = containers.iter().chain(&init).chain(&ephemeral);
    match wanted {
        Some(wanted) if all.any(|one| one == wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(Error::BadRequest(format!(
            "container {wanted} is not valid for pod {name}"
        ))),
        None if containers.len() == 1 && init.is_empty() && ephemeral.is_empty() => {
            Ok(containers[0].clone())
        }
        None => {
            let init = if init.is_empty() {
                String::new()
            } else {
                format!(" or one of the init containers: [{}]", init.join(" "))
            };
            Err(Error::BadRequest(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]{init}",
                containers.join(" ")
            )))
        }
    }
}

/// The worker's refusal, in its own words.
pub(super) async fn refused(status: StatusCode, body: hyper::body::Incoming) -> Error {
    let text = match http_body_util::Limited::new(body, 4096).collect().await {
        Ok(collected) => String::from_utf8_lossy(&collected.to_bytes())
            .trim()
            .to_owned(),
        Err(_) => String::new(),
    };
    match status {
        StatusCode::NOT_FOUND => Error::NotFound(text),
        StatusCode::BAD_REQUEST => Error::BadRequest(text),
        StatusCode::FORBIDDEN => Error::Forbidden(text),
        _ => Error::Unavailable(format!("the worker answered {status}: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_options(query: &str, expected: &[(&str, &str)]) {
        let found = match check(&Query::parse(query), "p") {
            Ok(()) => Vec::new(),
            Err(Error::Registry(registry::Error::Invalid { errors, .. })) => errors,
            Err(other) => panic!("{query}: {other}"),
        };
        let found: Vec<_> = found
            .iter()
            .map(|error| (error.field.as_str(), error.message.as_str()))
            .collect();
        assert_eq!(found, expected, "{query}");
    }

    #[test]
    fn options_are_judged_in_kubernetes_words() {
        let positive = "Invalid value: 0: must be greater than 0";
        let twice = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
        let negative = "Invalid value: -1: must be greater than or equal to 0";
        check_options("tailLines=0&limitBytes=1&sinceSeconds=1", &[]);
        check_options("tailLines=-1", &[("tailLines", negative)]);
        check_options("limitBytes=0", &[("limitBytes", positive)]);
        check_options("sinceSeconds=0", &[("sinceSeconds", positive)]);
        let time = "sinceTime=2026-01-01T00:00:00Z";
        check_options(&format!("sinceSeconds=0&{time}"), &[("", twice)]);
        check_options(time, &[]);
        assert!(matches!(
            check(&Query::parse("tailLines=x"), "p"),
            Err(Error::BadRequest(_))
        ));
    }

    #[test]
    fn a_container_is_named_or_the_only_one() {
        let pod = |names: &[&str]| -> Pod {
            let containers: Vec<_> = names
                .iter()
                .map(|name| serde_json::json!({"name": name}))
                .collect();
            serde_json::from_value(serde_json::json!({"spec": {"containers": containers}})).unwrap()
        };
        assert_eq!(container(&pod(&["a"]), "p", None).unwrap(), "a");
        assert_eq!(container(&pod(&["a", "b"]), "p", Some("b")).unwrap(), "b");
        let message = |pod: &Pod, wanted| container(pod, "p", wanted).unwrap_err().to_string();
        assert_eq!(
            message(&pod(&["a", "b"]), None),
            "a container name must be specified for pod p, choose one of: [a b]"
        );
        assert_eq!(
            message(&pod(&["a"]), Some("c")),
            "container c is not valid for pod p"
        );
    }
}
