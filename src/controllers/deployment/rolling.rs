//! How fast a rollout may go: pure arithmetic on sizes.
//!
//! Two fences: never more than `desired + surge` pods asked for, never fewer than
//! `desired − unavailable` available. Percentages round up for the surge and down for the
//! unavailable; if both come to nothing, one pod may be unavailable, or no rollout could begin.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::share::scaled;

/// The fences as numbers of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fences {
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

/// A ReplicaSet as far as sizes go. Lists of them are ordered from the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) replicas: i32,
    pub(super) available: i32,
}

pub(super) fn is_recreate(spec: &DeploymentSpec) -> bool {
    let strategy = spec.strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

pub(super) fn fences(spec: &DeploymentSpec, desired: i32) -> Fences {
    if is_recreate(spec) {
        return Fences {
            surge: 0,
            unavailable: 0,
        };
    }
    let quarter = || IntOrString::String("25%".to_owned());
    let strategy = spec.strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let value = |field: Option<&IntOrString>| field.cloned().unwrap_or_else(quarter);
    let surge = scaled(
        &value(rolling.and_then(|r| r.max_surge.as_ref())),
        desired,
        true,
    );
    let unavailable = scaled(
        &value(rolling.and_then(|r| r.max_unavailable.as_ref())),
        desired,
        false,
    );
    let unavailable = if surge == 0 && unavailable == 0 {
        1
    } else {
        unavailable
    };
    Fences {
        surge,
        unavailable: unavailable.min(desired),
    }
}

/// The new ReplicaSet's next size: all that the surge leaves room for.
pub(super) fn new_size(desired: i32, fences: Fences, new: i32, total: i32) -> i32 {
    if new >= desired {
        return desired;
    }
    let room = desired + fences.surge - total;
    new + room.clamp(0, desired - new)
}

/// The old ReplicaSets' next sizes. What is not available goes first (it serves nobody), as long
/// as the new ReplicaSet's own unavailable pods are counted; then available pods, as far as the
/// lower fence allows.
pub(super) fn old_sizes(desired: i32, fences: Fences, new: Size, old: &[Size]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|size| size.replicas).collect();
    let least = desired - fences.unavailable;
    let total: i32 = new.replicas + sizes.iter().sum::<i32>();
    let new_unavailable = (new.replicas - new.available).max(0);
    let mut budget = total - least - new_unavailable;
    if budget <= 0 {
        return sizes;
    }
    for (size, old) in sizes.iter_mut().zip(old) {
        let gone = (*size - old.available).clamp(0, budget);
        *size -= gone;
        budget -= gone;
    }
    let available = new.available + old.iter().map(|old| old.available).sum::<i32>();
    let mut surplus = (available - least).max(0);
    for size in &mut sizes {
        let gone = (*size).clamp(0, surplus);
        *size -= gone;
        surplus -= gone;
    }
    sizes
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn spec(surge: Value, unavailable: Value) -> DeploymentSpec {
        serde_json::from_value(
            json!({"selector": {}, "template": {}, "strategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}),
        )
        .unwrap()
    }

    #[test]
    fn percentages_round_as_kubernetes_does() {
        let cases = [
            (10, json!("25%"), json!("25%"), 3, 2),
            (1, json!("25%"), json!("25%"), 1, 0),
            (3, json!("25%"), json!("25%"), 1, 0),
            (4, json!("25%"), json!("25%"), 1, 1),
            (5, json!(0), json!("10%"), 0, 1),
            (5, json!(0), json!(0), 0, 1),
            (2, json!(1), json!(5), 1, 2),
            (0, json!("25%"), json!("25%"), 0, 0),
            (10, json!("100%"), json!(0), 10, 0),
        ];
        for (desired, surge, unavailable, expected_surge, expected_unavailable) in cases {
            let expected = Fences {
                surge: expected_surge,
                unavailable: expected_unavailable,
            };
            assert_eq!(
                fences(&spec(surge, unavailable), desired),
                expected,
                "{desired}"
            );
        }
        let recreate: DeploymentSpec = serde_json::from_value(
            json!({"selector": {}, "template": {}, "strategy": {"type": "Recreate"}}),
        )
        .unwrap();
        assert!(is_recreate(&recreate));
    }

    #[test]
    fn steps_of_a_rollout_from_kubernetes_tables() {
        // (desired, surge, total, new) → new size: `TestNewRSNewReplicas`.
        for (desired, surge, total, new, expected) in [
            (1, 1, 1, 0, 1),
            (10, 0, 10, 0, 0),
            (10, 2, 10, 0, 2),
            (10, 2, 12, 2, 2),
            (10, 0, 5, 0, 5),
            (5, 1, 5, 7, 5),
        ] {
            let fences = Fences {
                surge,
                unavailable: 0,
            };
            assert_eq!(new_size(desired, fences, new, total), expected);
        }
        let size = |replicas, available| Size {
            replicas,
            available,
        };
        // `TestDeploymentController_reconcileOldReplicaSets`.
        for (desired, unavailable, old, new, expected) in [
            (10, 0, size(10, 10), size(0, 0), 10),
            (10, 2, size(10, 10), size(0, 0), 8),
            // Unhealthy old pods go at once; the healthy ones wait for the new ones.
            (10, 2, size(10, 8), size(0, 0), 8),
            (10, 2, size(10, 10), size(2, 0), 8),
            (10, 2, size(8, 8), size(2, 0), 8),
            (10, 2, size(8, 8), size(4, 2), 6),
        ] {
            let fences = Fences {
                surge: 2,
                unavailable,
            };
            assert_eq!(
                old_sizes(desired, fences, new, &[old]),
                [expected],
                "{old:?} {new:?}"
            );
        }
    }

    /// A ReplicaSet removes what serves nobody first.
    fn resize(size: &mut Size, replicas: i32) {
        let removed = (size.replicas - replicas).max(0);
        let unavailable = size.replicas - size.available;
        size.available -= (removed - unavailable).max(0);
        size.replicas = replicas;
    }

    proptest! {
        #[test]
        fn a_rollout_keeps_within_its_fences_and_ends(
            desired in 0_i32..40, surge in 0_i32..12, unavailable in 0_i32..12,
            old in proptest::collection::vec(0_i32..20, 1..4),
            luck in proptest::collection::vec(0_u32..4, 400),
        ) {
            let fences = Fences {
                surge,
                unavailable: if surge == 0 && unavailable == 0 { 1 } else { unavailable }.min(desired),
            };
            let mut old: Vec<Size> = old.iter().map(|&n| Size { replicas: n, available: n }).collect();
            let mut new = Size::default();
            let mut luck = luck.into_iter();
            let sum = |new: Size, old: &[Size]| {
                old.iter().fold((new.replicas, new.available), |(r, a), s| (r + s.replicas, a + s.available))
            };
            for _ in 0..400 {
                let (total, available) = sum(new, &old);
                let grown = new_size(desired, fences, new.replicas, total);
                if grown == new.replicas {
                    let sizes = old_sizes(desired, fences, new, &old);
                    for (set, size) in old.iter_mut().zip(sizes) {
                        prop_assert!(size >= 0 && size <= set.replicas);
                        resize(set, size);
                    }
                } else {
                    resize(&mut new, grown);
                }
                let (total_after, available_after) = sum(new, &old);
                prop_assert!(total_after <= total.max(desired + fences.surge));
                prop_assert!(available_after >= available.min(desired - fences.unavailable));
                // The world moves: a new pod becomes available, or an old one breaks.
                match luck.next() {
                    Some(0) => if let Some(set) = old.iter_mut().find(|set| set.available > 0) { set.available -= 1 },
                    Some(_) | None => new.available = new.replicas.min(new.available + 1),
                }
            }
            new.available = new.replicas;
            for _ in 0..200 {
                let (total, _) = sum(new, &old);
                let grown = new_size(desired, fences, new.replicas, total);
                resize(&mut new, grown);
                new.available = new.replicas;
                let sizes = old_sizes(desired, fences, new, &old);
                for (set, size) in old.iter_mut().zip(sizes) { resize(set, size); }
            }
            prop_assert_eq!(new.replicas, desired);
            prop_assert!(old.iter().all(|set| set.replicas == 0));
        }
    }
}
