//! `metrics.k8s.io/v1beta1`: what nodes and pods use, as metrics-server tells it; `kubectl top`.
//!
//! No registry row stands behind it: the figures are read from the workers and never kept. They
//! can be got and listed, and that is all that metrics-server offers too.

use axum::response::Response;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::api::selector::Labels;
use crate::registry::usage::{Amounts, NodeUsage, PodUsage};
use crate::registry::{Caller, Registry};

use super::error::Error;
use super::query::Query;
use super::request::{RequestInfo, Verb};
use super::respond;

pub(crate) const GROUP: &str = "metrics.k8s.io";
pub(crate) const VERSION: &str = "v1beta1";
pub(crate) const VERBS: &[&str] = &["get", "list"];

/// A resource of the group: plural, kind, whether it is namespaced.
pub(crate) const RESOURCES: [(&str, &str, bool); 2] = [
    ("nodes", "NodeMetrics", false),
    ("pods", "PodMetrics", true),
];

/// Whether a request is for this group.
pub(crate) fn is_meant(info: &RequestInfo) -> bool {
    info.group == GROUP && info.version == VERSION
}

/// Answers a request.
pub(crate) fn serve(
    registry: &Registry,
    info: &RequestInfo,
    query: &Query,
) -> Result<Response, Error> {
    match info.verb {
        Verb::Get | Verb::List => {}
        Verb::Watch
        | Verb::Create
        | Verb::Update
        | Verb::Patch
        | Verb::Delete
        | Verb::DeleteCollection => return Err(Error::MethodNotAllowed),
    }
    let labels = Labels::parse(query.get("labelSelector").unwrap_or_default())
        .map_err(|error| Error::BadRequest(error.to_string()))?;
    let name = info.name.as_deref();
    let found = match (info.resource.as_str(), &info.subresource, &info.namespace) {
        ("nodes", None, None) => nodes(registry, name, &labels)?,
        ("pods", None, namespace) => pods(registry, namespace.as_deref(), name, &labels)?,
        _ => return Err(Error::UnknownPath),
    };
    let (_, kind, _) = RESOURCES
        .iter()
        .find(|(plural, _, _)| *plural == info.resource)
        .ok_or(Error::UnknownPath)?;
    let api_version = format!("{GROUP}/{VERSION}");
    if let Some(name) = name {
        let mut object = found.into_iter().next().ok_or_else(|| {
            Error::NotFound(format!("{}.{GROUP} \"{name}\" not found", info.resource))
        })?;
        object["kind"] = (*kind).into();
        object["apiVersion"] = api_version.into();
        return Ok(respond::json(StatusCode::OK, &object));
    }
    let list = json!({"kind": format!("{kind}List"), "apiVersion": api_version, "metadata": {}, "items": found});
    Ok(respond::json(StatusCode::OK, &list))
}

fn nodes(registry: &Registry, name: Option<&str>, labels: &Labels) -> Result<Vec<Value>, Error> {
    let api = registry.api::<Node>(Caller::system("metrics"));
    let mut items = Vec::new();
    for usage in registry.usage().nodes() {
        if name.is_some_and(|name| name != usage.node) {
            continue;
        }
        if let Some(node) = api.try_get("", &usage.node)?
            && labels.matches(node.metadata.labels.as_ref())
        {
            items.push(node_metrics(&node.metadata, &usage));
        }
    }
    Ok(items)
}

fn pods(
    registry: &Registry,
    namespace: Option<&str>,
    name: Option<&str>,
    labels: &Labels,
) -> Result<Vec<Value>, Error> {
    let api = registry.api::<Pod>(Caller::system("metrics"));
    let mut items = Vec::new();
    for usage in registry.usage().pods(namespace) {
        if name.is_some_and(|name| name != usage.name) {
            continue;
        }
        if let Some(pod) = api.try_get(&usage.namespace, &usage.name)?
            && pod.metadata.uid.as_ref() == Some(&usage.uid)
            && labels.matches(pod.metadata.labels.as_ref())
        {
            items.push(pod_metrics(&pod.metadata, &usage));
        }
    }
    Ok(items)
}

fn node_metrics(meta: &ObjectMeta, usage: &NodeUsage) -> Value {
    json!({
        "metadata": {"name": usage.node, "creationTimestamp": seconds(usage.at), "labels": meta.labels},
        "timestamp": seconds(usage.at),
        "window": format!("{}s", usage.window.as_secs().max(1)),
        "usage": quantities(usage.amounts),
    })
}

fn pod_metrics(meta: &ObjectMeta, usage: &PodUsage) -> Value {
    let containers = usage.containers.iter();
    let containers: Vec<Value> = containers
        .map(|(name, amounts)| json!({"name": name, "usage": quantities(*amounts)}))
        .collect();
    json!({
        "metadata": {"name": usage.name, "namespace": usage.namespace,
            "creationTimestamp": seconds(usage.at), "labels": meta.labels},
        "timestamp": seconds(usage.at),
        "window": format!("{}s", usage.window.as_secs().max(1)),
        "containers": containers,
    })
}

/// Kubernetes' times have whole seconds.
fn seconds(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn quantities(amounts: Amounts) -> Value {
    json!({
        "cpu": format!("{}n", amounts.cpu_nanos),
        "memory": format!("{}Ki", amounts.memory_bytes.div_ceil(1024)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn figures_read_like_metrics_server() {
        let usage = PodUsage {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u".into(),
            at: jiff::Timestamp::from_millisecond(1_500).unwrap(),
            window: Duration::from_millis(15_200),
            containers: BTreeMap::from([(
                "main".to_owned(),
                Amounts {
                    cpu_nanos: 12_345_678,
                    memory_bytes: 4097,
                },
            )]),
        };
        let shown = pod_metrics(&ObjectMeta::default(), &usage);
        assert_eq!(shown["timestamp"], "1970-01-01T00:00:01Z");
        assert_eq!(shown["window"], "15s");
        assert_eq!(
            shown["containers"],
            json!([{"name": "main", "usage": {"cpu": "12345678n", "memory": "5Ki"}}])
        );
    }
}
