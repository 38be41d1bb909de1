//! The quality-of-service class of a pod, as Kubernetes computes it from requests and limits.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::quantity;

const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else {
        return "BestEffort";
    };
    let init = spec.init_containers.iter().flatten();
    let containers: Vec<&Container> = spec.containers.iter().chain(init).collect();
    if containers.iter().all(|container| is_best_effort(container)) {
        "BestEffort"
    } else if containers.iter().all(|container| is_guaranteed(container)) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn amounts(container: &Container) -> [BTreeMap<&str, u64>; 2] {
    let resources = container.resources.as_ref();
    let read = |map: Option<&BTreeMap<String, Quantity>>| {
        RESOURCES
            .into_iter()
            .filter_map(|name| Some((name, quantity::millis_or_zero(map?.get(name)?))))
            .filter(|(_, amount)| *amount > 0)
            .collect()
    };
    [
        read(resources.and_then(|resources| resources.requests.as_ref())),
        read(resources.and_then(|resources| resources.limits.as_ref())),
    ]
}

fn is_best_effort(container: &Container) -> bool {
    amounts(container).iter().all(BTreeMap::is_empty)
}

fn is_guaranteed(container: &Container) -> bool {
    let [requests, limits] = amounts(container);
    RESOURCES.into_iter().all(|name| {
        let limit = limits.get(name);
        // A request that is not written is the limit.
        limit.is_some()
            && requests
                .get(name)
                .is_none_or(|request| Some(request) == limit)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::worker::plan::tests::pod;

    #[test]
    fn classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let cases = [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "0"}}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": both}), "Guaranteed"),
            (json!({"limits": both, "requests": both}), "Guaranteed"),
            (
                json!({"limits": both, "requests": {"cpu": "500m"}}),
                "Burstable",
            ),
        ];
        for (resources, expected) in cases {
            let pod =
                pod(&json!({"containers": [{"name": "a", "image": "a", "resources": resources}]}));
            assert_eq!(class(&pod), expected, "{resources}");
        }
    }
}
