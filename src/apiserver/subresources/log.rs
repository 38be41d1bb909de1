//! `pods/{name}/log`: asks the worker that runs the pod, and passes its answer through.
//!
//! The API server keeps no logs. What the worker streams is streamed on, and ends when either side
//! ends or the server stops.

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Pod;

use crate::apiserver::error::Error;
use crate::apiserver::handlers::Context;
use crate::apiserver::query::Query;
use crate::apiserver::respond;

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

pub(crate) async fn get(ctx: &Context) -> Result<Response, Error> {
    let name = ctx.name()?;
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
        forwarded(&ctx.query)?
    );
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
    let mut response = respond::text(StatusCode::OK, Body::from_stream(lines));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The query for the worker.
fn forwarded(query: &Query) -> Result<String, Error> {
    for number in ["tailLines", "sinceSeconds", "limitBytes"] {
        query.number::<u64>(number)?;
    }
    let mut forwarded = form_urlencoded::Serializer::new(String::new());
    for parameter in FORWARDED {
        if let Some(value) = query.get(parameter) {
            forwarded.append_pair(parameter, value);
        }
    }
    Ok(forwarded.finish())
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
