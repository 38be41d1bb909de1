//! Ephemeral containers: what is put into a running pod to look into it, by a subresource of its own.
//!
//! They are only ever added. They have no ports, probes, hooks, limits or restarts; what a container
//! has besides is judged as for any other.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::{self, Draft};
use super::container::{self, Role};
use crate::api::names;
use crate::api::pod::as_container;

pub(super) fn set_defaults(ephemeral: &mut EphemeralContainer) {
    let mut defaulted = as_container(ephemeral);
    container::set_defaults(&mut defaulted);
    ephemeral.env = defaulted.env;
    ephemeral.image_pull_policy = defaulted.image_pull_policy;
    ephemeral.termination_message_path = defaulted.termination_message_path;
    ephemeral.termination_message_policy = defaulted.termination_message_policy;
}

/// A pod is born without them.
pub(super) fn validate_create(path: &Path<'_>, spec: &PodSpec, errors: &mut Errors) {
    if !of(spec).is_empty() {
        errors.forbidden(
            &path.field("ephemeralContainers"),
            "cannot be set on create; add them to a running pod with the subresource ephemeralcontainers",
        );
    }
}

fn of(spec: &PodSpec) -> &[EphemeralContainer] {
    spec.ephemeral_containers.as_deref().unwrap_or_default()
}

pub(super) fn validate(path: &Path<'_>, spec: &PodSpec, errors: &mut Errors) {
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let init = spec.init_containers.iter().flatten();
    let others: BTreeSet<&str> = init
        .chain(&spec.containers)
        .map(|container| container.name.as_str())
        .collect();
    let mut seen = others.clone();
    let list = path.field("ephemeralContainers");
    for (index, ephemeral) in of(spec).iter().enumerate() {
        let at = list.index(index);
        let name = at.field("name");
        if ephemeral.name.is_empty() {
            errors.required(&name, "");
        } else if !names::is_dns_label(&ephemeral.name) {
            errors.invalid(&name, &ephemeral.name, names::DNS_LABEL_RULE);
        } else if !seen.insert(&ephemeral.name) {
            errors.duplicate(&name, &ephemeral.name);
        }
        let target = ephemeral.target_container_name.as_deref();
        if let Some(target) = target.filter(|target| !target.is_empty())
            && !others.contains(target)
        {
            errors.missing(&at.field("targetContainerName"), target);
        }
        let found = as_container(ephemeral);
        refuse(&at, &found, errors);
        container::validate(&at, &found, Role::Ephemeral, volumes, errors);
    }
}

fn refuse(path: &Path<'_>, found: &Container, errors: &mut Errors) {
    let resources = found.resources.as_ref();
    let has_resources = resources.is_some_and(|found| {
        let is_set = |list: &Option<std::collections::BTreeMap<_, _>>| {
            list.as_ref().is_some_and(|list| !list.is_empty())
        };
        is_set(&found.limits) || is_set(&found.requests)
    });
    let mounts = found.volume_mounts.iter().flatten();
    let has_sub_path = mounts
        .clone()
        .any(|mount| mount.sub_path.is_some() || mount.sub_path_expr.is_some());
    for (field, is_set) in [
        (
            "ports",
            found.ports.as_ref().is_some_and(|it| !it.is_empty()),
        ),
        ("startupProbe", found.startup_probe.is_some()),
        ("readinessProbe", found.readiness_probe.is_some()),
        ("livenessProbe", found.liveness_probe.is_some()),
        ("lifecycle", found.lifecycle.is_some()),
        ("resources", has_resources),
        ("restartPolicy", found.restart_policy.is_some()),
        ("volumeMounts", has_sub_path),
    ] {
        if is_set {
            let what = if field == "volumeMounts" {
                "cannot have a subPath in an ephemeral container"
            } else {
                "cannot be set for an ephemeral container"
            };
            errors.forbidden(&path.field(field), what);
        }
    }
}

/// Only additions.
pub(crate) fn validate_update(new: &dyn Draft, old: &dyn Draft, errors: &mut Errors) {
    let spec = |draft| strategy::get::<Pod>(draft).and_then(|pod| pod.spec.as_ref());
    let (Some(new), Some(old)) = (spec(new), spec(old)) else {
        return;
    };
    let path = Path::Root.field("spec");
    let list = path.field("ephemeralContainers");
    for known in of(old) {
        match of(new).iter().find(|kept| kept.name == known.name) {
            Some(kept) if kept == known => {}
            Some(_) => errors.forbidden(
                &list,
                &format!(
                    "existing ephemeral containers \"{}\" may not be changed",
                    known.name
                ),
            ),
            None => errors.forbidden(
                &list,
                &format!(
                    "existing ephemeral containers \"{}\" may not be removed",
                    known.name
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(list: &Value, expected: &[&str]) {
        let mut spec: PodSpec = serde_json::from_value(
            json!({"containers": [{"name": "m", "image": "m"}], "ephemeralContainers": list}),
        )
        .unwrap();
        spec.ephemeral_containers
            .iter_mut()
            .flatten()
            .for_each(set_defaults);
        let mut errors = Errors::default();
        validate(&Path::Root.field("spec"), &spec, &mut errors);
        let found: Vec<String> = errors.0.iter().map(|error| error.field.clone()).collect();
        assert_eq!(found, expected, "{list}");
    }

    #[test]
    fn what_a_debug_container_may_be() {
        let at = |field: &str| format!("spec.ephemeralContainers[0].{field}");
        check(
            &json!([{"name": "d", "image": "toolbox", "stdin": true, "tty": true, "targetContainerName": "m",
                "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}, "resources": {}}]),
            &[],
        );
        check(&json!([{"name": "m", "image": "d"}]), &[&at("name")]);
        check(&json!([{"name": "d"}]), &[&at("image")]);
        check(
            &json!([{"name": "d", "image": "d", "targetContainerName": "x"}]),
            &[&at("targetContainerName")],
        );
        check(
            &json!([{"name": "d", "image": "d", "ports": [{"containerPort": 1}]}]),
            &[&at("ports")],
        );
        check(
            &json!([{"name": "d", "image": "d", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]),
            &[&at("securityContext.capabilities.add")],
        );
    }

    #[test]
    fn they_are_only_ever_added() {
        let pod = |list: Value| -> Pod {
            let spec = json!({"containers": [], "ephemeralContainers": list});
            serde_json::from_value(json!({"spec": spec})).unwrap()
        };
        let check = |old: Value, new: Value, count| {
            let mut errors = Errors::default();
            validate_update(&pod(new), &pod(old), &mut errors);
            assert_eq!(errors.0.len(), count, "{:?}", errors.0);
        };
        let one = || json!({"name": "a", "image": "a"});
        check(json!([]), json!([one()]), 0);
        check(json!([one()]), json!([one(), {"name": "b"}]), 0);
        check(json!([one()]), json!([]), 1);
        check(json!([one()]), json!([{"name": "a", "image": "b"}]), 1);
    }
}
