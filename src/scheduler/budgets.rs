//! Disruption budgets as preemption sees them: which of a node's pods may not all go at once. Pure.
//!
//! A budget is spared where another choice is as good; where there is none, it is broken.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::pod_info::PodInfo;
use crate::api::selector::Labels;

#[derive(Default)]
pub(super) struct Budgets(Vec<Budget>);

struct Budget {
    namespace: String,
    selector: Labels,
    allowed: i32,
    /// Pods whose going is counted in `allowed` already.
    counted: BTreeSet<String>,
}

impl Budgets {
    pub(super) fn new(found: &[Arc<PodDisruptionBudget>]) -> Self {
        Self(found.iter().filter_map(|one| budget(one)).collect())
    }

    /// For each of the pods, in order, whether its going would break a budget, if all before it go.
    pub(super) fn protected(&self, pods: &[&PodInfo]) -> Vec<bool> {
        let mut left: Vec<i32> = self.0.iter().map(|budget| budget.allowed).collect();
        let breaks = |pod: &&PodInfo| {
            let mut is_broken = false;
            for (budget, left) in self.0.iter().zip(&mut left) {
                if budget.covers(pod) {
                    *left -= 1;
                    is_broken |= *left < 0;
                }
            }
            is_broken
        };
        pods.iter().map(breaks).collect()
    }
}

impl Budget {
    fn covers(&self, pod: &PodInfo) -> bool {
        let social = &pod.social;
        self.namespace == social.namespace
            && !social.labels.is_empty()
            && self.selector.matches(Some(&social.labels))
            && !self.counted.contains(&pod.name)
    }
}

/// One without a selector, or with an empty one, protects nobody.
fn budget(found: &PodDisruptionBudget) -> Option<Budget> {
    let selector = found.spec.as_ref()?.selector.as_ref()?;
    let selector = Labels::from_selector(selector).ok()?;
    let status = found.status.as_ref();
    let counted = status.and_then(|status| status.disrupted_pods.as_ref());
    (!selector.is_empty()).then(|| Budget {
        namespace: found.metadata.namespace.clone().unwrap_or_default(),
        selector,
        allowed: status.map_or(0, |status| status.disruptions_allowed),
        counted: counted
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect(),
    })
}
