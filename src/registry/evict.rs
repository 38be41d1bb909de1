//! Eviction: a deletion that a disruption budget may refuse.
//!
//! The budget's controller says how many pods may go; each eviction takes one of them, by a write
//! that must win, before the pod is deleted. Two evictions at once can therefore never both have
//! the last one. Pods that do not serve anybody go without asking; whether they do is a precondition of
//! the deletion, which otherwise is looked at again.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::delete::check_preconditions;
use super::error::Error;
use super::kinds;
use super::options::{Caller, DeleteOptions};
use super::update::ATTEMPTS;
use super::{Api, Registry};
use crate::api::condition;
use crate::api::pod::{self, Phase};
use crate::api::selector::Labels;

/// Evictions that a budget keeps in mind at a time; Kubernetes' own bound.
const MOST_DISRUPTED: usize = 2000;

/// What a budget says to an eviction.
#[derive(Debug)]
enum Answer {
    Goes,
    /// As it is seen: if it becomes ready or starts meanwhile, the budget has to be asked again.
    GoesAsSeen,
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
        let res = kinds::row_of::<Pod>();
        let pods = self.api::<Pod>(Caller::system("eviction"));
        let budgets = self.api::<PodDisruptionBudget>(Caller::system("eviction"));
        for _ in 0..ATTEMPTS {
            let pod = pods.get(ns, name)?;
            // Before anything is counted or said: whoever means another pod disrupts none.
            check_preconditions(res, &pod.metadata, options)?;
            let is_as_seen = match self.answer(&budgets, ns, &pod)? {
                Answer::Refused(error) => return Err(error),
                Answer::Goes => false,
                Answer::GoesAsSeen => true,
                Answer::GoesAndCounts(_) if options.dry_run => false,
                Answer::GoesAndCounts(counted) => match budgets.update_status(ns, &counted).await {
                    Ok(_) => false,
                    Err(Error::Conflict { .. }) => continue,
                    Err(error) => return Err(error),
                },
            };
            match self.remove(&pod, is_as_seen, options, caller).await {
                Err(Error::Conflict { .. }) if is_as_seen && options.resource_version.is_none() => {
                }
                other => return other,
            }
        }
        Err(lost(name))
    }

    fn answer(
        &self,
        budgets: &Api<PodDisruptionBudget>,
        ns: &str,
        pod: &Pod,
    ) -> Result<Answer, Error> {
        if let Some(answer) = without_budget(pod) {
            return Ok(answer);
        }
        let selecting: Vec<_> = budgets
            .list(Some(ns))?
            .into_iter()
            .filter(|budget| selects(budget, pod))
            .collect();
        match &selecting[..] {
            [] => Ok(Answer::Goes),
            [budget] => Ok(ask(budget, pod, self.clock().now())),
            [..] => Err(Error::SeveralBudgets),
        }
    }

    /// Deletes this pod and no other of its name; one that must be as it was seen, only if it is.
    async fn remove(
        &self,
        pod: &Pod,
        is_as_seen: bool,
        options: &DeleteOptions,
        caller: &Caller,
    ) -> Result<(), Error> {
        let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let mut options = options.clone();
        options.uid.clone_from(&pod.metadata.uid);
        let mut revision = pod.metadata.resource_version.clone();
        if !options.dry_run {
            match self.mark(ns, pod).await {
                Ok(marked) => revision.clone_from(&marked.metadata.resource_version),
                // A pod that changes under way goes without, if it goes.
                Err(Error::Conflict { .. }) if !is_as_seen => {}
                Err(error) => return Err(error),
            }
        }
        if is_as_seen || options.resource_version.is_some() {
            options.resource_version = revision;
        }
        let res = kinds::row_of::<Pod>();
        self.delete(res, Some(ns), name, &options, caller)
            .await
            .map(drop)
    }

    /// Says in the pod's status why it goes.
    async fn mark(&self, ns: &str, pod: &Pod) -> Result<Arc<Pod>, Error> {
        let pods = self.api::<Pod>(Caller::system("eviction"));
        let mut pod = pod.clone();
        let conditions = pod.status.get_or_insert_default();
        condition::set(
            conditions.conditions.get_or_insert_default(),
            "DisruptionTarget",
            condition::Status::True,
            ("EvictionByEvictionAPI", "Eviction API: evicting"),
            self.clock().now(),
        );
        pods.update_status(ns, &pod).await
    }
}

/// After as many attempts as others won; nothing has gone.
fn lost(name: &str) -> Error {
    Error::DisruptionBudget {
        cause: format!("pod {name} and its disruption budget are being changed by others"),
        retry_after: Some(10),
    }
}

/// The answer for a pod that does not count for any budget. One that has not started may do so.
fn without_budget(pod: &Pod) -> Option<Answer> {
    if pod::is_terminating(pod) {
        return Some(Answer::Goes);
    }
    match pod::phase(pod) {
        Phase::Succeeded | Phase::Failed => Some(Answer::Goes),
        Phase::Pending => Some(Answer::GoesAsSeen),
        Phase::Running | Phase::Unknown => None,
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
            return Answer::GoesAsSeen;
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
    use super::super::Fixture;
    use super::*;
    use crate::store::{ObjectKey, Op};
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
            Answer::GoesAsSeen => "goes as seen".to_owned(),
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
        assert_eq!(check(json!({}), json!({}), false), "goes as seen");
        let lacking = || json!({"currentHealthy": 1});
        assert!(check(json!({}), lacking(), false).contains("needs 2"));
        let policy = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        assert_eq!(check(policy, lacking(), false), "goes as seen");
    }

    /// A pod that serves, and a budget that can spare it but is written by somebody else in
    /// between, however often one tries: what is listed as its newest version is another's.
    async fn contended() -> Fixture {
        let fixture = Fixture::new().await;
        let registry = &fixture.registry;
        let pods: Api<Pod> = registry.api(Caller::system("test"));
        let pod = json!({"metadata": {"name": "p", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": "hello"}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let mut pod = (*pods.create("default", &pod).await.unwrap()).clone();
        let ready =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        pod.status = serde_json::from_value(ready).unwrap();
        pods.update_status("default", &pod).await.unwrap();
        let budgets: Api<PodDisruptionBudget> = registry.api(Caller::system("test"));
        let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 0}});
        let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        budgets.create("default", &budget).await.unwrap();
        let listed = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "b", "namespace": "default", "generation": 1},
            "spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": "web"}}},
            "status": {"currentHealthy": 1, "desiredHealthy": 0, "disruptionsAllowed": 1,
                "expectedPods": 1, "observedGeneration": 1}});
        let key = ObjectKey::new("poddisruptionbudgets.policy", "default", "a");
        let op = Op::Create {
            key,
            object: listed,
        };
        registry.store().commit(vec![op]).await.unwrap();
        fixture
    }

    #[tokio::test]
    async fn who_loses_every_race_for_the_budget_evicts_nobody() {
        let fixture = contended().await;
        let caller = Caller::system("test");
        let options = DeleteOptions::default();
        let refused = fixture.registry.evict("default", "p", &options, &caller);
        match refused.await {
            Err(Error::DisruptionBudget { cause, retry_after }) => {
                assert!(cause.contains("are being changed by others"), "{cause}");
                assert_eq!(retry_after, Some(10));
            }
            other => panic!("{other:?}"),
        }
        let pods: Api<Pod> = fixture.registry.api(caller);
        let pod = pods.get("default", "p").unwrap();
        assert!(pod.metadata.deletion_timestamp.is_none());
        fixture.stop().await;
    }
}
