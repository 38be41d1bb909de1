//! What a pod is to other pods, parsed once: its labels, and whom it wants to be near, to avoid, or
//! to be spread among.
//!
//! `matchLabelKeys` and `mismatchLabelKeys` become part of the selectors here, since the pod's own
//! labels are at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::pod;
use crate::api::selector::{Labels, Requirement};

/// Pods that are equal in this are interchangeable to all others.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Social {
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
    /// Pods on their way out still repel and attract, but are not spread against.
    pub(super) is_leaving: bool,
    pub(super) wants: Wants,
}

#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Wants {
    /// Each for itself.
    pub(super) near: Vec<PodTerm>,
    pub(super) apart: Vec<PodTerm>,
    /// With weights, negative for those to avoid.
    pub(super) preferred: Vec<(i64, PodTerm)>,
    pub(super) spread: Vec<Spread>,
}

/// Pods in the same domain of a topology that are selected by all of `wanted`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PodTerm {
    pub(super) key: String,
    pub(super) wanted: Vec<Selects>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Selects {
    pub(super) namespaces: BTreeSet<String>,
    /// Also these namespaces.
    pub(super) namespace_selector: Option<Labels>,
    /// `None` selects no pod.
    pub(super) labels: Option<Labels>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Spread {
    pub(super) among: PodTerm,
    pub(super) max_skew: u64,
    pub(super) min_domains: usize,
    pub(super) is_hard: bool,
    /// Only nodes that the pod's node affinity lets in count.
    pub(super) honours_affinity: bool,
    /// Only nodes whose taints the pod tolerates count.
    pub(super) honours_taints: bool,
}

/// The labels of each namespace.
pub(super) type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

impl Social {
    pub(super) fn of(pod: &Pod) -> Arc<Self> {
        let meta = &pod.metadata;
        let mut social = Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            is_leaving: pod::is_terminating(pod),
            wants: Wants::default(),
        };
        if let Some(spec) = &pod.spec {
            social.wants = wants(&social, spec);
        }
        Arc::new(social)
    }
}

impl Wants {
    pub(super) fn is_empty(&self) -> bool {
        self.near.is_empty()
            && self.apart.is_empty()
            && self.preferred.is_empty()
            && self.spread.is_empty()
    }
}

impl PodTerm {
    pub(super) fn selects(&self, social: &Social, namespaces: &Namespaces) -> bool {
        let one = |wanted: &Selects| wanted.selects(social, namespaces);
        self.wanted.iter().all(one)
    }

    /// Whether it asks for the labels of namespaces.
    pub(super) fn asks_namespaces(&self) -> bool {
        let mut wanted = self.wanted.iter();
        wanted.any(|wanted| wanted.namespace_selector.is_some())
    }
}

impl Selects {
    fn selects(&self, social: &Social, namespaces: &Namespaces) -> bool {
        let is_chosen = |selector: &Labels| {
            // One that is not known yet has no labels, which an empty selector selects all the same.
            selector.matches_by(|key| Some(namespaces.get(&social.namespace)?.get(key)?.as_str()))
        };
        let is_there = self.namespaces.contains(&social.namespace)
            || self.namespace_selector.as_ref().is_some_and(is_chosen);
        is_there
            && self
                .labels
                .as_ref()
                .is_some_and(|labels| labels.matches(Some(&social.labels)))
    }
}

fn wants(social: &Social, spec: &PodSpec) -> Wants {
    let mut wants = Wants::default();
    if let Some(affinity) = &spec.affinity {
        if let Some(near) = &affinity.pod_affinity {
            let required = &near.required_during_scheduling_ignored_during_execution;
            wants.near = terms(social, required.as_deref());
            let preferred = &near.preferred_during_scheduling_ignored_during_execution;
            for one in preferred.iter().flatten() {
                let wanted = term(social, &one.pod_affinity_term);
                wants.preferred.push((i64::from(one.weight), wanted));
            }
        }
        if let Some(apart) = &affinity.pod_anti_affinity {
            let required = &apart.required_during_scheduling_ignored_during_execution;
            wants.apart = terms(social, required.as_deref());
            let preferred = &apart.preferred_during_scheduling_ignored_during_execution;
            for one in preferred.iter().flatten() {
                let wanted = term(social, &one.pod_affinity_term);
                wants.preferred.push((-i64::from(one.weight), wanted));
            }
        }
    }
    let constraints = spec.topology_spread_constraints.iter().flatten();
    wants.spread = constraints.map(|one| spread(social, one)).collect();
    wants
}

fn terms(social: &Social, found: Option<&[PodAffinityTerm]>) -> Vec<PodTerm> {
    let found = found.unwrap_or_default().iter();
    found.map(|one| term(social, one)).collect()
}

fn term(social: &Social, term: &PodAffinityTerm) -> PodTerm {
    let mut labels = labels(term.label_selector.as_ref());
    let own = |key: &String| Some((key.clone(), vec![social.labels.get(key)?.clone()]));
    if let Some(labels) = &mut labels {
        let same = term.match_label_keys.iter().flatten().filter_map(own);
        labels
            .0
            .extend(same.map(|(key, values)| Requirement::In(key, values)));
        let other = term.mismatch_label_keys.iter().flatten().filter_map(own);
        labels
            .0
            .extend(other.map(|(key, values)| Requirement::NotIn(key, values)));
    }
    let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.insert(social.namespace.clone());
    }
    let selector = term.namespace_selector.as_ref();
    PodTerm {
        key: term.topology_key.clone(),
        wanted: vec![Selects {
            namespaces,
            namespace_selector: selector.and_then(|selector| labels_of(selector)),
            labels,
        }],
    }
}

fn spread(social: &Social, constraint: &TopologySpreadConstraint) -> Spread {
    let mut labels = labels(constraint.label_selector.as_ref());
    if let Some(labels) = &mut labels {
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = social.labels.get(key) {
                labels
                    .0
                    .push(Requirement::In(key.clone(), vec![value.clone()]));
            }
        }
    }
    let positive = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
    Spread {
        among: PodTerm {
            key: constraint.topology_key.clone(),
            wanted: vec![Selects {
                namespaces: BTreeSet::from([social.namespace.clone()]),
                namespace_selector: None,
                labels,
            }],
        },
        max_skew: u64::from(positive(Some(constraint.max_skew)).unwrap_or(1)),
        min_domains: positive(constraint.min_domains).unwrap_or(1) as usize,
        is_hard: constraint.when_unsatisfiable == "DoNotSchedule",
        honours_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honours_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

fn labels(selector: Option<&LabelSelector>) -> Option<Labels> {
    selector.and_then(labels_of)
}

/// Validation lets no selector pass that cannot be read; should one, it selects nothing.
fn labels_of(selector: &LabelSelector) -> Option<Labels> {
    Labels::from_selector(selector).ok()
}
