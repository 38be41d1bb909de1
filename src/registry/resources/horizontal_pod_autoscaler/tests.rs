//! What an autoscaler may say, and that both versions say the same.

use super::super::check;
use super::versions::{present_v1, to_stored};
use super::*;

#[test]
fn what_cannot_be_measured_is_refused() {
    let metric = |metric: Value, expected: &[&str]| {
        check::<HorizontalPodAutoscaler>("/spec/metrics", &json!([metric]), expected);
    };
    let target = json!({"type": "AverageValue", "averageValue": "10Mi"});
    metric(
        json!({"type": "Resource", "resource": {"name": "memory", "target": target}}),
        &[],
    );
    metric(
        json!({"type": "Pods", "pods": {"metric": {"name": "x"}, "target": target}}),
        &[
            "spec.metrics[0].type: Forbidden: wasmorch does not honour this field: only the use of cpu and memory is measured; use a metric of type Resource",
        ],
    );
    metric(
        json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}),
        &[
            "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
        ],
    );
    check::<HorizontalPodAutoscaler>(
        "/spec/maxReplicas",
        &json!(0),
        &[
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ],
    );
    check::<HorizontalPodAutoscaler>(
        "/spec/behavior",
        &json!({"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 60}]}}),
        &["spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero"],
    );
}

#[test]
fn a_behavior_that_says_something_is_completed() {
    let mut object = HorizontalPodAutoscaler::sample();
    object["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 5}});
    let mut scaler: HorizontalPodAutoscaler = serde_json::from_value(object).unwrap();
    scaler.set_defaults();
    let spec = serde_json::to_value(scaler.spec.unwrap()).unwrap();
    assert_eq!(
        spec["metrics"][0]["resource"]["target"]["averageUtilization"],
        80
    );
    assert_eq!(
        spec["behavior"]["scaleUp"],
        json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]})
    );
    assert_eq!(
        spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
        5
    );
}

#[test]
fn the_old_version_loses_nothing() {
    let mut object = HorizontalPodAutoscaler::sample();
    object["spec"]["minReplicas"] = 2.into();
    object["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 5}});
    object["spec"]["metrics"] = json!([
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "10Mi"}}}]);
    let scaler: HorizontalPodAutoscaler = serde_json::from_value(object.clone()).unwrap();
    let shown = present_v1(&object).unwrap();
    assert_eq!(shown["apiVersion"], "autoscaling/v1");
    assert_eq!(shown["spec"]["targetCPUUtilizationPercentage"], 50);
    let back = to_stored(serde_json::from_value(shown).unwrap());
    assert_eq!(back.spec, scaler.spec);
    assert!(back.metadata.annotations.is_none_or(|all| all.is_empty()));
}

#[test]
fn targets_are_shown_beside_what_is() {
    let spec: HorizontalPodAutoscalerSpec = serde_json::from_value(json!({
        "maxReplicas": 3, "scaleTargetRef": {"kind": "", "name": ""}, "metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "10Mi"}}}]}))
    .unwrap();
    let mut status = HorizontalPodAutoscalerStatus::default();
    assert_eq!(
        targets(&spec, &status),
        "cpu: <unknown>/50%, memory: <unknown>/10Mi"
    );
    status.current_metrics = serde_json::from_value(json!([
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12, "averageValue": "3m"}}}]))
    .unwrap();
    assert_eq!(
        targets(&spec, &status),
        "cpu: 12%/50%, memory: <unknown>/10Mi"
    );
}
