//! All nodes that pods of one fit may go to, the preferred and then the least allocated first, kept up to date by looking
//! at the nodes that changed.
//!
//! Spreading is not in the order, since it differs from workload to workload. But a node without
//! any pod of the workload beats every node with one, and the first such node in the order is the
//! best of them if no other is preferred; as long as a workload is on few nodes it is found among the first. A thousand
//! workloads of one fit thus share one order.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::cache::{Cache, Slot};
use super::filter::filter;
use super::pod_info::{Fit, Shape};
use super::score::{Score, crowding, of_node};

/// How many of the first nodes are looked at.
const LOOKS: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Best(Slot),
    Nowhere,
    /// The workload is on all of the first nodes; another way must be taken.
    Crowded,
}

#[derive(Default)]
pub(super) struct Order {
    sorted: BTreeSet<(Reverse<Score>, Slot)>,
    /// The score of each slot in `sorted`.
    current: Vec<Option<Score>>,
    position: Option<u64>,
    pub(super) last_use: u64,
    /// Why there is no node, for the position at which that was found.
    pub(super) explained: Option<(u64, String)>,
}

impl Order {
    pub(super) fn best(&mut self, shape: &Shape, cache: &Cache) -> Found {
        self.catch_up(&shape.fit, cache);
        let mut best: Option<(Score, Reverse<Slot>)> = None;
        for (mut score, slot) in self.sorted().take(LOOKS) {
            // Those that follow are preferred less, however free they are.
            if let Some((best, Reverse(slot))) = best
                && best.preference > score.preference
            {
                return Found::Best(slot);
            }
            let crowding = crowding(shape, cache.node(slot));
            if crowding == 0 {
                return Found::Best(slot);
            }
            score.balance -= crowding;
            best = best.max(Some((score, Reverse(slot))));
        }
        match best {
            Some(_) if self.sorted.len() > LOOKS => Found::Crowded,
            Some((_, Reverse(slot))) => Found::Best(slot),
            None => Found::Nowhere,
        }
    }

    /// The nodes in order, as of the last `catch_up`.
    pub(super) fn sorted(&self) -> impl Iterator<Item = (Score, Slot)> {
        let entries = self.sorted.iter();
        entries.map(|&(Reverse(score), slot)| (score, slot))
    }

    pub(super) fn catch_up(&mut self, fit: &Fit, cache: &Cache) {
        let nodes = cache.slots().len();
        self.current.resize(nodes, None);
        match self
            .position
            .and_then(|position| cache.changed_since(position))
        {
            Some(changed) if changed.len() <= nodes => {
                for &slot in changed {
                    self.judge(fit, cache, slot);
                }
            }
            Some(_) | None => {
                self.current = cache.slots().map(|slot| judge(fit, cache, slot)).collect();
                let judged = self.current.iter().enumerate();
                self.sorted = judged
                    .filter_map(|(slot, score)| Some((Reverse((*score)?), slot)))
                    .collect();
            }
        }
        self.position = Some(cache.position());
    }

    fn judge(&mut self, fit: &Fit, cache: &Cache, slot: Slot) {
        let score = judge(fit, cache, slot);
        if score == self.current[slot] {
            return;
        }
        if let Some(before) = self.current[slot] {
            self.sorted.remove(&(Reverse(before), slot));
        }
        if let Some(score) = score {
            self.sorted.insert((Reverse(score), slot));
        }
        self.current[slot] = score;
    }
}

/// How good a node is; `None` if the pod may not go there.
fn judge(fit: &Fit, cache: &Cache, slot: Slot) -> Option<Score> {
    let node = cache.node(slot);
    filter(fit, node).ok()?;
    Some(of_node(fit, node, node.offer.as_ref()?))
}
