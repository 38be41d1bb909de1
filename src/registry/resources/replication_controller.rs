//! ReplicationControllers: the elder of ReplicaSets, judged and shown as they are.
//!
//! Two things are its own: a selector that is left out is taken from the template, and it may be
//! changed later.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerStatus};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::strategy::Strategy;
use super::pod_template;
use crate::api::replication_controller::as_replica_set;

impl Strategy for ReplicationController {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.replicas.get_or_insert(1);
        let Some(template) = &mut spec.template else {
            return;
        };
        pod_template::set_defaults(template);
        let labels = template.metadata.as_ref().and_then(|it| it.labels.as_ref());
        let Some(labels) = labels.filter(|labels| !labels.is_empty()) else {
            return;
        };
        for left_out in [&mut spec.selector, &mut self.metadata.labels] {
            if left_out.as_ref().is_none_or(BTreeMap::is_empty) {
                *left_out = Some(labels.clone());
            }
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(ReplicationControllerStatus::default());
    }

    fn validate(&self, errors: &mut Errors) {
        as_replica_set(self).validate(errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        as_replica_set(self).cells(now)
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "sample"},
            "spec": {"replicas": 0, "selector": {"app": "sample"}, "template": {
                "metadata": {"labels": {"app": "sample"}},
                "spec": {"containers": [{"name": "main", "image": "hello"}]}}}})
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_selector_that_is_left_out_is_the_templates() {
        let mut object = ReplicationController::sample();
        object["spec"]["selector"] = json!({});
        let mut object: ReplicationController = serde_json::from_value(object).unwrap();
        object.set_defaults();
        let labels = object.metadata.labels.clone().unwrap();
        assert_eq!(labels["app"], "sample");
        assert_eq!(object.spec.as_ref().unwrap().selector, Some(labels));
    }

    #[test]
    fn it_selects_what_it_makes() {
        let check = check::<ReplicationController>;
        check("/spec/selector", &json!(null), &[]);
        check(
            "/spec/selector",
            &json!({"app": "other"}),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"sample\"}: `selector` does not match template `labels`",
            ],
        );
        check(
            "/spec/replicas",
            &json!(-1),
            &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        );
        check(
            "/spec/template",
            &json!(null),
            &["spec.template: Required value"],
        );
    }
}
