//! The decision for a pod whose neighbours matter. Pure and deterministic.
//!
//! Where only requirements have to be met, the nodes are tried in the order that all pods of this
//! fit share (`order.rs`), and the first that does is nearly always the best. Where neighbours are
//! preferred, all nodes that are possible are compared: each preference is brought to the same
//! scale, as in Kubernetes, and what the user prefers comes before what the scheduler does by itself.

use std::cmp::Reverse;

use super::cache::{Cache, Slot};
use super::neighbours::{KindId, NodeLabels};
use super::node_info::Offer;
use super::order::Order;
use super::pod_info::Shape;
use super::score::{Score, crowding, preference};
use super::spread::Spreading;

/// Possible nodes that are compared where requirements decide; Kubernetes looks at a part of a
/// large cluster, too.
const COMPARED: usize = 256;
/// The best of one preference.
const SCALE: i128 = 1000;

/// What the neighbours say.
pub(super) struct Company<'a> {
    cache: &'a Cache,
    id: KindId,
    spreading: Spreading,
}

impl<'a> Company<'a> {
    pub(super) fn new(id: KindId, shape: &Shape, cache: &'a Cache) -> Self {
        let is_spread = !cache.neighbours.kind(id).spread.is_empty();
        Self {
            cache,
            id,
            spreading: if is_spread {
                Spreading::of(id, &shape.fit, cache)
            } else {
                Spreading::default()
            },
        }
    }

    /// Why not here; the pods of the kinds `without` on the node are thought away.
    pub(super) fn admits(&self, offer: &Offer, without: &[KindId]) -> Result<(), &'static str> {
        let labels: &NodeLabels = &offer.labels;
        self.spreading.admits(labels, self.cache, without)?;
        let admitted = self.cache.neighbours.admits(self.id, labels, without);
        admitted.map_err(super::neighbours::Clash::words)
    }

    pub(super) fn best(&self, order: &Order, shape: &Shape) -> Option<Slot> {
        if self.spreading.prefers() || self.cache.neighbours.prefers(self.id) {
            self.most_preferred(order, shape)
        } else {
            self.first(order, shape)
        }
    }

    /// The nodes that are possible, in the order of the fit.
    fn possible(&self, order: &'a Order) -> impl Iterator<Item = (Score, Slot, &'a Offer)> {
        order.sorted().filter_map(|(score, slot)| {
            let offer = self.cache.node(slot).offer.as_ref()?;
            self.admits(offer, &[]).ok()?;
            Some((score, slot, offer))
        })
    }

    fn first(&self, order: &Order, shape: &Shape) -> Option<Slot> {
        let mut best: Option<(Score, Reverse<Slot>)> = None;
        for (mut score, slot, _) in self.possible(order).take(COMPARED) {
            let crowding = crowding(shape, self.cache.node(slot));
            score.balance -= crowding;
            if best.is_some_and(|(best, _)| best.preference > score.preference) {
                break;
            }
            best = best.max(Some((score, Reverse(slot))));
            if crowding == 0 {
                break;
            }
        }
        best.map(|(_, Reverse(slot))| slot)
    }

    fn most_preferred(&self, order: &Order, shape: &Shape) -> Option<Slot> {
        let possible: Vec<_> = self.possible(order).collect();
        let slots = possible.iter().map(|(_, slot, _)| *slot);
        let offers = || possible.iter().map(|(_, _, offer)| *offer);
        let node = |slot: Slot| &self.cache.node(slot).name;
        let of_node: Vec<_> = possible
            .iter()
            .map(|(_, slot, offer)| Some(i128::from(preference(&shape.fit, node(*slot), offer))))
            .collect();
        let neighbours = &self.cache.neighbours;
        let of_pods = offers();
        let of_pods: Vec<_> = of_pods
            .map(|offer| Some(i128::from(neighbours.preference(self.id, &offer.labels))))
            .collect();
        let spread: Vec<_> = offers()
            .map(|offer| {
                let crowding = self.spreading.crowding(&offer.labels)?;
                Some(-i128::from(crowding))
            })
            .collect();
        let mut sums = vec![0; possible.len()];
        for values in [of_node, of_pods, spread] {
            add_scaled(&mut sums, &values);
        }
        let judged = slots.zip(&sums).zip(&possible).map(|((slot, sum), found)| {
            let balance = found.0.balance - crowding(shape, self.cache.node(slot));
            (*sum, balance, Reverse(slot))
        });
        judged.max().map(|(_, _, Reverse(slot))| slot)
    }
}

/// Brings values to one scale, from the least to the most; those without one get nothing.
fn add_scaled(sums: &mut [i128], values: &[Option<i128>]) {
    let known = || values.iter().flatten().copied();
    let (Some(least), Some(most)) = (known().min(), known().max()) else {
        return;
    };
    if least == most && values.iter().all(Option::is_some) {
        return;
    }
    for (sum, value) in sums.iter_mut().zip(values) {
        if let Some(value) = value {
            let part = if most == least {
                SCALE
            } else {
                SCALE * (value - least) / (most - least)
            };
            *sum += part;
        }
    }
}
