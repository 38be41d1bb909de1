//! What a ReplicaSet reports: a pure function of what was counted and of how the writes went.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};

use super::plan::{Action, Plan};
use crate::api::condition::{self, Status};

const FAILURE: &str = "ReplicaFailure";

/// `failure` is the text of the error that stopped the plan.
pub(super) fn status(
    replica_set: &ReplicaSet,
    plan: &Plan,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let old = replica_set.status.clone().unwrap_or_default();
    let mut conditions = old.conditions.unwrap_or_default();
    match failure {
        Some(message) => {
            let reason = match plan.action {
                Action::Create(_) | Action::Nothing => "FailedCreate",
                Action::Delete(_) => "FailedDelete",
            };
            // The words of the first failure stay: a message with a changing pod name in it would
            // make every retry a write.
            if condition::find(&conditions, FAILURE).is_none() {
                condition::set(
                    &mut conditions,
                    FAILURE,
                    Status::True,
                    (reason, message),
                    now,
                );
            }
        }
        None => conditions.retain(|condition| condition.type_ != FAILURE),
    }
    let counts = plan.counts;
    ReplicaSetStatus {
        replicas: counts.replicas,
        fully_labeled_replicas: nonzero(counts.fully_labeled),
        ready_replicas: nonzero(counts.ready),
        available_replicas: nonzero(counts.available),
        observed_generation: replica_set.metadata.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
        terminating_replicas: old.terminating_replicas,
    }
}

/// Zero is left out on the wire (`omitempty`).
fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::replica_set::plan::Counts;

    fn plan(action: Action, available: i32) -> Plan {
        Plan {
            action,
            counts: Counts {
                replicas: 2,
                fully_labeled: 2,
                ready: available,
                available,
            },
            look_again: None,
        }
    }

    #[test]
    fn reports_counts_and_failures_and_forgets_them() {
        let mut replica_set = ReplicaSet::default();
        replica_set.metadata.generation = Some(7);
        let now = Timestamp::UNIX_EPOCH;
        let failed = status(
            &replica_set,
            &plan(Action::Create(1), 0),
            Some("exceeded quota"),
            now,
        );
        assert_eq!((failed.replicas, failed.ready_replicas), (2, None));
        assert_eq!(failed.observed_generation, Some(7));
        let condition = &failed.conditions.as_ref().unwrap()[0];
        assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
        assert_eq!(condition.message.as_deref(), Some("exceeded quota"));

        replica_set.status = Some(failed.clone());
        let again = status(
            &replica_set,
            &plan(Action::Create(1), 0),
            Some("other words"),
            now,
        );
        assert_eq!(again, failed);
        let well = status(&replica_set, &plan(Action::Nothing, 2), None, now);
        assert_eq!((well.available_replicas, well.conditions), (Some(2), None));
    }
}
