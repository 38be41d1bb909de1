//! Updating with `maxSurge`: a node's new pod comes beside its old one, which goes when the new one
//! is available. So a node is served all the time; up to `maxSurge` nodes have both. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSetSpec;
use k8s_openapi::api::core::v1::Pod;

use super::plan::{Place, Plan, availability, is_of};
use crate::api::{pod, share};

/// On how many nodes an old and a new pod may be at a time; 0 where old ones go first.
pub(super) fn allowed(spec: &DaemonSetSpec, desired: i32) -> usize {
    let strategy = spec.update_strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let most = rolling.and_then(|rolling| rolling.max_surge.as_ref());
    let most = most.map_or(0, |most| share::scaled(most, desired, true));
    usize::try_from(most).unwrap_or(0)
}

/// A node's pods that count: neither ended nor on their way out. The oldest first.
pub(super) fn living<'a>(place: &Place<'a>) -> Vec<&'a Arc<Pod>> {
    let pods = place.pods.iter().copied();
    pods.filter(|pod| pod::is_active(pod)).collect()
}

/// What a node has too much: all but its oldest new and its oldest old pod, and the old one if it is
/// of no use beside the new one.
pub(super) fn superfluous(
    living: &[&Arc<Pod>],
    hash: &str,
    (min_ready, now): (Duration, Timestamp),
) -> Vec<Arc<Pod>> {
    let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
        living.iter().partition(|pod| is_of(pod, hash));
    let extra = new.iter().skip(1).chain(old.iter().skip(1));
    let mut gone: Vec<Arc<Pod>> = extra.map(|pod| Arc::clone(pod)).collect();
    if let (Some(new), Some(old)) = (new.first(), old.first()) {
        let is_replaced = availability(new, min_ready, now).is_ok();
        if is_replaced || !pod::is_ready(old) {
            gone.push(Arc::clone(old));
        }
    }
    gone
}

/// Makes new pods beside old ones, as many as may be; beside one that is unavailable at once.
pub(super) fn roll(
    plan: &mut Plan,
    places: &BTreeMap<&str, Place<'_>>,
    (most, hash): (usize, &str),
    (min_ready, now): (Duration, Timestamp),
) {
    let (mut surging, mut urgent, mut candidates) = (0, Vec::new(), Vec::new());
    for (node, place) in places {
        let living = living(place);
        let new = living.iter().find(|pod| is_of(pod, hash));
        let Some(old) = living.iter().find(|pod| !is_of(pod, hash)) else {
            continue;
        };
        let is_available = |pod: &Pod| availability(pod, min_ready, now).is_ok();
        match new {
            Some(new) => surging += usize::from(!is_available(new)),
            // Where no new pod may come, the old one goes as on any node that does not fit.
            None if !place.fits.runs => {}
            None if is_available(old) => candidates.push((*node).to_owned()),
            None => urgent.push((*node).to_owned()),
        }
    }
    candidates.truncate(most.saturating_sub(surging));
    plan.create.extend(urgent);
    plan.create.extend(candidates);
}
