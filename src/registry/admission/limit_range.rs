//! The LimitRanges of a namespace: what a new pod gets if it does not say, and what it may not ask.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::Registry;
use super::super::error::Error;
use super::super::kinds::ResourceInfo;
use super::super::options::Caller;
use super::super::quota::usage::{Amounts, pod_amounts};
use super::super::strategy::{self, Draft};
use crate::api::quantity;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn items(registry: &Registry, ns: &str) -> Result<Vec<LimitRangeItem>, Error> {
    let api = registry.api::<LimitRange>(Caller::system("limit-ranger"));
    let ranges = api.list(Some(ns))?;
    let specs = ranges.iter().filter_map(|range| range.spec.as_ref());
    Ok(specs.flat_map(|spec| spec.limits.clone()).collect())
}

/// Gives the containers of a new pod the namespace's defaults.
pub(super) fn mutate(registry: &Registry, draft: &mut dyn Draft) -> Result<(), Error> {
    let Some(pod) = strategy::get_mut::<Pod>(draft) else {
        return Ok(());
    };
    let ns = pod.metadata.namespace.clone().unwrap_or_default();
    for item in items(registry, &ns)? {
        if item.type_ == "Container" {
            give(pod, &item);
        }
    }
    Ok(())
}

fn give(pod: &mut Pod, item: &LimitRangeItem) {
    let Some(spec) = &mut pod.spec else { return };
    let mut told = Vec::new();
    let main = spec.containers.iter_mut().map(|one| ("container", one));
    let init = spec.init_containers.iter_mut().flatten();
    for (role, container) in main.chain(init.map(|one| ("init container", one))) {
        let resources = container.resources.get_or_insert_default();
        for (word, to, from) in [
            ("request", &mut resources.requests, &item.default_request),
            ("limit", &mut resources.limits, &item.default),
        ] {
            let names = fill(to, from.as_ref());
            if !names.is_empty() {
                let names = names.join(", ");
                told.push(format!("{names} {word} for {role} {}", container.name));
            }
        }
    }
    if !told.is_empty() {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION.to_owned(), text);
    }
}

type Given = Option<BTreeMap<String, Quantity>>;

fn fill(to: &mut Given, from: Option<&BTreeMap<String, Quantity>>) -> Vec<String> {
    let mut names = Vec::new();
    for (name, amount) in from.into_iter().flatten() {
        let to = to.get_or_insert_default();
        if !to.contains_key(name) {
            to.insert(name.clone(), amount.clone());
            names.push(name.clone());
        }
    }
    names
}

/// Refuses a new pod or claim that is out of bounds; every bound that it breaks is told.
pub(super) fn validate(
    registry: &Registry,
    res: &ResourceInfo,
    draft: &dyn Draft,
) -> Result<(), Error> {
    let ns = draft.meta().namespace.as_deref().unwrap_or_default();
    let mut broken = Vec::new();
    if let Some(pod) = strategy::get::<Pod>(draft) {
        for item in items(registry, ns)? {
            judge_pod(pod, &item, &mut broken);
        }
    } else if let Some(claim) = strategy::get::<PersistentVolumeClaim>(draft) {
        let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let asked = Asked {
            requests: amounts(resources.and_then(|all| all.requests.as_ref())),
            limits: None,
        };
        for item in items(registry, ns)? {
            if item.type_ == "PersistentVolumeClaim" {
                judge(&asked, &item, &mut broken);
            }
        }
    }
    let message = match broken.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let name = draft.meta().name.as_deref().unwrap_or_default();
    Err(Error::forbidden(res, name, message))
}

/// What is asked for, in billionths; claims have no limits.
struct Asked {
    requests: Amounts,
    limits: Option<Amounts>,
}

fn amounts(given: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let given = given.into_iter().flatten();
    given
        .filter_map(|(name, amount)| Some((name.clone(), quantity::parse_nano(&amount.0).ok()?)))
        .collect()
}

fn of_container(container: &Container) -> Asked {
    let empty = ResourceRequirements::default();
    let resources = container.resources.as_ref().unwrap_or(&empty);
    Asked {
        requests: amounts(resources.requests.as_ref()),
        limits: Some(amounts(resources.limits.as_ref())),
    }
}

fn judge_pod(pod: &Pod, item: &LimitRangeItem, broken: &mut Vec<String>) {
    let Some(spec) = &pod.spec else { return };
    match item.type_.as_str() {
        "Container" => {
            let init = spec.init_containers.iter().flatten();
            for container in spec.containers.iter().chain(init) {
                judge(&of_container(container), item, broken);
            }
        }
        "Pod" => {
            let asked = Asked {
                requests: pod_amounts(spec, |resources| resources.requests.as_ref()),
                limits: Some(pod_amounts(spec, |resources| resources.limits.as_ref())),
            };
            judge(&asked, item, broken);
        }
        _ => {}
    }
}

fn judge(asked: &Asked, item: &LimitRangeItem, broken: &mut Vec<String>) {
    let of = &item.type_;
    let bound = |given: &Given| {
        let parsed = amounts(given.as_ref());
        let given = given.clone().unwrap_or_default();
        parsed
            .into_iter()
            .map(move |(name, nano)| (given[&name].0.clone(), name, nano))
            .collect::<Vec<_>>()
    };
    let shown = |name: &str, nano: i128| quantity::canonical(nano, is_binary(name)).0;
    for (text, name, least) in bound(&item.min) {
        let rule = format!("minimum {name} usage per {of} is {text}");
        match asked.requests.get(&name) {
            None => broken.push(format!("{rule}.  No request is specified")),
            Some(request) if *request < least => {
                broken.push(format!("{rule}, but request is {}", shown(&name, *request)));
            }
            Some(_) => {}
        }
        let limit = asked.limits.as_ref().and_then(|limits| limits.get(&name));
        if let Some(limit) = limit.filter(|limit| **limit < least) {
            broken.push(format!("{rule}, but limit is {}", shown(&name, *limit)));
        }
    }
    for (text, name, most) in bound(&item.max) {
        let rule = format!("maximum {name} usage per {of} is {text}");
        if let Some(limits) = &asked.limits {
            match limits.get(&name) {
                None => broken.push(format!("{rule}.  No limit is specified")),
                Some(limit) if *limit > most => {
                    broken.push(format!("{rule}, but limit is {}", shown(&name, *limit)));
                }
                Some(_) => {}
            }
        }
        if let Some(request) = asked.requests.get(&name).filter(|asked| **asked > most) {
            broken.push(format!("{rule}, but request is {}", shown(&name, *request)));
        }
    }
    let Some(limits) = &asked.limits else { return };
    for (text, name, most) in bound(&item.max_limit_request_ratio) {
        let rule = format!("{name} max limit to request ratio per {of} is {text}");
        let positive = |amounts: &Amounts| amounts.get(&name).copied().filter(|nano| *nano > 0);
        match (positive(&asked.requests), positive(limits)) {
            (None, _) => broken.push(format!(
                "{rule}, but no request is specified or request is 0"
            )),
            (_, None) => broken.push(format!("{rule}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let ratio = limit as f64 / request as f64;
                if ratio > most as f64 / 1e9 {
                    broken.push(format!("{rule}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

/// Whether an amount is shown in powers of 1024.
pub(in super::super) fn is_binary(name: &str) -> bool {
    name.contains("memory") || name.contains("storage")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(item: &serde_json::Value) -> LimitRangeItem {
        serde_json::from_value(item.clone()).unwrap()
    }

    fn pod(resources: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [
            {"name": "m", "resources": resources}, {"name": "n", "resources": resources}]}}))
        .unwrap()
    }

    #[test]
    fn bounds_are_told_in_kubernetes_words() {
        let check =
            |bounds: &serde_json::Value, resources: &serde_json::Value, expected: &[&str]| {
                let mut broken = Vec::new();
                judge_pod(&pod(resources), &item(bounds), &mut broken);
                broken.dedup();
                assert_eq!(broken, expected, "{bounds} {resources}");
            };
        let max = json!({"type": "Container", "max": {"cpu": "200m"}});
        check(
            &max,
            &json!({"limits": {"cpu": "500m"}}),
            &["maximum cpu usage per Container is 200m, but limit is 500m"],
        );
        check(&max, &json!({"limits": {"cpu": "0.2"}}), &[]);
        check(
            &max,
            &json!({}),
            &["maximum cpu usage per Container is 200m.  No limit is specified"],
        );
        let min = json!({"type": "Container", "min": {"memory": "64Mi"}});
        check(
            &min,
            &json!({"requests": {"memory": "32Mi"}}),
            &["minimum memory usage per Container is 64Mi, but request is 32Mi"],
        );
        check(
            &min,
            &json!({}),
            &["minimum memory usage per Container is 64Mi.  No request is specified"],
        );
        let pod = json!({"type": "Pod", "max": {"cpu": "1"}});
        check(
            &pod,
            &json!({"limits": {"cpu": "600m"}}),
            &["maximum cpu usage per Pod is 1, but limit is 1200m"],
        );
        let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
        check(
            &ratio,
            &json!({"limits": {"cpu": "1"}, "requests": {"cpu": "250m"}}),
            &["cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000"],
        );
    }

    #[test]
    fn defaults_are_given_and_told() {
        let mut pod = pod(&json!({"limits": {"cpu": "1"}}));
        let defaults = json!({"type": "Container", "default": {"cpu": "500m", "memory": "64Mi"}, "defaultRequest": {"cpu": "100m"}});
        give(&mut pod, &item(&defaults));
        let first = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(
            json!(first.resources),
            json!({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(
            pod.metadata.annotations.unwrap()[ANNOTATION],
            "LimitRanger plugin set: cpu request for container m; memory limit for container m; cpu request for container n; memory limit for container n"
        );
    }
}
