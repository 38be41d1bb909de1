//! Eviction: a deletion that a disruption budget may refuse.
//!
//! The budget's controller says how many pods may go; each eviction takes one of them, by a write
//! that must win, before the pod is deleted. Two evictions at once can therefore never both have
//! the last one. Pods that do not serve anybody go without asking.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Registry;
use super::error::Error;
use super::kinds;
use super::options::{Caller, DeleteOptions};
use super::update::ATTEMPTS;
use crate::api::condition;
use crate::api::pod::{self, Phase};
use crate::api::selector::Labels;

/// Evictions that a budget keeps in mind at a time; Kubernetes' own bound.
const MOST_DISRUPTED: usize = 2000;

/// What a budget says to an eviction.
#[derive(Debug)]
enum Answer {
    Goes,
    /// One less is allowed from now on.
    GoesAndCounts(Box<PodDisruptionBudget>),
    Refused(Error),
}

impl Registry {
    /// POST pods/{name}/eviction.
    pub async fn evict(
        &self,
        ns: &str,
        name: &str,
        options: &DeleteOptions,
        caller: &Caller,
    ) -> Result<(), Error> {
        let pods = self.api::<Pod>(Caller::system("eviction"));
        let budgets = self.api::<PodDisruptionBudget>(Caller::system("eviction"));
        for _ in 0..ATTEMPTS {
            let pod = pods.get(ns, name)?;
            if is_free(&pod) {
                break;
            }
            let selecting: Vec<_> = budgets
                .list(Some(ns))?
                .into_iter()
                .filter(|budget| selects(budget, &pod))
                .collect();
            let budget = match &selecting[..] {
                [] => break,
                [budget] => budget,
                [..] => return Err(Error::SeveralBudgets),
            };
            match ask(budget, &pod, self.clock().now()) {
                Answer::Refused(error) => return Err(error),
                Answer::Goes => break,
                Answer::GoesAndCounts(_) if options.dry_run => break,
                Answer::GoesAndCounts(counted) => match budgets.update_status(ns, &counted).await {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                },
            }
        }
        if !options.dry_run {
            self.mark(ns, name).await?;
        }
        let res = kinds::row_of::<Pod>();
        self.delete(res, Some(ns), name, options, caller)
            .await
            .map(drop)
    }

    /// Says in the pod's status why it goes. A pod that changes under way goes without.
    async fn mark(&self, ns: &str, name: &str) -> Result<(), Error> {
        let pods = self.api::<Pod>(Caller::system("eviction"));
        let mut pod = pods.get(ns, name)?.as_ref().clone();
        let conditions = pod.status.get_or_insert_default();
        condition::set(
            conditions.conditions.get_or_insert_default(),
            "DisruptionTarget",
            condition::Status::True,
            ("EvictionByEvictionAPI", "Eviction API: evicting"),
            self.clock().now(),
        );
        match pods.update_status(ns, &pod).await {
            Ok(_) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether the pod does not count for any budget.
fn is_free(pod: &Pod) -> bool {
    pod::is_terminating(pod)
        || match pod::phase(pod) {
            Phase::Succeeded | Phase::Failed | Phase::Pending => true,
            Phase::Running | Phase::Unknown => false,
        }
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector
        .and_then(|selector| Labels::from_selector(selector).ok())
        .is_some_and(|selector| selector.matches(pod.metadata.labels.as_ref()))
}

fn ask(budget: &PodDisruptionBudget, pod: &Pod, now: Timestamp) -> Answer {
    let spec = budget.spec.clone().unwrap_or_default();
    let status = budget.status.clone().unwrap_or_default();
    let name = budget.metadata.name.as_deref().unwrap_or_default();
    if !pod::is_ready(pod) {
        let is_served =
            status.current_healthy >= status.desired_healthy && status.desired_healthy > 0;
        if spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow") || is_served {
            return Answer::Goes;
        }
    }
    if status.observed_generation.unwrap_or(0) < budget.metadata.generation.unwrap_or(0) {
        return Answer::Refused(Error::DisruptionBudget {
            cause: format!("The disruption budget {name} is still being processed by the server."),
            retry_after: Some(10),
        });
    }
    let disrupted = status.disrupted_pods.as_ref().map_or(0, BTreeMap::len);
    if status.disruptions_allowed <= 0 || disrupted >= MOST_DISRUPTED {
        return Answer::Refused(Error::DisruptionBudget {
            cause: format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status.desired_healthy, status.current_healthy
            ),
            retry_after: None,
        });
    }
    let mut counted = budget.clone();
    let status = counted.status.get_or_insert_default();
    status.disruptions_allowed -= 1;
    let disrupted = status.disrupted_pods.get_or_insert_default();
    disrupted.insert(pod.metadata.name.clone().unwrap_or_default(), Time(now));
    Answer::GoesAndCounts(Box::new(counted))
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, status: Value, ready: bool) -> String {
        let mut full = json!({"currentHealthy": 2, "desiredHealthy": 2, "disruptionsAllowed": 0, "expectedPods": 3, "observedGeneration": 1});
        json_patch::merge(&mut full, &status);
        let budget =
            json!({"metadata": {"name": "b", "generation": 1}, "spec": spec, "status": full});
        let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        let ready = if ready { "True" } else { "False" };
        let pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        match ask(&budget, &pod, Timestamp::UNIX_EPOCH) {
            Answer::Goes => "goes".to_owned(),
            Answer::GoesAndCounts(counted) => {
                let status = counted.status.unwrap();
                assert!(status.disrupted_pods.unwrap().contains_key("p"));
                format!("counts {}", status.disruptions_allowed)
            }
            Answer::Refused(Error::DisruptionBudget { cause, .. }) => cause,
            Answer::Refused(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_budget_lets_go_what_it_can_spare() {
        let some = || json!({"disruptionsAllowed": 2});
        assert_eq!(check(json!({}), some(), true), "counts 1");
        assert_eq!(
            check(json!({}), json!({}), true),
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
        assert_eq!(
            check(
                json!({}),
                json!({"observedGeneration": 0, "disruptionsAllowed": 2}),
                true
            ),
            "The disruption budget b is still being processed by the server."
        );
        // A pod that is not ready serves nobody; it goes if the others suffice, or always.
        assert_eq!(check(json!({}), json!({}), false), "goes");
        let lacking = || json!({"currentHealthy": 1});
        assert!(check(json!({}), lacking(), false).contains("needs 2"));
        let policy = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        assert_eq!(check(policy, lacking(), false), "goes");
    }
}
