//! How good a node is for a pod that may go there. Pure, and an integer, so that two machines
//! agree on it.
//!
//! First the fewest replicas of the same owner, then the fewest pods of the same labels (another
//! revision of the same thing), then the least allocated. Spreading comes first because a node
//! that dies takes its load to the others, but all replicas on it are an outage.

use super::node_info::{NodeInfo, Offer, plus, weight};
use super::pod_info::{Fit, Shape};

/// Finer than Kubernetes' hundred, so that thousands of pods still make a difference.
const WHOLE: u64 = 1 << 20;

/// Higher is better.
pub(super) fn score(shape: &Shape, node: &NodeInfo, offer: &Offer) -> i64 {
    least_allocated(&shape.fit, node, offer) - crowding(shape, node)
}

/// What the pods that are here already take from the score. One of them outweighs every
/// difference in load: the mean of the free parts is at most `WHOLE`.
pub(super) fn crowding(shape: &Shape, node: &NodeInfo) -> i64 {
    let replicas = i64::from(node.count(shape.owner));
    let relatives = i64::from(node.count(shape.app));
    (replicas << 42) + (relatives << 21)
}

/// The mean of the free parts of processor and memory, this pod counted.
pub(super) fn least_allocated(fit: &Fit, node: &NodeInfo, offer: &Offer) -> i64 {
    let after = plus(node.weight, weight(fit));
    let free = |used: u64, all: u64| match all.checked_sub(used) {
        Some(free) if all > 0 => (u128::from(free) * u128::from(WHOLE) / u128::from(all)) as u64,
        Some(_) | None => 0,
    };
    let cpu = free(after.cpu, offer.allocatable.cpu);
    let memory = free(after.memory, offer.allocatable.memory);
    i64::try_from(u64::midpoint(cpu, memory)).unwrap_or(i64::MAX)
}
