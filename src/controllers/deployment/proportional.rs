//! Scaling in the middle of a rollout: every ReplicaSet gets its share.
//!
//! A Deployment that is scaled while two templates live keeps their ratio, so that a bad new
//! version does not get all of the new pods (`pkg/controller/deployment/sync.go`, `scale`).

/// A ReplicaSet with replicas, and the greatest total allowed when it was last sized.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) replicas: i32,
    pub(super) max_before: Option<i32>,
}

/// New sizes for `shares` (ordered from the oldest), whose sum becomes `allowed` where it can.
///
/// `max_now` is what the sum may be now, `status_replicas` stands in for a missing record.
pub(super) fn sizes(
    shares: &[Share],
    allowed: i32,
    desired: i32,
    max_now: i32,
    status_replicas: i32,
) -> Vec<i32> {
    let current: i32 = shares.iter().map(|share| share.replicas).sum();
    let missing = allowed - current;
    let mut sizes: Vec<i32> = shares.iter().map(|share| share.replicas).collect();
    if missing == 0 {
        return sizes;
    }
    // Largest first; among equals the newer grows first and the older shrinks first.
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|&index| {
        let age = if missing > 0 {
            -(index as i64)
        } else {
            index as i64
        };
        (-i64::from(shares[index].replicas), age)
    });
    let mut given = 0;
    for &index in &order {
        let left = missing - given;
        if shares[index].replicas == 0 || left == 0 {
            continue;
        }
        let wanted = fraction(shares[index], desired, max_now, status_replicas);
        let part = if missing > 0 {
            wanted.min(left)
        } else {
            wanted.max(left)
        };
        sizes[index] += part;
        given += part;
    }
    if let Some(&largest) = order.first() {
        sizes[largest] = (sizes[largest] + missing - given).max(0);
    }
    sizes
}

/// By how much a ReplicaSet changes if it keeps its part of the whole.
fn fraction(share: Share, desired: i32, max_now: i32, status_replicas: i32) -> i32 {
    if desired == 0 {
        return -share.replicas;
    }
    let before = share.max_before.unwrap_or(status_replicas);
    if before <= 0 {
        return 0;
    }
    let exact = f64::from(share.replicas) * f64::from(max_now) / f64::from(before);
    exact.round() as i32 - share.replicas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(replicas: &[i32], before: i32, desired: i32, surge: i32) -> Vec<i32> {
        let shares: Vec<Share> = replicas
            .iter()
            .map(|&replicas| Share {
                replicas,
                max_before: Some(before),
            })
            .collect();
        let allowed = if desired > 0 { desired + surge } else { 0 };
        sizes(&shares, allowed, desired, desired + surge, before)
    }

    #[test]
    fn shares_keep_their_ratio() {
        // Cases of Kubernetes' `TestScale` and `TestDeploymentController…Proportional`.
        assert_eq!(check(&[5, 5], 10, 20, 0), [10, 10]);
        assert_eq!(check(&[5, 5], 10, 12, 0), [6, 6]);
        assert_eq!(check(&[8, 2], 10, 20, 0), [16, 4]);
        assert_eq!(check(&[8, 2], 10, 5, 0), [4, 1]);
        assert_eq!(check(&[5, 5], 10, 0, 0), [0, 0]);
        assert_eq!(check(&[10, 3], 13, 10, 3), [10, 3]);
        assert_eq!(check(&[3, 3, 4], 10, 11, 0).iter().sum::<i32>(), 11);
    }

    proptest::proptest! {
        #[test]
        fn the_sum_is_what_is_allowed(
            replicas in proptest::collection::vec(1_i32..50, 1..5), desired in 1_i32..200, surge in 0_i32..50,
        ) {
            let before: i32 = replicas.iter().sum();
            let after = check(&replicas, before, desired, surge);
            proptest::prop_assert!(after.iter().all(|&size| size >= 0));
            let sum: i32 = after.iter().sum();
            proptest::prop_assert_eq!(sum, desired + surge);
        }
    }
}
