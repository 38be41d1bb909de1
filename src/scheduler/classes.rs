//! Equivalence classes: pods of one shape share one judgement of all nodes.
//!
//! A class is a heap of the nodes that its pods may go to, best first. Placing a pod changes one
//! node; the class looks at that node again and at no other. Judging a thousand replicas over five
//! thousand nodes costs one pass over the nodes and a thousand looks at single ones.
//!
//! An entry of the heap carries the node's version: one whose node has changed since is dropped
//! when it comes up, because the change log has already led to a fresh entry. Classes, and with
//! them the memory for their heaps, are bounded; the least recently used one is forgotten.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use super::cache::{Cache, Slot};
use super::filter::filter;
use super::pod_info::Shape;
use super::score::score;

const MOST: usize = 128;

#[derive(Default)]
pub(super) struct Classes {
    classes: HashMap<Arc<Shape>, Class>,
    uses: u64,
}

#[derive(Default)]
struct Class {
    /// Score, then the lower slot, then the version that was judged.
    heap: BinaryHeap<(i64, Reverse<Slot>, u64)>,
    /// The position in the cache's log up to which the heap is true.
    position: Option<u64>,
    /// Why there is no node, for the position at which that was found.
    explained: Option<(u64, String)>,
    last_use: u64,
}

impl Classes {
    /// The best node for pods of this shape.
    pub(super) fn best(&mut self, shape: &Arc<Shape>, cache: &Cache) -> Option<Slot> {
        self.class(shape).best(shape, cache)
    }

    /// Why there is none.
    pub(super) fn explain(&mut self, shape: &Arc<Shape>, cache: &Cache) -> String {
        let class = self.class(shape);
        let position = cache.position();
        match &class.explained {
            Some((at, words)) if *at == position => words.clone(),
            Some(_) | None => {
                let words = explanation(shape, cache);
                class.explained = Some((position, words.clone()));
                words
            }
        }
    }

    fn class(&mut self, shape: &Arc<Shape>) -> &mut Class {
        self.uses += 1;
        if !self.classes.contains_key(shape) && self.classes.len() >= MOST {
            let oldest = self.classes.iter().min_by_key(|(_, class)| class.last_use);
            if let Some(oldest) = oldest.map(|(shape, _)| Arc::clone(shape)) {
                self.classes.remove(&oldest);
            }
        }
        let class = self.classes.entry(Arc::clone(shape)).or_default();
        class.last_use = self.uses;
        class
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

fn judge(shape: &Shape, cache: &Cache, slot: Slot) -> Option<(i64, Reverse<Slot>, u64)> {
    let node = cache.node(slot);
    filter(shape, node).ok()?;
    let offer = node.offer.as_ref()?;
    Some((score(shape, node, offer), Reverse(slot), node.version))
}

/// `0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint {…}.`
fn explanation(shape: &Shape, cache: &Cache) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut nodes = 0;
    for (node, offer) in cache.present() {
        nodes += 1;
        if let Err(refusal) = filter(shape, node) {
            for word in refusal.words(offer) {
                *counts.entry(word).or_default() += 1;
            }
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
