//! A ReplicationController as the ReplicaSet that it would be today.
//!
//! As in Kubernetes, whoever judges, shows or controls ReplicaSets does the same for their elder
//! through this view, so that no rule is written twice.

use k8s_openapi::api::apps::v1::{
    ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus,
};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerSpec,
    ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub fn as_replica_set(controller: &ReplicationController) -> ReplicaSet {
    ReplicaSet {
        metadata: controller.metadata.clone(),
        spec: controller.spec.as_ref().map(spec),
        status: controller.status.as_ref().map(status),
    }
}

fn spec(spec: &ReplicationControllerSpec) -> ReplicaSetSpec {
    ReplicaSetSpec {
        min_ready_seconds: spec.min_ready_seconds,
        replicas: spec.replicas,
        selector: LabelSelector {
            match_labels: spec.selector.clone(),
            match_expressions: None,
        },
        template: spec.template.clone(),
    }
}

fn status(status: &ReplicationControllerStatus) -> ReplicaSetStatus {
    let condition = |it: &ReplicationControllerCondition| ReplicaSetCondition {
        last_transition_time: it.last_transition_time.clone(),
        message: it.message.clone(),
        reason: it.reason.clone(),
        status: it.status.clone(),
        type_: it.type_.clone(),
    };
    let conditions = status.conditions.as_ref();
    ReplicaSetStatus {
        available_replicas: status.available_replicas,
        conditions: conditions.map(|all| all.iter().map(condition).collect()),
        fully_labeled_replicas: status.fully_labeled_replicas,
        observed_generation: status.observed_generation,
        ready_replicas: status.ready_replicas,
        replicas: status.replicas,
        terminating_replicas: None,
    }
}

/// The way back: what the status of the view says of the controller.
pub fn status_of(status: ReplicaSetStatus) -> ReplicationControllerStatus {
    let condition = |it: ReplicaSetCondition| ReplicationControllerCondition {
        last_transition_time: it.last_transition_time,
        message: it.message,
        reason: it.reason,
        status: it.status,
        type_: it.type_,
    };
    let conditions = status.conditions;
    ReplicationControllerStatus {
        available_replicas: status.available_replicas,
        conditions: conditions.map(|all| all.into_iter().map(condition).collect()),
        fully_labeled_replicas: status.fully_labeled_replicas,
        observed_generation: status.observed_generation,
        ready_replicas: status.ready_replicas,
        replicas: status.replicas,
    }
}
