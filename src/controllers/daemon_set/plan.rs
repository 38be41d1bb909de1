//! What a DaemonSet must do on each node, and what it reports. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::placement::{self, Fits};
use super::surge;
use crate::api::pod::{self, Phase};
use crate::api::share;
use crate::controllers::events::Notice;
use crate::controllers::revision::POD_LABEL;

/// Pods made or removed in one pass; the next pass follows at once.
const BURST: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The nodes that get a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) status: DaemonSetStatus,
    pub(super) notices: Vec<Notice>,
    pub(super) look_again: Option<Duration>,
}

/// A node and the set's pods on it, also those that are being deleted.
pub(super) struct Place<'a> {
    pub(super) fits: Fits,
    pub(super) pods: Vec<&'a Arc<Pod>>,
}

pub(super) fn plan(
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    (nodes, pods): (&[Arc<Node>], &[Arc<Pod>]),
    hash: &str,
    now: Timestamp,
) -> Plan {
    let mut places: BTreeMap<&str, Place<'_>> = BTreeMap::new();
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let fits = placement::fits(&spec.template, node);
        let pods = Vec::new();
        places.insert(name, Place { fits, pods });
    }
    let mut plan = Plan::default();
    for pod in pods {
        match placement::target(pod).and_then(|node| places.get_mut(node)) {
            Some(place) => place.pods.push(pod),
            // Its node is no more, or its affinity names none.
            None if !pod::is_terminating(pod) => plan.delete.push(Arc::clone(pod)),
            None => {}
        }
    }
    for place in places.values_mut() {
        place.pods.sort_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (
                pod::is_terminating(pod),
                pod::node_name(pod).is_none(),
                created,
                // Times are whole seconds: of two made in one, the ready one is the older.
                !pod::is_ready(pod),
                pod.metadata.name.clone(),
            )
        });
    }
    let min_ready = u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0);
    let min_ready = Duration::from_secs(min_ready);
    report(&mut plan, set, &places, hash, (min_ready, now));
    if set.metadata.deletion_timestamp.is_some() {
        plan.delete.clear();
        return plan;
    }
    let most_extra = surge::allowed(spec, desired(&places));
    for (node, place) in &places {
        manage(&mut plan, node, place, most_extra > 0);
        if most_extra > 0 && place.fits.stays {
            let living = surge::living(place);
            let extra = surge::superfluous(&living, hash, (min_ready, now));
            plan.delete.extend(extra);
        }
    }
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|it| it.type_.as_deref()) != Some("OnDelete") {
        if most_extra > 0 {
            surge::roll(&mut plan, &places, (most_extra, hash), (min_ready, now));
        } else {
            roll(&mut plan, spec, &places, hash, (min_ready, now));
        }
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

/// How many nodes shall have a pod.
fn desired(places: &BTreeMap<&str, Place<'_>>) -> i32 {
    places.values().filter(|place| place.fits.runs).count() as i32
}

/// One node: exactly one pod where it fits, none where it may not stay.
fn manage(plan: &mut Plan, node: &str, place: &Place<'_>, is_surging: bool) {
    let living = place.pods.iter().filter(|pod| !pod::is_terminating(pod));
    if !place.fits.stays {
        plan.delete.extend(living.map(|pod| Arc::clone(pod)));
        return;
    }
    let mut kept = 0;
    for pod in living {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let word = match pod::phase(pod) {
            Phase::Failed => "failed",
            Phase::Succeeded => "succeeded",
            Phase::Pending | Phase::Running | Phase::Unknown => {
                kept += 1;
                if kept > 1 && !is_surging {
                    plan.delete.push(Arc::clone(pod));
                }
                continue;
            }
        };
        let message = format!("Found {word} daemon pod {name} on node {node}, will try to kill it");
        let reason = if word == "failed" {
            "FailedDaemonPod"
        } else {
            "SucceededDaemonPod"
        };
        plan.notices.push(Notice::warning(reason, message));
        plan.delete.push(Arc::clone(pod));
    }
    if place.pods.is_empty() && place.fits.runs {
        plan.create.push(node.to_owned());
    }
}

/// Old pods go as far as `maxUnavailable` lets them; those that are of no use anyway go at once.
fn roll(
    plan: &mut Plan,
    spec: &DaemonSetSpec,
    places: &BTreeMap<&str, Place<'_>>,
    hash: &str,
    (min_ready, now): (Duration, Timestamp),
) {
    let strategy = spec.update_strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let allowed = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    let allowed = allowed.map_or(1, |allowed| share::scaled(allowed, desired(places), true));
    let allowed = usize::try_from(allowed).unwrap_or(0).max(1);
    let (mut unavailable, mut candidates) = (0, Vec::new());
    for place in places.values().filter(|place| place.fits.runs) {
        let living: Vec<_> = place
            .pods
            .iter()
            .filter(|pod| pod::is_active(pod))
            .collect();
        let [only] = living[..] else {
            unavailable += usize::from(living.is_empty());
            continue;
        };
        let is_available = availability(only, min_ready, now).is_ok();
        unavailable += usize::from(!is_available);
        if !is_of(only, hash) {
            if is_available {
                candidates.push(Arc::clone(only));
            } else {
                plan.delete.push(Arc::clone(only));
            }
        }
    }
    candidates.truncate(allowed.saturating_sub(unavailable));
    plan.delete.extend(candidates);
}

pub(super) fn is_of(pod: &Pod, hash: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(POD_LABEL))
        .map(String::as_str)
        == Some(hash)
}

/// `Err` if the pod is not available, with the time that will make it so.
pub(super) fn availability(
    pod: &Pod,
    min_ready: Duration,
    now: Timestamp,
) -> Result<(), Option<Duration>> {
    if !pod::is_ready(pod) || pod::is_terminating(pod) {
        return Err(None);
    }
    match pod::until_available(pod, min_ready, now) {
        None => Ok(()),
        Some(wait) => Err(Some(wait)),
    }
}

fn report(
    plan: &mut Plan,
    set: &DaemonSet,
    places: &BTreeMap<&str, Place<'_>>,
    hash: &str,
    (min_ready, now): (Duration, Timestamp),
) {
    let mut status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        collision_count: set
            .status
            .as_ref()
            .and_then(|status| status.collision_count),
        conditions: set
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone()),
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut available) = (0, 0);
    for place in places.values() {
        if !place.fits.runs {
            status.number_misscheduled += i32::from(!place.pods.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = place.pods.first() else {
            continue;
        };
        status.current_number_scheduled += 1;
        if pod::is_ready(pod) {
            status.number_ready += 1;
        }
        match availability(pod, min_ready, now) {
            Ok(()) => available += 1,
            Err(wait) => plan.look_again = plan.look_again.into_iter().chain(wait).min(),
        }
        updated += i32::from(is_of(pod, hash));
    }
    let nonzero = |count: i32| (count != 0).then_some(count);
    status.updated_number_scheduled = nonzero(updated);
    status.number_available = nonzero(available);
    status.number_unavailable = nonzero(status.desired_number_scheduled - available);
    plan.status = status;
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(change: &Value) -> DaemonSet {
        let mut base = json!({
            "metadata": {"name": "agent", "namespace": "default", "uid": "d", "generation": 2},
            "spec": {"selector": {}, "template": {"spec": {"containers": []}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}},
        });
        json_patch::merge(&mut base, &json!({"spec": change}));
        serde_json::from_value(base).unwrap()
    }

    /// `a`, or `b!` which repels pods, or `c?` which only takes no new ones.
    fn nodes(words: &str) -> Vec<Arc<Node>> {
        let node = |word: &str| {
            let effect = if word.ends_with('!') {
                "NoExecute"
            } else {
                "NoSchedule"
            };
            let taints = json!([{"key": "x", "effect": effect}]);
            let name = &word[..1];
            let node = json!({"metadata": {"name": name},
                "spec": {"taints": (word.len() > 1).then_some(taints)}});
            Arc::new(serde_json::from_value(node).unwrap())
        };
        words.split_whitespace().map(node).collect()
    }

    /// `ar`: on node a, ready, new; `o` ready and old; `q` pending and old; `p` pending; `f` failed;
    /// `-` being deleted.
    fn pods(words: &str) -> Vec<Arc<Pod>> {
        let pod = |(index, word): (usize, &str)| {
            let (node, state) = word.split_at(1);
            let phase = match state {
                "p" | "q" => "Pending",
                "f" => "Failed",
                _ => "Running",
            };
            let hash = if matches!(state, "o" | "q") {
                "old"
            } else {
                "new"
            };
            let ready = if matches!(state, "r" | "o") {
                "True"
            } else {
                "False"
            };
            let pod = json!({
                "metadata": {"name": format!("{word}{index}"), "labels": {"controller-revision-hash": hash},
                    "creationTimestamp": Timestamp::from_second(index as i64).unwrap(),
                    "deletionTimestamp": (state == "-").then_some("2026-01-01T00:00:00Z")},
                "spec": {"nodeName": node, "containers": []},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]},
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        words.split_whitespace().enumerate().map(pod).collect()
    }

    fn look(change: &Value, node_words: &str, pod_words: &str) -> Plan {
        let set = set(change);
        let now = Timestamp::from_second(100).unwrap();
        let seen = (&nodes(node_words)[..], &pods(pod_words)[..]);
        plan(&set, set.spec.as_ref().unwrap(), seen, "new", now)
    }

    fn check(change: Value, nodes: &str, pods: &str, create: &[&str], delete: &[&str]) {
        let plan = look(&change, nodes, pods);
        let mut gone: Vec<_> = plan
            .delete
            .iter()
            .map(|pod| &pod.metadata.name.as_deref().unwrap()[..2])
            .collect();
        gone.sort_unstable();
        assert_eq!(plan.create, create, "{nodes} {pods}");
        assert_eq!(gone, delete, "{nodes} {pods}");
    }

    #[test]
    fn each_node_that_fits_has_one_pod() {
        check(json!({}), "a b c", "", &["a", "b", "c"], &[]);
        check(json!({}), "a b", "ar", &["b"], &[]);
        check(json!({}), "a b? c!", "", &["a"], &[]);
        check(json!({}), "a? b!", "ar br", &[], &["br"]);
        check(json!({}), "a", "ar ap", &[], &["ap"]);
        check(json!({}), "a", "af", &[], &["af"]);
        // The old one must be gone before the new one comes.
        check(json!({}), "a", "a-", &[], &[]);
        check(json!({}), "a", "ar zr", &[], &["zr"]);
    }

    #[test]
    fn an_update_leaves_enough_nodes_served() {
        check(json!({}), "a b c", "ao bo co", &[], &["ao"]);
        check(json!({}), "a b c", "a- bo co", &[], &[]);
        check(json!({}), "a b c", "ap bo co", &[], &[]);
        check(json!({}), "a b c", "ar bo co", &[], &["bo"]);
        check(json!({}), "a b c", "aq bo co", &[], &["aq"]);
        let wide = json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "50%"}}});
        check(wide, "a b c", "ao bo co", &[], &["ao", "bo"]);
        let surge =
            json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}});
        check(surge.clone(), "a b", "", &["a", "b"], &[]);
        // A new one beside an old one, which goes once the new one is available.
        check(surge.clone(), "a b c", "ao bo co", &["a"], &[]);
        check(surge.clone(), "a b c", "ao ap bo co", &[], &[]);
        check(surge.clone(), "a b c", "ao ar bo co", &["b"], &["ao"]);
        check(surge.clone(), "a b c", "ar bo co", &["b"], &[]);
        // One that is of no use anyway is replaced beyond the limit, and goes when both are not ready.
        check(surge.clone(), "a b c", "aq bo co", &["a", "b"], &[]);
        check(surge.clone(), "a b", "aq ap bo", &[], &["aq"]);
        check(surge.clone(), "a b", "ar ar bo", &["b"], &["ar"]);
        let half =
            json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "50%"}}});
        check(half, "a b c", "ao bo co", &["a", "b"], &[]);
        check(
            json!({"updateStrategy": {"type": "OnDelete"}}),
            "a b",
            "ao bo",
            &[],
            &[],
        );
    }

    #[test]
    fn the_status_counts_nodes() {
        let status = look(&json!({}), "a b c d!", "ar bo cp dr").status;
        assert_eq!(
            (
                status.desired_number_scheduled,
                status.current_number_scheduled,
                status.number_ready
            ),
            (3, 3, 2)
        );
        assert_eq!(
            (status.updated_number_scheduled, status.number_available),
            (Some(2), Some(2))
        );
        assert_eq!(
            (status.number_unavailable, status.number_misscheduled),
            (Some(1), 1)
        );
        assert_eq!(status.observed_generation, Some(2));
    }
}
