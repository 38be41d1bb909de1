//! Topology spread constraints: pods of one kind even over the domains of a topology. Pure.
//!
//! Each decision looks at every node once, since which nodes count depends on the pod: those that
//! have all topology keys, that its node affinity lets in and, if asked for, whose taints it
//! tolerates.

use std::collections::HashMap;

use super::cache::Cache;
use super::filter::{is_selected, tolerates_all};
use super::neighbours::{KindId, NodeLabels};
use super::node_info::{NodeInfo, Offer};
use super::pod_info::Fit;
use super::social::Spread;

pub(super) const SKEWED: &str = "node(s) didn't match pod topology spread constraints";
pub(super) const UNLABELLED: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";
/// Fractions of the score.
const FINE: u64 = 1024;

/// What the constraints of one kind of pod say at the moment.
#[derive(Default)]
pub(super) struct Spreading {
    hard: Vec<Domains>,
    soft: Vec<Domains>,
}

/// One constraint, counted.
struct Domains {
    key: String,
    counts: HashMap<String, u64>,
    least: u64,
    most: u64,
    /// Whether the pod itself will count.
    counts_itself: bool,
    /// The kinds that count, among those that may be thought away.
    term: usize,
}

impl Spreading {
    pub(super) fn of(id: KindId, fit: &Fit, cache: &Cache) -> Self {
        let kind = cache.neighbours.kind(id);
        let mut spreading = Self::default();
        for is_hard in [true, false] {
            let all = kind.social.wants.spread.iter().zip(&kind.spread);
            let mine: Vec<(&Spread, usize)> = all
                .filter(|(spread, _)| spread.is_hard == is_hard)
                .map(|(spread, term)| (spread, *term))
                .collect();
            let counted = mine.iter().map(|(spread, term)| {
                let is_counted = |labels: &NodeLabels| {
                    let mut keys = mine.iter().map(|(spread, _)| &spread.among.key);
                    keys.all(|key| labels.contains_key(key))
                };
                domains((id, *term), spread, fit, cache, &is_counted)
            });
            let counted = counted.collect();
            if is_hard {
                spreading.hard = counted;
            } else {
                spreading.soft = counted;
            }
        }
        spreading
    }

    /// Whether the pod may go to a node with these labels, with the pods `without` on it thought away.
    pub(super) fn admits(
        &self,
        labels: &NodeLabels,
        cache: &Cache,
        without: &[KindId],
    ) -> Result<(), &'static str> {
        for domains in &self.hard {
            let Some(domain) = labels.get(&domains.key) else {
                return Err(UNLABELLED);
            };
            let neighbours = &cache.neighbours;
            let going = without.iter().filter(|id| {
                !neighbours.kind(**id).social.is_leaving
                    && neighbours.is_selected(**id, domains.term)
            });
            let here = domains.counts.get(domain).copied().unwrap_or(0);
            let here = here.saturating_sub(going.count() as u64);
            let after = here + u64::from(domains.counts_itself);
            if after.saturating_sub(domains.least.min(here)) > domains.most {
                return Err(SKEWED);
            }
        }
        Ok(())
    }

    pub(super) fn prefers(&self) -> bool {
        !self.soft.is_empty()
    }

    /// How crowded a node's domains are: the lower the better. `None` where a key is missing, which
    /// is the worst.
    pub(super) fn crowding(&self, labels: &NodeLabels) -> Option<u64> {
        let each = self.soft.iter().map(|domains| {
            let domain = labels.get(&domains.key)?;
            let here = domains.counts.get(domain).copied().unwrap_or(0);
            // Few domains have many pods each: their counts weigh less, as in Kubernetes.
            let weight = weight(domains.counts.len());
            Some(here * weight + (domains.most.saturating_sub(1)) * FINE)
        });
        each.sum()
    }
}

/// The logarithm of the number of domains, in fractions.
fn weight(domains: usize) -> u64 {
    let power = (domains as u128 + 2).saturating_pow(8);
    u64::from(power.max(2).ilog2()) * FINE / 8
}

fn domains(
    (id, term): (KindId, usize),
    spread: &Spread,
    fit: &Fit,
    cache: &Cache,
    has_keys: &dyn Fn(&NodeLabels) -> bool,
) -> Domains {
    let counts_node = |node: &NodeInfo, offer: &Offer| {
        has_keys(&offer.labels)
            && (!spread.honours_affinity || is_selected(fit, &node.name, offer))
            && (!spread.honours_taints
                || offer.taints.iter().all(|taint| tolerates_all(fit, taint)))
    };
    let mut counts: HashMap<String, u64> = HashMap::new();
    for (node, offer) in cache.present() {
        if counts_node(node, offer)
            && let Some(domain) = offer.labels.get(&spread.among.key)
            && !counts.contains_key(domain)
        {
            counts.insert(domain.clone(), 0);
        }
    }
    for (slot, count) in cache.neighbours.placed(term) {
        let node = cache.node(slot);
        if let Some(offer) = &node.offer
            && counts_node(node, offer)
            && let Some(domain) = offer.labels.get(&spread.among.key)
            && let Some(sum) = counts.get_mut(domain)
        {
            *sum += u64::try_from(count).unwrap_or(0);
        }
    }
    let least = if counts.len() < spread.min_domains {
        0
    } else {
        counts.values().min().copied().unwrap_or(0)
    };
    Domains {
        key: spread.among.key.clone(),
        counts,
        least,
        most: spread.max_skew,
        counts_itself: cache.neighbours.is_selected(id, term),
        term,
    }
}
