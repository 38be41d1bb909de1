//! HorizontalPodAutoscalers: replicas that follow the load. The stored form is `autoscaling/v2`;
//! `versions.rs` shows the same objects as `v1`.

mod versions;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus, MetricSpec, MetricTarget, MetricValueStatus,
    ResourceMetricSource,
};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::quantity;
use crate::api::table::Column;

pub(crate) use versions::{HOOKS_V1, sample_v1};

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Reference"),
    Column::text("Targets"),
    Column::text("MinPods"),
    Column::text("MaxPods"),
    Column::integer("Replicas"),
    Column::text("Age"),
];

/// The target of an autoscaler that names no metric.
const CPU_PERCENT: i32 = 80;
const LONGEST_WINDOW: i32 = 3600;
const LONGEST_PERIOD: i32 = 1800;

impl Strategy for HorizontalPodAutoscaler {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            spec.metrics = Some(vec![cpu(CPU_PERCENT)]);
        }
        let Some(behavior) = &mut spec.behavior else {
            return;
        };
        let pods = ("Pods", 4);
        let percent = ("Percent", 100);
        let up = behavior.scale_up.get_or_insert_default();
        fill(up, Some(0), &[pods, percent]);
        let down = behavior.scale_down.get_or_insert_default();
        fill(down, None, &[percent]);
    }

    fn prepare_create(&mut self) {
        self.status = Some(HorizontalPodAutoscalerStatus::default());
    }

    fn prepare_update(&mut self, old: &Self) {
        // The old version has no room for all of it, and only `/status` writes it.
        self.status.clone_from(&old.status);
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let Some(spec) = &self.spec else {
            errors.required(&path, "");
            return;
        };
        let min = spec.min_replicas.unwrap_or(1);
        if min < 1 {
            let rule = "must be greater than or equal to 1";
            errors.invalid(&path.field("minReplicas"), min, rule);
        }
        let most = path.field("maxReplicas");
        if spec.max_replicas < 1 {
            errors.invalid(&most, spec.max_replicas, "must be greater than 0");
        }
        if spec.max_replicas < min {
            let rule = "must be greater than or equal to `minReplicas`";
            errors.invalid(&most, spec.max_replicas, rule);
        }
        let target = path.field("scaleTargetRef");
        for (field, value) in [
            ("kind", &spec.scale_target_ref.kind),
            ("name", &spec.scale_target_ref.name),
        ] {
            if value.is_empty() {
                errors.required(&target.field(field), "");
            }
        }
        let metrics = path.field("metrics");
        for (index, metric) in spec.metrics.iter().flatten().enumerate() {
            validate_metric(&metrics.index(index), metric, errors);
        }
        let behavior = path.field("behavior");
        for (field, rules) in [
            (
                "scaleUp",
                spec.behavior.as_ref().and_then(|it| it.scale_up.as_ref()),
            ),
            (
                "scaleDown",
                spec.behavior.as_ref().and_then(|it| it.scale_down.as_ref()),
            ),
        ] {
            if let Some(rules) = rules {
                validate_rules(&behavior.field(field), rules, errors);
            }
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let empty = HorizontalPodAutoscalerSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let status = self.status.clone().unwrap_or_default();
        let min = spec.min_replicas.map(|min| min.to_string());
        let target = &spec.scale_target_ref;
        vec![
            cell::name(&self.metadata),
            format!("{}/{}", target.kind, target.name).into(),
            targets(spec, &status).into(),
            min.unwrap_or_else(|| "<unset>".to_owned()).into(),
            spec.max_replicas.to_string().into(),
            status.current_replicas.unwrap_or(0).into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "sample"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "sample"}}})
    }
}

fn cpu(percent: i32) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

fn fill(rules: &mut HPAScalingRules, window: Option<i32>, policies: &[(&str, i32)]) {
    if rules.stabilization_window_seconds.is_none() {
        rules.stabilization_window_seconds = window;
    }
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        let policy = |(kind, value): &(&str, i32)| HPAScalingPolicy {
            type_: (*kind).to_owned(),
            value: *value,
            period_seconds: 15,
        };
        rules.policies = Some(policies.iter().map(policy).collect());
    }
}

fn validate_metric(path: &Path<'_>, metric: &MetricSpec, errors: &mut Errors) {
    let hint = "only the use of cpu and memory is measured; use a metric of type Resource";
    let kind = path.field("type");
    match metric.type_.as_str() {
        "Resource" => match &metric.resource {
            Some(resource) => {
                validate_target(
                    &path.field("resource"),
                    &resource.name,
                    &resource.target,
                    errors,
                );
            }
            None => errors.required(
                &path.field("resource"),
                "must populate information for the given metric source",
            ),
        },
        "ContainerResource" => match &metric.container_resource {
            Some(resource) => {
                let at = path.field("containerResource");
                if resource.container.is_empty() {
                    errors.required(&at.field("container"), "");
                }
                validate_target(&at, &resource.name, &resource.target, errors);
            }
            None => errors.required(
                &path.field("containerResource"),
                "must populate information for the given metric source",
            ),
        },
        "Pods" | "Object" | "External" => errors.not_honoured(&kind, true, hint),
        other => errors.not_supported(
            &kind,
            other,
            &[
                "ContainerResource",
                "External",
                "Object",
                "Pods",
                "Resource",
            ],
        ),
    }
}

fn validate_target(path: &Path<'_>, name: &str, target: &MetricTarget, errors: &mut Errors) {
    match name {
        "" => errors.required(&path.field("name"), "must specify a resource name"),
        "cpu" | "memory" => {}
        _ => errors.not_honoured(
            &path.field("name"),
            true,
            "only cpu and memory are measured",
        ),
    }
    let at = path.field("target");
    errors.one_of(
        &at.field("type"),
        Some(&target.type_),
        &["Utilization", "AverageValue"],
    );
    match (target.average_utilization, &target.average_value) {
        (None, None) => errors.required(
            &at.field("averageUtilization"),
            "must set either a target raw value or a target utilization",
        ),
        (Some(_), Some(_)) => errors.forbidden(
            &at.field("averageValue"),
            "may not set both a target raw value and a target utilization",
        ),
        (Some(percent), None) if percent < 1 => errors.invalid(
            &at.field("averageUtilization"),
            percent,
            "must be greater than 0",
        ),
        (None, Some(value)) if quantity::parse_nano(&value.0).is_ok_and(|nano| nano <= 0) => {
            errors.invalid(&at.field("averageValue"), &value.0, "must be positive");
        }
        _ => {}
    }
}

fn validate_rules(path: &Path<'_>, rules: &HPAScalingRules, errors: &mut Errors) {
    let window = path.field("stabilizationWindowSeconds");
    errors.non_negative(&window, rules.stabilization_window_seconds.map(i64::from));
    if let Some(seconds) = rules
        .stabilization_window_seconds
        .filter(|it| *it > LONGEST_WINDOW)
    {
        let rule = format!("must be less than or equal to {LONGEST_WINDOW}");
        errors.invalid(&window, seconds, &rule);
    }
    errors.one_of(
        &path.field("selectPolicy"),
        rules.select_policy.as_deref(),
        &["Disabled", "Max", "Min"],
    );
    errors.not_honoured(
        &path.field("tolerance"),
        rules.tolerance.is_some(),
        "the tolerance is one tenth; remove it",
    );
    let policies = path.field("policies");
    for (index, policy) in rules.policies.iter().flatten().enumerate() {
        let at = policies.index(index);
        errors.one_of(&at.field("type"), Some(&policy.type_), &["Percent", "Pods"]);
        for (field, value) in [
            ("value", policy.value),
            ("periodSeconds", policy.period_seconds),
        ] {
            if value <= 0 {
                errors.invalid(&at.field(field), value, "must be greater than zero");
            }
        }
        if policy.period_seconds > LONGEST_PERIOD {
            let rule = format!("must be less than or equal to {LONGEST_PERIOD}");
            errors.invalid(&at.field("periodSeconds"), policy.period_seconds, &rule);
        }
    }
}

/// `cpu: 12%/50%, memory: 3Mi/10Mi`.
fn targets(spec: &HorizontalPodAutoscalerSpec, status: &HorizontalPodAutoscalerStatus) -> String {
    let shown = |value: Option<&MetricValueStatus>, target: &MetricTarget| {
        let unknown = || "<unknown>".to_owned();
        if let Some(percent) = target.average_utilization {
            let now = value.and_then(|value| value.average_utilization);
            let now = now.map_or_else(unknown, |now| format!("{now}%"));
            format!("{now}/{percent}%")
        } else {
            let now = value.and_then(|value| value.average_value.as_ref());
            let now = now.map_or_else(unknown, |now| now.0.clone());
            let wanted = target.average_value.as_ref().map_or("", |it| &it.0);
            format!("{now}/{wanted}")
        }
    };
    let currents = status.current_metrics.as_deref().unwrap_or_default();
    let one = |metric: &MetricSpec| {
        if let Some(wanted) = &metric.resource {
            let mut found = currents.iter().filter_map(|it| it.resource.as_ref());
            let found = found.find(|it| it.name == wanted.name);
            let value = shown(found.map(|it| &it.current), &wanted.target);
            return Some(format!("{}: {value}", wanted.name));
        }
        let wanted = metric.container_resource.as_ref()?;
        let mut found = currents
            .iter()
            .filter_map(|it| it.container_resource.as_ref());
        let found = found.find(|it| (&it.name, &it.container) == (&wanted.name, &wanted.container));
        let value = shown(found.map(|it| &it.current), &wanted.target);
        Some(format!("{}: {value}", wanted.name))
    };
    let all: Vec<String> = spec.metrics.iter().flatten().filter_map(one).collect();
    match all.len() {
        0 => cell::NONE.to_owned(),
        1..=2 => all.join(", "),
        count => format!("{} + {} more...", all[..2].join(", "), count - 2),
    }
}

#[cfg(test)]
mod tests;
