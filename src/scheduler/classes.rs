//! Equivalence classes: pods of one kind share one judgement of all nodes.
//!
//! - Workloads on few nodes are placed by the order of their fit (`order.rs`), which all workloads
//!   of that fit share.
//! - A workload that is nearly everywhere has a class of its own: a heap of the nodes that its pods
//!   may go to, with spreading in the score. Placing a pod changes one node; the class looks at that
//!   node again and at no other. An entry carries the node's version: one whose node has changed
//!   since is dropped when it comes up, because the change log has already led to a fresh entry.
//!
//! Both ways give the same answer. Orders and classes, and with them the memory, are bounded; the
//! least recently used one is forgotten.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::cache::{Cache, Slot};
use super::filter::filter;
use super::order::{Found, Order};
use super::pod_info::{Fit, Shape};
use super::score::{Score, score};
use super::sociable::Company;

const MOST: usize = 128;

#[derive(Default)]
pub(super) struct Classes {
    orders: HashMap<Arc<Fit>, Order>,
    heaps: HashMap<Arc<Shape>, Class>,
    uses: u64,
}

#[derive(Default)]
struct Class {
    /// Score, then the lower slot, then the version that was judged.
    heap: BinaryHeap<(Score, Reverse<Slot>, u64)>,
    /// The position in the cache's log up to which the heap is true.
    position: Option<u64>,
    last_use: u64,
}

impl Classes {
    /// The best node for pods of this shape.
    pub(super) fn best(&mut self, shape: &Arc<Shape>, cache: &Cache) -> Option<Slot> {
        let is_everywhere = cache.spread(shape) * 2 > cache.slots().len();
        if !is_everywhere || cache.slots().len() <= 64 {
            match self.order(&shape.fit).best(shape, cache) {
                Found::Best(slot) => return Some(slot),
                Found::Nowhere => return None,
                Found::Crowded => {}
            }
        }
        self.class(shape).best(shape, cache)
    }

    /// The best node for pods whose neighbours matter.
    pub(super) fn best_in(
        &mut self,
        company: &Company<'_>,
        shape: &Shape,
        cache: &Cache,
    ) -> Option<Slot> {
        let order = self.order(&shape.fit);
        order.catch_up(&shape.fit, cache);
        company.best(order, shape)
    }

    /// Why there is none.
    pub(super) fn explain(&mut self, fit: &Arc<Fit>, cache: &Cache) -> String {
        let order = self.order(fit);
        let position = cache.position();
        match &order.explained {
            Some((at, words)) if *at == position => words.clone(),
            Some(_) | None => {
                let words = explanation(fit, cache, None);
                order.explained = Some((position, words.clone()));
                words
            }
        }
    }

    fn order(&mut self, fit: &Arc<Fit>) -> &mut Order {
        self.uses += 1;
        make_room(&mut self.orders, fit, |order| order.last_use);
        let order = self.orders.entry(Arc::clone(fit)).or_default();
        order.last_use = self.uses;
        order
    }

    fn class(&mut self, shape: &Arc<Shape>) -> &mut Class {
        self.uses += 1;
        make_room(&mut self.heaps, shape, |class| class.last_use);
        let class = self.heaps.entry(Arc::clone(shape)).or_default();
        class.last_use = self.uses;
        class
    }
}

/// Forgets the least recently used value if `key` would be one too many.
fn make_room<K: Clone + Eq + Hash, V>(map: &mut HashMap<K, V>, key: &K, last_use: fn(&V) -> u64) {
    if map.contains_key(key) || map.len() < MOST {
        return;
    }
    let oldest = map.iter().min_by_key(|(_, value)| last_use(value));
    if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
        map.remove(&oldest);
    }
}

impl Class {
    fn best(&mut self, shape: &Shape, cache: &Cache) -> Option<Slot> {
        self.catch_up(shape, cache);
        while let Some(&(_, Reverse(slot), version)) = self.heap.peek() {
            if cache.node(slot).version == version {
                return Some(slot);
            }
            self.heap.pop();
        }
        None
    }

    fn catch_up(&mut self, shape: &Shape, cache: &Cache) {
        let changed = self
            .position
            .and_then(|position| cache.changed_since(position));
        let is_bloated = self.heap.len() > 4 * cache.slots().len() + 64;
        match changed {
            Some(changed) if !is_bloated && changed.len() <= cache.slots().len() => {
                for &slot in changed {
                    self.heap.extend(judge(shape, cache, slot));
                }
            }
            Some(_) | None => {
                let judged: Vec<_> = cache
                    .slots()
                    .filter_map(|slot| judge(shape, cache, slot))
                    .collect();
                self.heap = BinaryHeap::from(judged);
            }
        }
        self.position = Some(cache.position());
    }
}

fn judge(shape: &Shape, cache: &Cache, slot: Slot) -> Option<(Score, Reverse<Slot>, u64)> {
    let node = cache.node(slot);
    filter(&shape.fit, node).ok()?;
    let offer = node.offer.as_ref()?;
    Some((score(shape, node, offer), Reverse(slot), node.version))
}

/// `0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint {…}.`
pub(super) fn explanation(fit: &Fit, cache: &Cache, company: Option<&Company<'_>>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut nodes = 0;
    for (node, offer) in cache.present() {
        nodes += 1;
        let words = match (filter(fit, node), company) {
            (Err(refusal), _) => refusal.words(offer),
            (Ok(()), Some(company)) => {
                let refused = company.admits(offer, &[]).err();
                refused.into_iter().map(str::to_owned).collect()
            }
            (Ok(()), None) => Vec::new(),
        };
        for word in words {
            *counts.entry(word).or_default() += 1;
        }
    }
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut reasons: Vec<String> = counts
        .into_iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}
