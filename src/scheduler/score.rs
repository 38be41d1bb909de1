//! How good a node is for a pod that may go there. Pure, and an integer, so that two machines
//! agree on it.
//!
//! What the user prefers comes first (node affinity; what is preferred of other pods is weighed in
//! `sociable.rs`). Then the fewest replicas of the same owner, then the fewest pods of the same labels (another
//! revision of the same thing), then the least allocated. Spreading comes first because a node
//! that dies takes its load to the others, but all replicas on it are an outage.

use super::filter::term_holds;
use super::node_info::{NodeInfo, Offer, plus, weight};
use super::pod_info::{Fit, Shape};

/// Finer than Kubernetes' hundred, so that thousands of pods still make a difference.
const WHOLE: u64 = 1 << 20;

/// Higher is better; the first difference decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// The weights of the user's preferences that hold.
    pub(super) preference: i64,
    /// What the scheduler prefers by itself.
    pub(super) balance: i64,
}

/// Everything of a node but the pods that this one is spread against.
pub(super) fn of_node(fit: &Fit, node: &NodeInfo, offer: &Offer) -> Score {
    Score {
        preference: preference(fit, &node.name, offer),
        balance: least_allocated(fit, node, offer),
    }
}

pub(super) fn score(shape: &Shape, node: &NodeInfo, offer: &Offer) -> Score {
    let mut score = of_node(&shape.fit, node, offer);
    score.balance -= crowding(shape, node);
    score
}

/// The sum of the weights of the preferred node affinity that holds.
pub(super) fn preference(fit: &Fit, name: &str, offer: &Offer) -> i64 {
    let terms = fit.preferred.iter();
    let holding = terms.filter(|(_, term)| term_holds(term, name, offer));
    holding.map(|(weight, _)| weight).sum()
}

/// What the pods that are here already take from the score. One of them outweighs every
/// difference in load: the mean of the free parts is at most `WHOLE`.
pub(super) fn crowding(shape: &Shape, node: &NodeInfo) -> i64 {
    let replicas = i64::from(node.count(shape.owner));
    let relatives = i64::from(node.count(shape.app));
    (replicas << 42) + (relatives << 21)
}

/// The mean of the free parts of processor and memory, this pod counted.
fn least_allocated(fit: &Fit, node: &NodeInfo, offer: &Offer) -> i64 {
    let after = plus(node.weight, weight(fit));
    let free = |used: u64, all: u64| match all.checked_sub(used) {
        Some(free) if all > 0 => (u128::from(free) * u128::from(WHOLE) / u128::from(all)) as u64,
        Some(_) | None => 0,
    };
    let cpu = free(after.cpu, offer.allocatable.cpu);
    let memory = free(after.memory, offer.allocatable.memory);
    i64::try_from(u64::midpoint(cpu, memory)).unwrap_or(i64::MAX)
}
