//! Pods: the unit that is scheduled, run and stopped; almost all of a pod's spec is fixed at birth.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::filter::Selectable;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::pod_status_word::{self, Restarts};
use super::{affinity, cell, ephemeral, pod_annotations, pod_spec};
use crate::api::table::{self, Column};
use crate::api::{pod, quantity};

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Ready"),
    Column::text("Status"),
    Column::text("Restarts"),
    Column::text("Age"),
    Column::text("IP").wide(),
    Column::text("Node").wide(),
    Column::text("Nominated Node").wide(),
    Column::text("Readiness Gates").wide(),
];
pub(crate) const FIELDS: &[Selectable] = &[
    Selectable::field("spec.nodeName"),
    Selectable::field("spec.restartPolicy"),
    Selectable::field("spec.schedulerName"),
    Selectable::field("spec.serviceAccountName"),
    Selectable::flag("spec.hostNetwork"),
    Selectable::field("status.phase"),
    Selectable::field("status.podIP"),
    Selectable::field("status.nominatedNodeName"),
];

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

impl Strategy for Pod {
    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        pod_spec::set_defaults(spec);
        spec.enable_service_links.get_or_insert(true);
    }

    fn prepare_create(&mut self) {
        self.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(qos_class(self.spec.as_ref()).to_owned()),
            ..Default::default()
        });
        let labels = self.metadata.labels.as_ref();
        let affinity = self.spec.as_mut().and_then(|spec| spec.affinity.as_mut());
        if let (Some(labels), Some(affinity)) = (labels, affinity) {
            affinity::add_label_keys(affinity, labels);
        }
    }

    fn prepare_update(&mut self, old: &Self) {
        // Admission has given these at birth; a manifest does not name them.
        if let (Some(new), Some(old)) = (&mut self.spec, &old.spec) {
            new.priority = new.priority.or(old.priority);
            if new.preemption_policy.is_none() {
                new.preemption_policy.clone_from(&old.preemption_policy);
            }
            if new.priority_class_name.is_none() {
                new.priority_class_name.clone_from(&old.priority_class_name);
            }
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        match &self.spec {
            Some(spec) => pod_spec::validate(&path, spec, errors),
            None => errors.required(&path, ""),
        }
        let metadata = Path::Root.field("metadata");
        if let Some(annotations) = &self.metadata.annotations {
            let at = metadata.field("annotations");
            pod_annotations::validate(&at, annotations, self.spec.as_ref(), errors);
        }
    }

    fn validate_create(&self, errors: &mut Errors) {
        if let Some(spec) = &self.spec {
            ephemeral::validate_create(&Path::Root.field("spec"), spec, errors);
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        let had = old.tolerations.as_deref().unwrap_or_default();
        let has = new.tolerations.as_deref().unwrap_or_default();
        if had.iter().any(|toleration| !has.contains(toleration)) {
            errors.forbidden(
                &path.field("tolerations"),
                "existing toleration can not be modified except its tolerationSeconds",
            );
        }
        let deadline = (new.active_deadline_seconds, old.active_deadline_seconds);
        if let (new, Some(old)) = deadline
            && new.is_none_or(|new| new > old)
        {
            errors.invalid_json(
                &path.field("activeDeadlineSeconds"),
                &new,
                "must be less than or equal to previous value",
            );
        }
        let changed = changed_fields(&with_changeable(new, old), old);
        if !changed.is_empty() {
            errors.forbidden(&path, &format!("{MAY_CHANGE}; changed: {changed}"));
        }
    }

    fn grace(&self, requested: Option<i64>) -> i64 {
        let spec = self.spec.as_ref();
        let own = spec.and_then(|spec| spec.termination_grace_period_seconds);
        let grace = requested.or(own).unwrap_or(30);
        let grace = if grace < 0 { 1 } else { grace };
        // Nobody runs a pod that is not bound or has ended, so there is nobody to wait for.
        if pod::node_name(self).is_none() || pod::phase(self).is_terminal() {
            0
        } else {
            grace
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let summary = pod_status_word::summary(self);
        let Restarts { count, last } = summary.restarts;
        let restarts = match last {
            Some(_) if count != 0 => format!("{count} ({} ago)", table::age(last, now)),
            _ => count.to_string(),
        };
        let status = self.status.as_ref();
        vec![
            cell::name(&self.metadata),
            format!("{}/{}", summary.ready, summary.total).into(),
            summary.word.into(),
            restarts.into(),
            cell::age(&self.metadata, now),
            cell::or_none(status.and_then(|status| status.pod_ip.as_deref())),
            cell::or_none(pod::node_name(self)),
            cell::or_none(status.and_then(|status| status.nominated_node_name.as_deref())),
            cell::NONE.into(),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sample"},
            "spec": {"containers": [{"name": "main", "image": "hello"}]}})
    }
}

/// `new` with everything that may change set back to `old`.
fn with_changeable(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    for (container, old) in spec.containers.iter_mut().zip(&old.containers) {
        container.image.clone_from(&old.image);
    }
    let init = spec.init_containers.iter_mut().flatten();
    for (container, old) in init.zip(old.init_containers.iter().flatten()) {
        container.image.clone_from(&old.image);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    if old
        .termination_grace_period_seconds
        .is_some_and(|old| old < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    spec
}

/// The names of the fields of a spec that differ.
fn changed_fields(new: &PodSpec, old: &PodSpec) -> String {
    if new == old {
        return String::new();
    }
    let (Ok(Value::Object(new)), Ok(Value::Object(old))) =
        (serde_json::to_value(new), serde_json::to_value(old))
    else {
        return "spec".to_owned();
    };
    let keys = new
        .keys()
        .chain(old.keys().filter(|key| !new.contains_key(*key)));
    let changed = keys.filter(|key| new.get(*key) != old.get(*key));
    changed
        .map(|key| format!("spec.{key}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `Guaranteed` if every container is limited to what it requests, `BestEffort` if none asks for
/// anything, `Burstable` in between.
fn qos_class(spec: Option<&PodSpec>) -> &'static str {
    let containers = spec.into_iter().flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers)
    });
    let (mut any, mut all) = (false, true);
    for container in containers {
        let resources = container.resources.clone().unwrap_or_default();
        for name in ["cpu", "memory"] {
            let amount = |list: &Option<std::collections::BTreeMap<String, _>>| {
                let found = list.as_ref()?.get(name)?;
                quantity::millis(found).ok().filter(|amount| *amount > 0)
            };
            let (request, limit) = (amount(&resources.requests), amount(&resources.limits));
            any |= request.is_some() || limit.is_some();
            all &= limit.is_some() && request == limit;
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(containers: &Value) -> PodSpec {
        serde_json::from_value(json!({"containers": containers})).unwrap()
    }

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let both = json!({"cpu": "1", "memory": "1Mi"});
        for (containers, class) in [
            (json!([{"resources": {}}]), "BestEffort"),
            (json!([{"resources": {"requests": both}}]), "Burstable"),
            (
                json!([{"resources": {"requests": both, "limits": both}}]),
                "Guaranteed",
            ),
            (
                json!([{"resources": {"requests": both, "limits": both}}, {}]),
                "Burstable",
            ),
            (
                json!([{"resources": {"requests": {"cpu": "500m"}, "limits": both}}]),
                "Burstable",
            ),
        ] {
            assert_eq!(qos_class(Some(&spec(&containers))), class, "{containers}");
        }
    }

    #[test]
    fn grace_is_for_those_that_run() {
        let grace = |status: Value, spec: Value, requested| {
            let pod = json!({"spec": spec, "status": status});
            serde_json::from_value::<Pod>(pod).unwrap().grace(requested)
        };
        let bound = || json!({"nodeName": "a", "terminationGracePeriodSeconds": 7});
        let running = || json!({"phase": "Running"});
        assert_eq!(grace(running(), bound(), None), 7);
        assert_eq!(grace(running(), bound(), Some(3)), 3);
        assert_eq!(grace(running(), bound(), Some(-1)), 1);
        assert_eq!(grace(running(), bound(), Some(0)), 0);
        assert_eq!(grace(json!({"phase": "Failed"}), bound(), None), 0);
        assert_eq!(grace(running(), json!({}), Some(30)), 0);
        assert_eq!(grace(json!({}), json!({"nodeName": "a"}), None), 30);
    }
}
