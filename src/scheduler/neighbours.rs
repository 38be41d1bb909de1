//! Who is where, as far as pods ask for each other: for each term that any pod has, how many pods
//! it selects in each domain of its topology, and how many pods there have it themselves.
//!
//! Pods are counted by *kind* ([`Social`]): all replicas of a workload are one. A term is compared
//! with each kind once, when the later of the two appears. A pod that comes or goes changes a few
//! numbers, and asking about a node reads a few; no question looks at pods.
//!
//! Kinds without pods are kept for the next decision and forgotten when there are many of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::cache::Slot;
use super::social::{Namespaces, PodTerm, Social};

pub(super) type KindId = usize;
pub(super) type TermId = usize;
pub(super) type NodeLabels = Arc<BTreeMap<String, String>>;
/// By the topology's value.
type Counts = HashMap<String, i64>;

/// Kinds without pods that are kept at least.
const IDLE: usize = 1024;

/// Why a pod may not be among its neighbours, in the order and the words of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    Affinity,
    AntiAffinity,
    /// A pod that is there already wants no such neighbour.
    Existing,
}

impl Clash {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Affinity => "node(s) didn't match pod affinity rules",
            Self::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::Existing => "node(s) didn't satisfy existing pods anti-affinity rules",
        }
    }
}

#[derive(Default)]
pub(super) struct Neighbours {
    kinds: Vec<Option<Kind>>,
    by_social: HashMap<Arc<Social>, KindId>,
    /// Ids to give again.
    free: Vec<KindId>,
    /// How many kinds have pods.
    peopled: usize,
    terms: Vec<Term>,
    by_term: HashMap<PodTerm, TermId>,
    /// By slot.
    labels: Vec<NodeLabels>,
    namespaces: Namespaces,
}

pub(super) struct Kind {
    pub(super) social: Arc<Social>,
    placed: HashMap<Slot, i64>,
    /// The terms, of whomever, that select it.
    matches: Vec<TermId>,
    /// Its own required terms; all of them must select whom it wants to be near.
    near: Vec<TermId>,
    apart: Vec<TermId>,
    preferred: Vec<(i64, TermId)>,
    /// What its pods, once they are there, mean to those that come: preferred terms, and required
    /// ones at the weight that Kubernetes gives them.
    liked: Vec<(i64, TermId)>,
    pub(super) spread: Vec<TermId>,
}

struct Term {
    term: PodTerm,
    kinds: Vec<KindId>,
    matching: Counts,
    repelling: Counts,
    attracting: Counts,
}

impl Neighbours {
    pub(super) fn kind(&self, id: KindId) -> &Kind {
        self.kinds[id]
            .as_ref()
            .expect("an id is given up only when no pod has it")
    }

    /// The kind of a pod, known from now on.
    pub(super) fn learn(&mut self, social: &Arc<Social>) -> KindId {
        if let Some(&id) = self.by_social.get(social) {
            return id;
        }
        if self.by_social.len() > 2 * self.peopled + IDLE {
            self.forget_idle();
        }
        let wants = &social.wants;
        let near = joint(&wants.near);
        let near = near.iter().map(|term| self.term(term)).collect();
        let apart = wants.apart.iter().map(|term| self.term(term)).collect();
        let weighted = wants.preferred.iter();
        let preferred: Vec<(i64, TermId)> = weighted
            .map(|(weight, term)| (*weight, self.term(term)))
            .collect();
        let hard = wants.near.iter().map(|term| (1, self.term(term)));
        let liked = hard.chain(preferred.iter().copied()).collect();
        let among = wants.spread.iter();
        let spread = among.map(|spread| self.term(&spread.among)).collect();
        let id = self.free.pop().unwrap_or(self.kinds.len());
        let selecting =
            |(_, term): &(TermId, &mut Term)| term.term.selects(social, &self.namespaces);
        let terms = self.terms.iter_mut().enumerate().filter(selecting);
        let matches = terms.map(|(place, term)| {
            term.kinds.push(id);
            place
        });
        let kind = Kind {
            social: Arc::clone(social),
            placed: HashMap::new(),
            matches: matches.collect(),
            near,
            apart,
            preferred,
            liked,
            spread,
        };
        if id == self.kinds.len() {
            self.kinds.push(None);
        }
        self.kinds[id] = Some(kind);
        self.by_social.insert(Arc::clone(social), id);
        id
    }

    fn term(&mut self, term: &PodTerm) -> TermId {
        if let Some(&id) = self.by_term.get(term) {
            return id;
        }
        let id = self.terms.len();
        let mut made = Term {
            term: term.clone(),
            kinds: Vec::new(),
            matching: Counts::new(),
            repelling: Counts::new(),
            attracting: Counts::new(),
        };
        for (place, kind) in self.kinds.iter_mut().enumerate() {
            let Some(kind) = kind else { continue };
            if !term.selects(&kind.social, &self.namespaces) {
                continue;
            }
            kind.matches.push(id);
            made.kinds.push(place);
            for (&slot, &count) in &kind.placed {
                bump(&mut made.matching, self.labels[slot].get(&term.key), count);
            }
        }
        self.terms.push(made);
        self.by_term.insert(term.clone(), id);
        id
    }

    /// Counts a pod of a kind on a node, or no longer.
    pub(super) fn count(&mut self, id: KindId, slot: Slot, is_added: bool) {
        self.reach(slot);
        let Self {
            kinds,
            terms,
            labels,
            ..
        } = self;
        let Some(Some(kind)) = kinds.get_mut(id) else {
            return;
        };
        let (delta, was_empty) = (if is_added { 1 } else { -1 }, kind.placed.is_empty());
        let count = kind.placed.entry(slot).or_default();
        *count += delta;
        if *count == 0 {
            kind.placed.remove(&slot);
        }
        apply(terms, kind, &labels[slot], delta);
        match (was_empty, kind.placed.is_empty()) {
            (true, false) => self.peopled += 1,
            (false, true) => self.peopled -= 1,
            (true, true) | (false, false) => {}
        }
    }

    /// A node has other labels; `is_empty`: no pod is there.
    pub(super) fn relabel(&mut self, slot: Slot, new: &NodeLabels, is_empty: bool) {
        self.reach(slot);
        let old = std::mem::replace(&mut self.labels[slot], Arc::clone(new));
        if is_empty || old == *new {
            return;
        }
        for kind in self.kinds.iter().flatten() {
            if let Some(&count) = kind.placed.get(&slot) {
                apply(&mut self.terms, kind, &old, -count);
                apply(&mut self.terms, kind, new, count);
            }
        }
    }

    fn reach(&mut self, slot: Slot) {
        if self.labels.len() <= slot {
            self.labels.resize_with(slot + 1, NodeLabels::default);
        }
    }

    /// Takes the labels of a namespace, `None` when it is gone; tells whether that may matter.
    pub(super) fn set_namespace(
        &mut self,
        name: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> bool {
        if self.namespaces.get(name) == labels {
            return false;
        }
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        let is_asked = self.terms.iter().any(|term| term.term.asks_namespaces());
        if is_asked {
            self.rebuild();
        }
        is_asked
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &String> {
        self.namespaces.keys()
    }

    /// Compares all terms with all kinds anew.
    fn rebuild(&mut self) {
        let Self {
            kinds,
            terms,
            labels,
            namespaces,
            ..
        } = self;
        for term in terms.iter_mut() {
            term.kinds.clear();
            term.matching.clear();
        }
        for (id, kind) in kinds.iter_mut().enumerate() {
            let Some(kind) = kind else { continue };
            kind.matches.clear();
            for (place, term) in terms.iter_mut().enumerate() {
                if !term.term.selects(&kind.social, namespaces) {
                    continue;
                }
                kind.matches.push(place);
                term.kinds.push(id);
                for (&slot, &count) in &kind.placed {
                    bump(&mut term.matching, labels[slot].get(&term.term.key), count);
                }
            }
        }
    }

    /// Forgets the kinds that have no pods, whose ids nobody keeps, and the terms that only they had.
    fn forget_idle(&mut self) {
        let is_idle = |kind: &Kind| kind.placed.is_empty();
        for kind in &mut self.kinds {
            if kind.as_ref().is_some_and(is_idle)
                && let Some(idle) = kind.take()
            {
                self.by_social.remove(&idle.social);
            }
        }
        let gone = self.kinds.iter().enumerate();
        let gone = gone.filter(|(_, kind)| kind.is_none());
        self.free = gone.map(|(id, _)| id).collect();
        let mut used = vec![false; self.terms.len()];
        for kind in self.kinds.iter().flatten() {
            let own = kind.near.iter().chain(&kind.apart).chain(&kind.spread);
            let weighted = kind.liked.iter().map(|(_, term)| term);
            own.chain(weighted).for_each(|term| used[*term] = true);
        }
        let mut moved = vec![usize::MAX; self.terms.len()];
        let mut kept = 0;
        for (place, is_used) in used.iter().enumerate() {
            if *is_used {
                moved[place] = kept;
                kept += 1;
            }
        }
        let mut place = 0;
        self.terms.retain(|_| {
            place += 1;
            used[place - 1]
        });
        self.by_term.retain(|_, id| {
            *id = moved[*id];
            *id != usize::MAX
        });
        let kinds = &self.kinds;
        for term in &mut self.terms {
            term.kinds
                .retain(|id| kinds.get(*id).is_some_and(Option::is_some));
        }
        for kind in self.kinds.iter_mut().flatten() {
            kind.matches.retain(|term| used[*term]);
            let own = kind.near.iter_mut().chain(&mut kind.apart);
            let own = own.chain(&mut kind.spread).chain(&mut kind.matches);
            let liked = kind.liked.iter_mut().chain(&mut kind.preferred);
            own.chain(liked.map(|(_, term)| term))
                .for_each(|term| *term = moved[*term]);
        }
    }
}

/// All required terms must select the same pods, each in its own topology.
fn joint(near: &[PodTerm]) -> Vec<PodTerm> {
    let wanted: Vec<_> = near.iter().flat_map(|term| &term.wanted).cloned().collect();
    let one = |term: &PodTerm| PodTerm {
        key: term.key.clone(),
        wanted: wanted.clone(),
    };
    near.iter().map(one).collect()
}

fn apply(terms: &mut [Term], kind: &Kind, labels: &NodeLabels, delta: i64) {
    for &id in &kind.matches {
        let term = &mut terms[id];
        bump(&mut term.matching, labels.get(&term.term.key), delta);
    }
    for &id in &kind.apart {
        let term = &mut terms[id];
        bump(&mut term.repelling, labels.get(&term.term.key), delta);
    }
    for &(weight, id) in &kind.liked {
        let term = &mut terms[id];
        bump(
            &mut term.attracting,
            labels.get(&term.term.key),
            weight * delta,
        );
    }
}

fn bump(counts: &mut Counts, domain: Option<&String>, delta: i64) {
    let Some(domain) = domain else { return };
    match counts.get_mut(domain) {
        Some(count) => {
            *count += delta;
            if *count == 0 {
                counts.remove(domain);
            }
        }
        None if delta != 0 => {
            counts.insert(domain.clone(), delta);
        }
        None => {}
    }
}

/// The questions of a decision.
impl Neighbours {
    /// The kind of a pod, if any pod of it has been seen.
    pub(super) fn known(&self, social: &Arc<Social>) -> Option<KindId> {
        self.by_social.get(social).copied()
    }

    /// Whether any neighbour matters to a kind.
    pub(super) fn matters(&self, id: KindId) -> bool {
        let kind = self.kind(id);
        let is_wanted = |term: &TermId| {
            let term = &self.terms[*term];
            !term.repelling.is_empty() || !term.attracting.is_empty()
        };
        !kind.social.wants.is_empty() || kind.matches.iter().any(is_wanted)
    }

    /// Whether a pod of a kind may be on a node with these labels, once the pods `without`, which are
    /// there, have gone.
    pub(super) fn admits(
        &self,
        id: KindId,
        labels: &NodeLabels,
        without: &[KindId],
    ) -> Result<(), Clash> {
        let kind = self.kind(id);
        let count = |counts: &Counts, term: TermId, going: &dyn Fn(&Kind) -> bool| {
            let domain = labels.get(&self.terms[term].term.key);
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
        let has_key = |term: &&TermId| labels.contains_key(&self.terms[**term].term.key);
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
        let key = |term: &TermId| &self.terms[*term].term.key;
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
    pub(super) fn prefers(&self, id: KindId) -> bool {
        let kind = self.kind(id);
        let is_liked = |term: &TermId| !self.terms[*term].attracting.is_empty();
        !kind.preferred.is_empty() || kind.matches.iter().any(is_liked)
    }

    /// How much a pod of the kind likes a node with these labels, and its neighbours there the pod.
    pub(super) fn preference(&self, id: KindId, labels: &NodeLabels) -> i64 {
        let kind = self.kind(id);
        let at = |counts: &Counts, term: TermId| {
            let domain = labels.get(&self.terms[term].term.key);
            domain
                .and_then(|domain| counts.get(domain))
                .copied()
                .unwrap_or(0)
        };
        let own = kind.preferred.iter();
        let own = own.map(|(weight, term)| weight * at(&self.terms[*term].matching, *term));
        let theirs = kind.matches.iter();
        let theirs = theirs.map(|term| at(&self.terms[*term].attracting, *term));
        own.chain(theirs).sum()
    }

    /// Whether a term selects pods of a kind.
    pub(super) fn is_selected(&self, id: KindId, term: TermId) -> bool {
        self.kind(id).matches.contains(&term)
    }

    /// The pods that a term selects and that stay, by node.
    pub(super) fn placed(&self, term: TermId) -> impl Iterator<Item = (Slot, i64)> {
        let kinds = self.terms[term].kinds.iter().map(|id| self.kind(*id));
        let staying = kinds.filter(|kind| !kind.social.is_leaving);
        staying.flat_map(|kind| kind.placed.iter().map(|(slot, count)| (*slot, *count)))
    }
}
