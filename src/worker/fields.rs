//! The downward API: fields of a pod and resources of its containers as text.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::quantity;

/// What a pod may ask about itself.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub pod: &'a Pod,
    pub pod_ip: IpAddr,
    pub host_ip: IpAddr,
    /// What an unlimited container may use, by resource name.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// Why a field has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("fieldPath `{0}` is not supported")]
    Field(String),
    #[error("resource `{0}` is not supported")]
    Resource(String),
    #[error("container `{0}` does not exist in the pod")]
    Container(String),
    #[error("resource `{0}`: the divisor is not a quantity above zero")]
    Divisor(String),
}

/// The value of `fieldRef`.
pub fn field(selector: &ObjectFieldSelector, subject: &Subject<'_>) -> Result<String, Error> {
    let path = selector.field_path.as_str();
    let meta = &subject.pod.metadata;
    let spec = subject.pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(Error::Field(path.to_owned())),
        };
        let value = map.and_then(|map| map.get(key));
        return Ok(value.cloned().unwrap_or_default());
    }
    let text = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => meta.labels.as_ref().map(lines),
        "metadata.annotations" => meta.annotations.as_ref().map(lines),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.hostIP" | "status.hostIPs" => Some(subject.host_ip.to_string()),
        "status.podIP" | "status.podIPs" => Some(subject.pod_ip.to_string()),
        _ => return Err(Error::Field(path.to_owned())),
    };
    Ok(text.unwrap_or_default())
}

/// The value of `resourceFieldRef`; `own` is the container that asks when none is named.
pub fn resource(
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
    subject: &Subject<'_>,
) -> Result<String, Error> {
    let container = match selector
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        Some(name) => find_container(subject.pod, name),
        None => own,
    };
    let container = container
        .ok_or_else(|| Error::Container(selector.container_name.clone().unwrap_or_default()))?;
    let (kind, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| Error::Resource(selector.resource.clone()))?;
    if !["cpu", "memory", "ephemeral-storage"].contains(&name) {
        return Err(Error::Resource(selector.resource.clone()));
    }
    let resources = container.resources.as_ref();
    let request = resources.and_then(|all| all.requests.as_ref()?.get(name));
    let limit = resources.and_then(|all| all.limits.as_ref()?.get(name));
    let zero = Quantity("0".to_owned());
    let amount = match kind {
        "limits" => limit.or_else(|| subject.allocatable.get(name)),
        "requests" => request.or(limit),
        _ => return Err(Error::Resource(selector.resource.clone())),
    };
    divide(amount.unwrap_or(&zero), selector)
}

fn divide(amount: &Quantity, selector: &ResourceFieldSelector) -> Result<String, Error> {
    let refuse = || Error::Divisor(selector.resource.clone());
    let divisor = selector.divisor.as_ref().map_or("1", |divisor| &divisor.0);
    let divisor = match divisor {
        "" | "0" => "1",
        other => other,
    };
    let divisor = quantity::parse_nano(divisor).map_err(|_| refuse())?;
    let amount = quantity::parse_nano(&amount.0).map_err(|_| refuse())?;
    if divisor <= 0 {
        return Err(refuse());
    }
    let quotient = amount.div_euclid(divisor) + i128::from(amount.rem_euclid(divisor) != 0);
    Ok(quotient.to_string())
}

fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let mut containers = spec.containers.iter().chain(init);
    containers.find(|container| container.name == name)
}

/// `metadata.labels['key']` in its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?;
    let quoted = |quote: char| key.strip_prefix(quote)?.strip_suffix(quote);
    Some((map, quoted('\'').or_else(|| quoted('"'))?))
}

/// `key="value"` a line, as Kubernetes writes whole maps.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
pub(in crate::worker) mod tests {
    use super::*;
    use serde_json::json;

    /// A pod with addresses, for who reads fields of it.
    pub(in crate::worker) fn subject<'a>(
        pod: &'a Pod,
        allocatable: &'a BTreeMap<String, Quantity>,
    ) -> Subject<'a> {
        Subject {
            pod,
            pod_ip: "10.64.0.2".parse().unwrap(),
            host_ip: "127.0.0.1".parse().unwrap(),
            allocatable,
        }
    }

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"app": "x", "b": "say \"hi\""}},
            "spec": {"nodeName": "dev-1", "containers": [{"name": "m", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}}]},
        }))
        .unwrap();
        let allocatable = BTreeMap::from([("cpu".to_owned(), Quantity("4".into()))]);
        let subject = subject(&pod, &allocatable);
        let fields = [
            ("metadata.name", "a"),
            ("metadata.namespace", "n"),
            ("metadata.uid", "u"),
            ("metadata.labels['app']", "x"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "app=\"x\"\nb=\"say \\\"hi\\\"\""),
            ("spec.nodeName", "dev-1"),
            ("status.podIP", "10.64.0.2"),
            ("status.hostIP", "127.0.0.1"),
        ];
        for (path, expected) in fields {
            let selector = ObjectFieldSelector {
                field_path: path.into(),
                ..Default::default()
            };
            assert_eq!(field(&selector, &subject).unwrap(), expected, "{path}");
        }
        let unknown = ObjectFieldSelector {
            field_path: "spec.nope".into(),
            ..Default::default()
        };
        assert!(field(&unknown, &subject).is_err());
        let resources = [
            ("limits.memory", "1Mi", "64"),
            ("limits.memory", "0", "67108864"),
            ("requests.memory", "1", "67108864"),
            ("requests.cpu", "1m", "250"),
            ("requests.cpu", "1", "1"),
            ("limits.cpu", "1", "4"),
        ];
        for (name, divisor, expected) in resources {
            let selector = ResourceFieldSelector {
                resource: name.into(),
                divisor: Some(Quantity(divisor.into())),
                container_name: Some("m".into()),
            };
            assert_eq!(
                resource(&selector, None, &subject).unwrap(),
                expected,
                "{name}"
            );
        }
    }
}
