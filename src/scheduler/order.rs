//! All nodes that pods of one fit may go to, the least allocated first, kept up to date by looking
//! at the nodes that changed.
//!
//! Spreading is not in the order, since it differs from workload to workload. But a node without
//! any pod of the workload beats every node with one, and the first such node in the order is the
//! best of them; as long as a workload is on few nodes it is found among the first. A thousand
//! workloads of one fit thus share one order.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::cache::{Cache, Slot};
use super::filter::filter;
use super::pod_info::{Fit, Shape};
use super::score::{crowding, least_allocated};

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
    sorted: BTreeSet<(Reverse<i64>, Slot)>,
    /// The free part of each slot in `sorted`.
    current: Vec<Option<i64>>,
    position: Option<u64>,
    pub(super) last_use: u64,
    /// Why there is no node, for the position at which that was found.
    pub(super) explained: Option<(u64, String)>,
}

impl Order {
    pub(super) fn best(&mut self, shape: &Shape, cache: &Cache) -> Found {
        self.catch_up(&shape.fit, cache);
        let mut best: Option<(i64, Reverse<Slot>)> = None;
        for &(Reverse(free), slot) in self.sorted.iter().take(LOOKS) {
            let crowding = crowding(shape, cache.node(slot));
            if crowding == 0 {
                return Found::Best(slot);
            }
            best = best.max(Some((free - crowding, Reverse(slot))));
        }
        match best {
            Some(_) if self.sorted.len() > LOOKS => Found::Crowded,
            Some((_, Reverse(slot))) => Found::Best(slot),
            None => Found::Nowhere,
        }
    }

    fn catch_up(&mut self, fit: &Fit, cache: &Cache) {
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
                self.current = cache.slots().map(|slot| free(fit, cache, slot)).collect();
                let judged = self.current.iter().enumerate();
                self.sorted = judged
                    .filter_map(|(slot, free)| Some((Reverse((*free)?), slot)))
                    .collect();
            }
        }
        self.position = Some(cache.position());
    }

    fn judge(&mut self, fit: &Fit, cache: &Cache, slot: Slot) {
        let free = free(fit, cache, slot);
        if free == self.current[slot] {
            return;
        }
        if let Some(before) = self.current[slot] {
            self.sorted.remove(&(Reverse(before), slot));
        }
        if let Some(free) = free {
            self.sorted.insert((Reverse(free), slot));
        }
        self.current[slot] = free;
    }
}

/// How much of a node would be free; `None` if the pod may not go there.
fn free(fit: &Fit, cache: &Cache, slot: Slot) -> Option<i64> {
    let node = cache.node(slot);
    filter(fit, node).ok()?;
    Some(least_allocated(fit, node, node.offer.as_ref()?))
}
