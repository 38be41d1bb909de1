//! Who is meant by `[scheme:]name[:port]`, in the words and with the refusals of Kubernetes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::api::selector::Labels;
use crate::apiserver::error::Error;
use crate::apiserver::handlers::Context;
use crate::ids;

/// What kind of thing is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pod,
    Service,
    Node,
}

/// The name of a path, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    kind: Kind,
    /// As it was sent, for refusals.
    id: String,
    name: String,
    port: String,
}

/// Where a request goes.
pub(super) enum Place {
    Pod { pod: PodPlace, port: u16 },
    Node { name: String },
}

/// A pod, and the worker that has it.
pub(super) struct PodPlace {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) node: String,
    ip: String,
}

/// Where a request is sent, as the receiver sees it.
pub(super) struct Address<'a> {
    /// `Host`, for a pod.
    pub(super) host: Option<String>,
    pub(super) path: &'a str,
}

impl Place {
    pub(super) fn host<'a>(&self, path: &'a str) -> Address<'a> {
        let host = match self {
            Self::Pod { pod, port } => Some(format!("{}:{port}", pod.ip)),
            Self::Node { .. } => None,
        };
        Address { host, path }
    }
}

impl Target {
    pub(super) fn parse(id: &str, plural: &str) -> Result<Self, Error> {
        let (kind, word) = match plural {
            "pods" => (Kind::Pod, "pod"),
            "services" => (Kind::Service, "service"),
            "nodes" => (Kind::Node, "node"),
            _ => return Err(Error::UnknownPath),
        };
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => ("-", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(Error::BadRequest(format!(
                "invalid {word} request \"{id}\""
            )));
        }
        let is_spoken = match kind {
            Kind::Pod | Kind::Service => scheme != "https",
            Kind::Node => scheme != "http",
        };
        if !is_spoken {
            let text = format!("{scheme} is not spoken with a {word} by this proxy");
            return Err(Error::BadRequest(text));
        }
        Ok(Self {
            kind,
            id: id.to_owned(),
            name: name.to_owned(),
            port: port.to_owned(),
        })
    }

    pub(super) fn resolve(&self, ctx: &Context) -> Result<Place, Error> {
        match self.kind {
            Kind::Pod => self.pod(ctx),
            Kind::Service => self.service(ctx),
            Kind::Node => self.node(ctx),
        }
    }

    fn pod(&self, ctx: &Context) -> Result<Place, Error> {
        let namespace = ctx.namespace().ok_or(Error::UnknownPath)?;
        let pods = ctx.registry().api::<Pod>(ctx.caller.clone());
        let pod = pods.get(namespace, &self.name)?;
        let port = pod_port(&pod, &self.port)?;
        Ok(Place::Pod {
            pod: place(&pod).ok_or_else(|| Error::BadRequest("address not allowed".to_owned()))?,
            port,
        })
    }

    fn service(&self, ctx: &Context) -> Result<Place, Error> {
        let namespace = ctx.namespace().ok_or(Error::UnknownPath)?;
        let registry = ctx.registry();
        let services = registry.api::<Service>(ctx.caller.clone());
        let service = services.get(namespace, &self.name)?;
        let port = self.port_name(&service)?;
        let slices = registry.api::<EndpointSlice>(ctx.caller.clone());
        let label = ("kubernetes.io/service-name".to_owned(), self.name.clone());
        let label = Labels::from_map(&[label].into());
        let slices = slices.list_selected(Some(namespace), &label)?;
        let candidates = candidates(&slices, &port);
        let pods = registry.api::<Pod>(ctx.caller.clone());
        let first = (ids::jitter() * candidates.len() as f64) as usize;
        let (before, after) = candidates.split_at(first.min(candidates.len()));
        for (name, port) in after.iter().chain(before) {
            let pod = pods.try_get(namespace, name)?;
            if let Some(pod) = pod.as_deref().and_then(place) {
                return Ok(Place::Pod { pod, port: *port });
            }
        }
        let id = &self.id;
        let text = format!("no endpoints available for service \"{id}\"");
        Err(Error::Unavailable(text))
    }

    /// The name of the port that is meant: the one given, or that of the number given.
    fn port_name(&self, service: &Service) -> Result<String, Error> {
        let Ok(number) = self.port.parse::<i64>() else {
            return Ok(self.port.clone());
        };
        let ports = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        let found = ports.clone().find(|port| i64::from(port.port) == number);
        found
            .map(|port| port.name.clone().unwrap_or_default())
            .ok_or_else(|| {
                let name = &self.name;
                Error::Unavailable(format!(
                    "no service port {number} found for service \"{name}\""
                ))
            })
    }

    fn node(&self, ctx: &Context) -> Result<Place, Error> {
        let nodes = ctx.registry().api::<Node>(ctx.caller.clone());
        let node = nodes.get("", &self.name)?;
        let endpoint = node
            .status
            .as_ref()
            .and_then(|it| it.daemon_endpoints.as_ref());
        let port = endpoint
            .and_then(|it| it.kubelet_endpoint.as_ref())
            .map(|it| it.port);
        if !self.port.is_empty() && self.port.parse().ok() != port {
            let text = format!("node {} is reached at its worker's port only", self.name);
            return Err(Error::BadRequest(text));
        }
        Ok(Place::Node {
            name: self.name.clone(),
        })
    }
}

fn place(pod: &Pod) -> Option<PodPlace> {
    let ip = pod.status.as_ref()?.pod_ip.clone()?;
    let node = pod.spec.as_ref()?.node_name.clone()?;
    Some(PodPlace {
        namespace: pod.metadata.namespace.clone()?,
        name: pod.metadata.name.clone()?,
        node,
        ip,
    })
}

/// The port that is named by number or by name; the first of the pod's containers if none is.
fn pod_port(pod: &Pod, wanted: &str) -> Result<u16, Error> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let number = match wanted {
        "" => Some(ports.next().map_or(80, |port| port.container_port)),
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => number.parse().ok(),
        name => ports
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port),
    };
    let number = number.and_then(|number| u16::try_from(number).ok());
    number.filter(|number| *number != 0).ok_or_else(|| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Error::BadRequest(format!("pod {name} has no port {wanted}"))
    })
}

/// Ready pods behind the port of that name, with its number.
fn candidates(slices: &[Arc<EndpointSlice>], port: &str) -> Vec<(String, u16)> {
    let mut candidates = Vec::new();
    for slice in slices {
        let named = slice.ports.iter().flatten();
        let mut named = named.filter(|it| it.name.as_deref().unwrap_or_default() == port);
        let number = named.next().and_then(|port| u16::try_from(port.port?).ok());
        let Some(number) = number else { continue };
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            let is_ready = conditions.and_then(|it| it.ready) != Some(false);
            let pod = endpoint.target_ref.as_ref();
            let pod = pod.filter(|it| is_ready && it.kind.as_deref() == Some("Pod"));
            candidates.extend(pod.and_then(|pod| Some((pod.name.clone()?, number))));
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(id: &str, plural: &str, expected: Result<(&str, &str), &str>) {
        let parsed = Target::parse(id, plural);
        let parsed = parsed.map_err(|error| error.to_string());
        let parsed = parsed
            .as_ref()
            .map(|it| (it.name.as_str(), it.port.as_str()));
        assert_eq!(parsed.map_err(String::as_str), expected, "{id}");
    }

    #[test]
    fn names_have_schemes_and_ports() {
        check("web", "services", Ok(("web", "")));
        check("web:80", "services", Ok(("web", "80")));
        check("http:web:http", "services", Ok(("web", "http")));
        check("http:web:", "pods", Ok(("web", "")));
        check("https:n:10250", "nodes", Ok(("n", "10250")));
        check(":80", "services", Err("invalid service request \":80\""));
        check(
            "ftp:web:1",
            "pods",
            Err("invalid pod request \"ftp:web:1\""),
        );
        check("a:b:c:d", "nodes", Err("invalid node request \"a:b:c:d\""));
        let refused = "https is not spoken with a pod by this proxy";
        check("https:web:1", "pods", Err(refused));
    }

    #[test]
    fn a_pods_port_is_a_number_a_name_or_the_first() {
        let ports = json!([{"name": "http", "containerPort": 8080}]);
        let containers = json!([{"name": "a"}, {"name": "b", "ports": ports}]);
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let port = |wanted| pod_port(&pod, wanted).ok();
        assert_eq!(port(""), Some(8080));
        assert_eq!(port("http"), Some(8080));
        assert_eq!(port("81"), Some(81));
        assert_eq!(port("0"), None);
        assert_eq!(port("65536"), None);
        assert_eq!(port("https"), None);
        assert_eq!(pod_port(&Pod::default(), "").unwrap(), 80);
    }

    #[test]
    fn only_ready_pods_answer_for_a_service() {
        let pod = |name: &str, ready: bool| {
            json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "name": name}})
        };
        let elsewhere = json!({"addresses": ["10.0.0.9"]});
        let slice = json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
            "endpoints": [pod("a", true), pod("b", false), elsewhere]});
        let slices = [Arc::new(serde_json::from_value(slice).unwrap())];
        assert_eq!(candidates(&slices, "http"), [("a".to_owned(), 8080)]);
        assert!(candidates(&slices, "").is_empty());
    }
}
