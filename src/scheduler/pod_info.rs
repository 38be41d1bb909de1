//! A pod as the scheduler sees it, parsed once.
//!
//! Pods with the same [`Shape`] are interchangeable: whatever node one of them may go to, the
//! other may too, with the same score. All replicas of a workload share one shape, which is what
//! makes deciding cheap (`classes.rs`).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use super::social::Social;
use crate::api::annotations::POD_TEMPLATE_HASH;
use crate::api::{owner, pod};

/// What a pod takes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Amounts {
    pub(super) cpu: u64,
    pub(super) memory: u64,
    pub(super) storage: u64,
}

/// Pods that count together when they are spread: a hash, since only equality matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Group(u64);

impl Group {
    fn of(value: &impl Hash) -> Self {
        // The default hasher has fixed keys: the same pod is in the same group in every process.
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// All of a pod that a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) fit: Arc<Fit>,
    /// Replicas of one owner.
    pub(super) owner: Option<Group>,
    /// Pods of the same labels, also of another revision.
    pub(super) app: Option<Group>,
}

/// What decides whether a node is possible, and how good it is apart from spreading. Workloads by
/// the thousand have few of these between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fit {
    pub(super) requests: Amounts,
    pub(super) selector: BTreeMap<String, String>,
    /// Alternatives; empty means any node.
    pub(super) affinity: Vec<Term>,
    /// With weights.
    pub(super) preferred: Vec<(i64, Term)>,
    /// What the pod's volumes reach: one of the terms of each group; filled in at each decision.
    pub(super) volumes: Vec<Vec<Term>>,
    pub(super) tolerations: Vec<Tolerated>,
    pub(super) is_gated: bool,
}

/// A node selector term: everything in it must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Term {
    pub(super) labels: Vec<Wanted>,
    pub(super) fields: Vec<Wanted>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) key: String,
    pub(super) operator: Operator,
    pub(super) values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
    /// Validation lets no other pass; should one, it matches no node.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tolerated {
    /// `None` is every key.
    pub(super) key: Option<String>,
    /// `None` is every value (`Exists`).
    pub(super) value: Option<String>,
    /// `None` is every effect.
    pub(super) effect: Option<String>,
}

pub(super) struct PodInfo {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) priority: i32,
    pub(super) created: Option<Timestamp>,
    pub(super) node: Option<String>,
    pub(super) is_finished: bool,
    pub(super) is_terminating: bool,
    /// Whether this scheduler is asked for.
    pub(super) is_ours: bool,
    pub(super) shape: Arc<Shape>,
    /// What it is to other pods.
    pub(super) social: Arc<Social>,
    pub(super) pod: Arc<Pod>,
}

impl PodInfo {
    /// The same pod, held to the nodes that its volumes reach.
    pub(super) fn within(&self, groups: Vec<Vec<Term>>) -> Arc<Shape> {
        if groups.is_empty() {
            return Arc::clone(&self.shape);
        }
        Arc::new(Shape {
            fit: Arc::new(Fit {
                volumes: groups,
                ..self.shape.fit.as_ref().clone()
            }),
            ..self.shape.as_ref().clone()
        })
    }

    pub(super) fn new(pod: Arc<Pod>) -> Self {
        let meta = &pod.metadata;
        let spec = pod.spec.as_ref();
        let scheduler = spec.and_then(|spec| spec.scheduler_name.as_deref());
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            priority: spec.and_then(|spec| spec.priority).unwrap_or(0),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            node: pod::node_name(&pod).map(str::to_owned),
            is_finished: pod::phase(&pod).is_terminal(),
            is_terminating: pod::is_terminating(&pod),
            is_ours: scheduler.is_none_or(|name| name.is_empty() || name == super::COMPONENT),
            shape: Arc::new(shape(&pod)),
            social: Social::of(&pod),
            pod,
        }
    }
}

fn shape(pod: &Pod) -> Shape {
    let meta = &pod.metadata;
    Shape {
        fit: Arc::new(fit(pod)),
        owner: owner::controller_of(meta).map(|owner| Group::of(&owner.uid)),
        app: app(pod),
    }
}

fn fit(pod: &Pod) -> Fit {
    let requests = pod::requests(pod);
    let spec = pod.spec.as_ref();
    let gates = spec.and_then(|spec| spec.scheduling_gates.as_deref());
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref());
    Fit {
        requests: Amounts {
            cpu: requests.cpu_millis,
            memory: requests.memory_bytes,
            storage: requests.storage_bytes,
        },
        selector: spec
            .and_then(|spec| spec.node_selector.clone())
            .unwrap_or_default(),
        affinity: spec.map(affinity).unwrap_or_default(),
        preferred: spec.map(preferred).unwrap_or_default(),
        volumes: Vec::new(),
        tolerations: tolerations
            .unwrap_or_default()
            .iter()
            .map(tolerated)
            .collect(),
        is_gated: gates.is_some_and(|gates| !gates.is_empty()),
    }
}

/// The labels without those that tell revisions apart.
fn app(pod: &Pod) -> Option<Group> {
    let labels = pod.metadata.labels.as_ref()?;
    let is_stable = |key: &str| key != POD_TEMPLATE_HASH && key != "controller-revision-hash";
    let stable: Vec<_> = labels.iter().filter(|(key, _)| is_stable(key)).collect();
    (!stable.is_empty()).then(|| Group::of(&(pod.metadata.namespace.as_deref(), stable)))
}

fn affinity(spec: &PodSpec) -> Vec<Term> {
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.map(terms).unwrap_or_default()
}

fn preferred(spec: &PodSpec) -> Vec<(i64, Term)> {
    let affinity = spec.affinity.as_ref();
    let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = affinity.and_then(|affinity| {
        affinity
            .preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let weighted = preferred.into_iter().flatten();
    weighted
        .map(|one| (i64::from(one.weight), term(&one.preference)))
        .collect()
}

/// The alternatives of a selector.
pub(super) fn terms(selector: &NodeSelector) -> Vec<Term> {
    selector.node_selector_terms.iter().map(term).collect()
}

fn term(term: &NodeSelectorTerm) -> Term {
    Term {
        labels: term
            .match_expressions
            .iter()
            .flatten()
            .map(wanted)
            .collect(),
        fields: term.match_fields.iter().flatten().map(wanted).collect(),
    }
}

fn wanted(requirement: &NodeSelectorRequirement) -> Wanted {
    Wanted {
        key: requirement.key.clone(),
        operator: match requirement.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => Operator::Unknown,
        },
        values: requirement.values.clone().unwrap_or_default(),
    }
}

fn tolerated(toleration: &Toleration) -> Tolerated {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let is_any_value = toleration.operator.as_deref() == Some("Exists");
    Tolerated {
        key: given(&toleration.key),
        value: (!is_any_value).then(|| toleration.value.clone().unwrap_or_default()),
        effect: given(&toleration.effect),
    }
}
