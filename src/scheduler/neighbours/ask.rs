//! The questions of a decision: what the neighbours on a node mean to a pod. Each reads a few counts.

use std::sync::Arc;

use super::{Clash, Counts, Kind, KindId, Neighbours, NodeLabels, TermId};
use crate::scheduler::cache::Slot;
use crate::scheduler::social::Social;

impl Neighbours {
    /// The kind of a pod, if any pod of it has been seen.
    pub(in crate::scheduler) fn known(&self, social: &Arc<Social>) -> Option<KindId> {
        self.by_social.get(social).copied()
    }

    /// Whether any neighbour matters to a kind.
    pub(in crate::scheduler) fn matters(&self, id: KindId) -> bool {
        let kind = self.kind(id);
        let is_wanted = |term: &TermId| {
            let term = &self.terms[*term];
            !term.repelling.is_empty() || !term.attracting.is_empty()
        };
        !kind.social.wants.is_empty() || kind.matches.iter().any(is_wanted)
    }

    /// Whether a pod of a kind may be on a node with these labels, once the pods `without`, which are
    /// there, have gone.
    pub(in crate::scheduler) fn admits(
        &self,
        id: KindId,
        labels: &NodeLabels,
        without: &[KindId],
    ) -> Result<(), Clash> {
        let kind = self.kind(id);
        let count = |counts: &Counts, term: TermId, going: &dyn Fn(&Kind) -> bool| {
            let domain = labels.get(&self.terms[term].of.key);
            let there = domain.and_then(|domain| counts.get(domain)).copied();
            let going = without.iter().filter(|id| going(self.kind(**id))).count();
            there.unwrap_or(0) - going as i64
        };
        let matching = |term: &TermId| {
            let going = |kind: &Kind| kind.matches.contains(term);
            count(&self.terms[*term].matching, *term, &going)
        };
        if !self.is_near(kind, labels, without, &matching) {
            return Err(Clash::Affinity);
        }
        let has_key = |term: &&TermId| labels.contains_key(&self.terms[**term].of.key);
        if kind
            .apart
            .iter()
            .filter(has_key)
            .any(|term| matching(term) > 0)
        {
            return Err(Clash::AntiAffinity);
        }
        let repelling = |term: &TermId| {
            let going = |kind: &Kind| kind.apart.contains(term);
            count(&self.terms[*term].repelling, *term, &going)
        };
        let relevant = kind.matches.iter().filter(has_key);
        let mut repelled = relevant.filter(|term| !self.terms[**term].repelling.is_empty());
        if repelled.any(|term| repelling(term) > 0) {
            return Err(Clash::Existing);
        }
        Ok(())
    }

    /// Whether all whom the kind wants to be near are there; the first of a group that wants to be
    /// together may begin anywhere.
    fn is_near(
        &self,
        kind: &Kind,
        labels: &NodeLabels,
        without: &[KindId],
        matching: &dyn Fn(&TermId) -> i64,
    ) -> bool {
        let key = |term: &TermId| &self.terms[*term].of.key;
        if !kind.near.iter().all(|term| labels.contains_key(key(term))) {
            return false;
        }
        if kind.near.iter().all(|term| matching(term) > 0) {
            return true;
        }
        let all = |term: &TermId| -> i64 {
            let going = without
                .iter()
                .filter(|id| self.kind(**id).matches.contains(term));
            self.terms[*term].matching.values().sum::<i64>() - going.count() as i64
        };
        kind.near.iter().all(|term| kind.matches.contains(term))
            && kind.near.iter().all(|term| all(term) == 0)
    }

    /// Whether `preference` can differ from node to node.
    pub(in crate::scheduler) fn prefers(&self, id: KindId) -> bool {
        let kind = self.kind(id);
        !kind.preferred.is_empty() || self.liking(kind).next().is_some()
    }

    /// The terms by which those who are there like or shun a kind. What it requires itself has
    /// decided already.
    fn liking(&self, kind: &'_ Kind) -> impl Iterator<Item = TermId> {
        let matches = kind.matches.iter().copied();
        let asks = |term: &TermId| !kind.attracts.contains(term);
        matches
            .filter(asks)
            .filter(|term| !self.terms[*term].attracting.is_empty())
    }

    /// How much a pod of the kind likes a node with these labels, and its neighbours there the pod.
    pub(in crate::scheduler) fn preference(&self, id: KindId, labels: &NodeLabels) -> i64 {
        let kind = self.kind(id);
        let at = |counts: &Counts, term: TermId| {
            let domain = labels.get(&self.terms[term].of.key);
            domain
                .and_then(|domain| counts.get(domain))
                .copied()
                .unwrap_or(0)
        };
        let own = kind.preferred.iter();
        let own = own.map(|(weight, term)| weight * at(&self.terms[*term].matching, *term));
        let theirs = self.liking(kind);
        let theirs = theirs.map(|term| at(&self.terms[term].attracting, term));
        own.chain(theirs).sum()
    }

    /// Whether a term selects pods of a kind.
    pub(in crate::scheduler) fn is_selected(&self, id: KindId, term: TermId) -> bool {
        self.kind(id).matches.contains(&term)
    }

    /// How many nodes are in each domain of a topology.
    pub(in crate::scheduler) fn domains(&self, key: &str) -> Option<&Counts> {
        self.topologies.get(key)
    }

    /// How many pods that stay a term selects in each domain, given as (domain, change).
    pub(in crate::scheduler) fn staying(
        &self,
        term: TermId,
    ) -> impl Iterator<Item = (&String, i64)> {
        let counted = &self.terms[term];
        let all = counted
            .matching
            .iter()
            .map(|(domain, count)| (domain, *count));
        let kinds = counted.kinds.iter().map(|id| self.kind(*id));
        let leaving = kinds.filter(|kind| kind.social.is_leaving);
        let leaving = leaving.flat_map(|kind| kind.placed.iter());
        all.chain(leaving.filter_map(|(slot, count)| {
            let domain = self.labels[*slot].get(&counted.of.key)?;
            Some((domain, -count))
        }))
    }

    /// The pods that a term selects and that stay, by node.
    pub(in crate::scheduler) fn placed(&self, term: TermId) -> impl Iterator<Item = (Slot, i64)> {
        let kinds = self.terms[term].kinds.iter().map(|id| self.kind(*id));
        let staying = kinds.filter(|kind| !kind.social.is_leaving);
        staying.flat_map(|kind| kind.placed.iter().map(|(slot, count)| (*slot, *count)))
    }
}
