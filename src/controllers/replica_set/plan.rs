//! What a ReplicaSet must do about its pods. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::rank;
use crate::api::pod;
use crate::controllers::{Error, path};

/// Pods made or removed in one pass; the next pass follows at once.
const BURST: usize = 500;

/// What to do, and what was seen.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) action: Action,
    pub(super) counts: Counts,
    /// When a ready pod becomes an available one.
    pub(super) look_again: Option<Duration>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// What the status reports of the pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) replicas: i32,
    pub(super) fully_labeled: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
}

pub(super) fn desired(replica_set: &ReplicaSet) -> usize {
    let replicas = replica_set.spec.as_ref().and_then(|spec| spec.replicas);
    usize::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

/// Whether `plan` will delete pods, so that the siblings are worth counting.
pub(super) fn is_scaling_down(replica_set: &ReplicaSet, pods: &[Arc<Pod>]) -> bool {
    pods.iter().filter(|pod| pod::is_active(pod)).count() > desired(replica_set)
}

pub(super) fn plan(
    replica_set: &ReplicaSet,
    pods: &[Arc<Pod>],
    siblings_by_node: &BTreeMap<String, usize>,
    now: Timestamp,
) -> Result<Plan, Error> {
    let Some(spec) = &replica_set.spec else {
        return Err(Error::NoSpec {
            object: path(&replica_set.metadata),
        });
    };
    let mut active: Vec<Arc<Pod>> = pods
        .iter()
        .filter(|pod| pod::is_active(pod))
        .cloned()
        .collect();
    let min_ready =
        Duration::from_secs(u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0));
    let (counts, look_again) = count(replica_set, &active, min_ready, now);
    let desired = desired(replica_set);
    let action = if replica_set.metadata.deletion_timestamp.is_some() {
        Action::Nothing
    } else if active.len() < desired {
        Action::Create((desired - active.len()).min(BURST))
    } else if active.len() > desired {
        let surplus = (active.len() - desired).min(BURST);
        rank::sort(&mut active, siblings_by_node);
        active.truncate(surplus);
        Action::Delete(active)
    } else {
        Action::Nothing
    };
    Ok(Plan {
        action,
        counts,
        look_again,
    })
}

fn count(
    replica_set: &ReplicaSet,
    active: &[Arc<Pod>],
    min_ready: Duration,
    now: Timestamp,
) -> (Counts, Option<Duration>) {
    let template = replica_set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.as_ref());
    let template_labels = template
        .and_then(|template| template.metadata.as_ref())
        .and_then(|meta| meta.labels.as_ref());
    let mut counts = Counts {
        replicas: active.len() as i32,
        ..Counts::default()
    };
    let mut look_again: Option<Duration> = None;
    for pod in active {
        let labels = pod.metadata.labels.as_ref();
        let carries_all = template_labels
            .into_iter()
            .flatten()
            .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
        counts.fully_labeled += i32::from(carries_all);
        if pod::is_ready(pod) {
            counts.ready += 1;
            match pod::until_available(pod, min_ready, now) {
                None => counts.available += 1,
                Some(wait) => look_again = Some(look_again.map_or(wait, |other| other.min(wait))),
            }
        }
    }
    (counts, look_again)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn replica_set(replicas: i32, min_ready: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "default", "uid": "rs"},
            "spec": {"replicas": replicas, "minReadySeconds": min_ready, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}}}},
        }))
        .unwrap()
    }

    fn pod(name: &str, phase: &str, ready: bool, dying: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"app": "web"}, "deletionTimestamp": dying.then_some("2026-01-01T00:00:00Z")},
                "status": {"phase": phase, "conditions": [
                    {"type": "Ready", "status": if ready {"True"} else {"False"}, "lastTransitionTime": "1970-01-01T00:01:40Z"}]},
            }))
            .unwrap(),
        )
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn check(replicas: i32, pods: &[Arc<Pod>]) -> Action {
        let none = BTreeMap::new();
        plan(&replica_set(replicas, 0), pods, &none, at(0))
            .unwrap()
            .action
    }

    #[test]
    fn makes_what_is_missing_and_removes_what_is_too_much() {
        let running = pod("a", "Running", true, false);
        let pending = pod("b", "Pending", false, false);
        assert_eq!(check(1, &[]), Action::Create(1));
        assert_eq!(check(0, &[]), Action::Nothing);
        assert_eq!(check(1000, &[]), Action::Create(BURST));
        assert_eq!(check(1, std::slice::from_ref(&running)), Action::Nothing);
        // Neither a pod on its way out nor a finished one counts.
        assert_eq!(
            check(1, &[pod("x", "Running", true, true)]),
            Action::Create(1)
        );
        assert_eq!(
            check(1, &[pod("x", "Failed", false, false)]),
            Action::Create(1)
        );
        assert_eq!(
            check(1, &[pod("x", "Succeeded", false, false)]),
            Action::Create(1)
        );
        assert_eq!(
            check(1, &[running.clone(), pending.clone()]),
            Action::Delete(vec![pending.clone()])
        );
        assert_eq!(
            check(0, &[running.clone(), pending.clone()]),
            Action::Delete(vec![pending, running])
        );
    }

    #[test]
    fn a_replica_set_on_its_way_out_makes_nothing() {
        let mut dying = replica_set(3, 0);
        dying.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
        let plan = plan(&dying, &[], &BTreeMap::new(), at(0)).unwrap();
        assert_eq!(plan.action, Action::Nothing);
    }

    #[test]
    fn a_pod_is_available_after_min_ready_seconds() {
        let pods = [
            pod("a", "Running", true, false),
            pod("b", "Running", false, false),
        ];
        for (now, available, wait) in [
            (100, 0, Some(10)),
            (104, 0, Some(6)),
            (110, 1, None),
            (500, 1, None),
        ] {
            let plan = plan(&replica_set(2, 10), &pods, &BTreeMap::new(), at(now)).unwrap();
            assert_eq!(plan.counts.ready, 1);
            assert_eq!(plan.counts.available, available, "{now}");
            assert_eq!(plan.look_again.map(|wait| wait.as_secs()), wait, "{now}");
        }
    }
}
