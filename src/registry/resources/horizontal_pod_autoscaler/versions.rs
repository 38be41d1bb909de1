//! `autoscaling/v1` of the same objects: it shows the CPU target as a field and keeps the other
//! metrics, the behavior and the conditions in annotations, as Kubernetes does, so that an old
//! client that writes back what it has read loses nothing.

use k8s_openapi::api::autoscaling::v1 as old;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus, MetricValueStatus,
    ResourceMetricStatus,
};
use serde_json::{Value, json};

use super::cpu;
use crate::registry::decode::{self, WrongType};
use crate::registry::strategy::{Decoded, Hooks, schema_of};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// The hooks of the row in `autoscaling/v1`.
pub(crate) const HOOKS_V1: Hooks = Hooks {
    decode: decode_v1,
    present: Some(present_v1),
    schema: schema_of::<old::HorizontalPodAutoscaler>,
    ..Hooks::of::<HorizontalPodAutoscaler>()
};

pub(crate) fn sample_v1() -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "sample"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "sample"}}})
}

fn decode_v1(value: &Value) -> Result<Decoded, WrongType> {
    let decoded = decode::decode::<old::HorizontalPodAutoscaler>(value)?;
    Ok((Box::new(to_stored(decoded.object)), decoded.unknown))
}

pub(super) fn present_v1(stored: &Value) -> Result<Value, serde_json::Error> {
    let mut shown = serde_json::to_value(from_stored(serde::Deserialize::deserialize(stored)?)?)?;
    shown["apiVersion"] = "autoscaling/v1".into();
    shown["kind"] = "HorizontalPodAutoscaler".into();
    Ok(shown)
}

pub(super) fn to_stored(given: old::HorizontalPodAutoscaler) -> HorizontalPodAutoscaler {
    let mut metadata = given.metadata;
    let mut kept = |key: &str| {
        let text = metadata.annotations.as_mut()?.remove(key)?;
        serde_json::from_str::<Value>(&text).ok()
    };
    // An annotation that cannot be read says nothing; the field beside it stands.
    let others = kept(METRICS).and_then(|it| serde_json::from_value::<Vec<MetricSpec>>(it).ok());
    let behavior = kept(BEHAVIOR).and_then(|it| serde_json::from_value(it).ok());
    let conditions = kept(CONDITIONS).and_then(|it| serde_json::from_value(it).ok());
    let spec = given.spec.map(|spec| {
        let mut metrics = others.unwrap_or_default();
        if let Some(percent) = spec.target_cpu_utilization_percentage {
            metrics.insert(0, cpu(percent));
        }
        let target = spec.scale_target_ref;
        HorizontalPodAutoscalerSpec {
            behavior,
            max_replicas: spec.max_replicas,
            metrics: (!metrics.is_empty()).then_some(metrics),
            min_replicas: spec.min_replicas,
            scale_target_ref: CrossVersionObjectReference {
                api_version: target.api_version,
                kind: target.kind,
                name: target.name,
            },
        }
    });
    let status = given.status.map(|status| HorizontalPodAutoscalerStatus {
        conditions,
        current_metrics: status
            .current_cpu_utilization_percentage
            .map(|percent| vec![cpu_now(percent)]),
        current_replicas: Some(status.current_replicas),
        desired_replicas: status.desired_replicas,
        last_scale_time: status.last_scale_time,
        observed_generation: status.observed_generation,
    });
    HorizontalPodAutoscaler {
        metadata,
        spec,
        status,
    }
}

fn cpu_now(percent: i32) -> MetricStatus {
    MetricStatus {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricStatus {
            name: "cpu".to_owned(),
            current: MetricValueStatus {
                average_utilization: Some(percent),
                ..MetricValueStatus::default()
            },
        }),
        ..MetricStatus::default()
    }
}

fn from_stored(
    stored: HorizontalPodAutoscaler,
) -> Result<old::HorizontalPodAutoscaler, serde_json::Error> {
    let mut metadata = stored.metadata;
    let mut keep = |key: &str, value: Value| {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), value.to_string());
    };
    let is_cpu = |metric: &MetricSpec| {
        let resource = metric.resource.as_ref();
        resource
            .filter(|it| it.name == "cpu")?
            .target
            .average_utilization
    };
    let mut percent = None;
    let spec = match stored.spec {
        None => None,
        Some(spec) => {
            let mut others = spec.metrics.unwrap_or_default();
            if let Some(place) = others.iter().position(|one| is_cpu(one).is_some()) {
                percent = is_cpu(&others.remove(place));
            }
            if !others.is_empty() {
                keep(METRICS, serde_json::to_value(others)?);
            }
            if let Some(behavior) = &spec.behavior {
                keep(BEHAVIOR, serde_json::to_value(behavior)?);
            }
            let target = spec.scale_target_ref;
            Some(old::HorizontalPodAutoscalerSpec {
                max_replicas: spec.max_replicas,
                min_replicas: spec.min_replicas,
                target_cpu_utilization_percentage: percent,
                scale_target_ref: old::CrossVersionObjectReference {
                    api_version: target.api_version,
                    kind: target.kind,
                    name: target.name,
                },
            })
        }
    };
    let status = match stored.status {
        None => None,
        Some(status) => {
            if let Some(conditions) = &status.conditions {
                keep(CONDITIONS, serde_json::to_value(conditions)?);
            }
            let currents = status.current_metrics.unwrap_or_default();
            let mut resources = currents.iter().filter_map(|it| it.resource.as_ref());
            let cpu = resources.find(|it| it.name == "cpu");
            Some(old::HorizontalPodAutoscalerStatus {
                current_cpu_utilization_percentage: cpu
                    .and_then(|it| it.current.average_utilization),
                current_replicas: status.current_replicas.unwrap_or(0),
                desired_replicas: status.desired_replicas,
                last_scale_time: status.last_scale_time,
                observed_generation: status.observed_generation,
            })
        }
    };
    Ok(old::HorizontalPodAutoscaler {
        metadata,
        spec,
        status,
    })
}
