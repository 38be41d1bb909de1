//! A node as the scheduler sees it: what it offers, and what is taken of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::pod_info::{Amounts, Fit, Group, Shape};
use crate::api::condition;
use crate::api::quantity;

/// Kubernetes' default where a node does not say.
const DEFAULT_PODS: u64 = 110;
/// What a pod without requests counts for in the score, as in Kubernetes: otherwise a thousand of
/// them on one node would look like none.
const ASSUMED_CPU: u64 = 100;
const ASSUMED_MEMORY: u64 = 200 << 20;

/// What the Node object says; equal offers need no new look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) labels: Arc<BTreeMap<String, String>>,
    /// Those that keep pods away.
    pub(super) taints: Vec<Taint>,
    pub(super) is_unschedulable: bool,
    pub(super) is_ready: bool,
    pub(super) allocatable: Amounts,
    pub(super) pods: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taint {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) effect: String,
}

#[derive(Debug, Default)]
pub(super) struct NodeInfo {
    pub(super) name: String,
    /// `None` for a node that pods are bound to and that is not (or no longer) there.
    pub(super) offer: Option<Offer>,
    pub(super) used: Amounts,
    /// As the score counts it.
    pub(super) weight: Amounts,
    pub(super) pods: u64,
    groups: HashMap<Group, u32>,
    /// Rises with every change, so that an older judgement can be told.
    pub(super) version: u64,
}

impl Offer {
    pub(super) fn new(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let amount = |name: &str, read: fn(&Quantity) -> u64| {
            allocatable.and_then(|amounts| amounts.get(name)).map(read)
        };
        let taints = spec
            .and_then(|spec| spec.taints.as_deref())
            .unwrap_or_default();
        let keeps_away = |effect: &str| effect == "NoSchedule" || effect == "NoExecute";
        Self {
            labels: Arc::new(node.metadata.labels.clone().unwrap_or_default()),
            taints: taints
                .iter()
                .filter(|taint| keeps_away(&taint.effect))
                .map(|taint| Taint {
                    key: taint.key.clone(),
                    value: taint.value.clone().unwrap_or_default(),
                    effect: taint.effect.clone(),
                })
                .collect(),
            is_unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            is_ready: status
                .and_then(|status| status.conditions.as_deref())
                .is_some_and(|conditions| condition::is_true(conditions, "Ready")),
            allocatable: Amounts {
                cpu: amount("cpu", quantity::millis_or_zero).unwrap_or(0),
                memory: amount("memory", quantity::units_or_zero).unwrap_or(0),
                storage: amount("ephemeral-storage", quantity::units_or_zero).unwrap_or(0),
            },
            pods: amount("pods", quantity::units_or_zero).unwrap_or(DEFAULT_PODS),
        }
    }
}

impl NodeInfo {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, shape: &Shape) {
        let weight = weight(&shape.fit);
        self.used = plus(self.used, shape.fit.requests);
        self.weight = plus(self.weight, weight);
        self.pods += 1;
        for group in shape.owner.iter().chain(&shape.app) {
            *self.groups.entry(*group).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, shape: &Shape) {
        let weight = weight(&shape.fit);
        self.used = minus(self.used, shape.fit.requests);
        self.weight = minus(self.weight, weight);
        self.pods = self.pods.saturating_sub(1);
        for group in shape.owner.iter().chain(&shape.app) {
            if let Some(count) = self.groups.get_mut(group) {
                *count -= 1;
                if *count == 0 {
                    self.groups.remove(group);
                }
            }
        }
    }

    /// How many pods of a group are here.
    pub(super) fn count(&self, group: Option<Group>) -> u32 {
        group
            .and_then(|group| self.groups.get(&group))
            .copied()
            .unwrap_or(0)
    }
}

/// What a pod counts for in the score.
pub(super) fn weight(fit: &Fit) -> Amounts {
    let or = |amount: u64, assumed: u64| if amount == 0 { assumed } else { amount };
    Amounts {
        cpu: or(fit.requests.cpu, ASSUMED_CPU),
        memory: or(fit.requests.memory, ASSUMED_MEMORY),
        storage: fit.requests.storage,
    }
}

pub(super) fn plus(a: Amounts, b: Amounts) -> Amounts {
    Amounts {
        cpu: a.cpu.saturating_add(b.cpu),
        memory: a.memory.saturating_add(b.memory),
        storage: a.storage.saturating_add(b.storage),
    }
}

fn minus(a: Amounts, b: Amounts) -> Amounts {
    Amounts {
        cpu: a.cpu.saturating_sub(b.cpu),
        memory: a.memory.saturating_sub(b.memory),
        storage: a.storage.saturating_sub(b.storage),
    }
}
