//! Preemption: room for a pod that has none, made by pods of lower priority.
//!
//! A node comes into question if nothing but room is missing there. All lower pods are taken away in
//! thought, and given back from the highest on as long as the pod still fits; who is left over must
//! go. The node whose victims matter least is taken. The pod is not bound: it waits until the
//! victims are gone, and its priority puts it first in the queue then.
//!
//! Not weighed: disruption budgets (Kubernetes too only tries to spare them). Pods with claims do
//! not preempt: where their volumes are is decided with the node.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Scheduler;
use super::cache::Cache;
use super::filter::{Refusal, filter};
use super::node_info::{NodeInfo, Offer};
use super::pod_info::{Amounts, PodInfo};
use crate::api::pod;
use crate::controllers::events::Notice;
use crate::errors;
use crate::registry::{self, DeleteOptions};

/// Pods that have room made for them in one round; each looks at every node.
const AT_ONCE: usize = 16;

/// The pods of each node that have not ended.
pub(super) type Tenants = HashMap<String, Vec<PodInfo>>;

pub(super) fn tenants(pods: Vec<Arc<Pod>>) -> Tenants {
    let mut tenants = Tenants::new();
    for pod in pods {
        if pod::node_name(&pod).is_none() || pod::phase(&pod).is_terminal() {
            continue;
        }
        let info = PodInfo::new(pod);
        let node = info.node.clone().unwrap_or_default();
        tenants.entry(node).or_default().push(info);
    }
    tenants
}

/// Who must go from where.
pub(super) struct Victims {
    pub(super) node: String,
    pub(super) pods: Vec<Arc<Pod>>,
}

/// Whether the pod may preempt, and does not wait for its victims already.
fn is_eligible(info: &PodInfo, tenants: &Tenants) -> bool {
    let spec = info.pod.spec.as_ref();
    if spec.and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return false;
    }
    if super::has_claims(&info.pod) {
        return false;
    }
    let status = info.pod.status.as_ref();
    let nominated = status.and_then(|status| status.nominated_node_name.as_ref());
    let there = nominated.and_then(|node| tenants.get(node));
    let is_leaving = |tenant: &PodInfo| tenant.is_terminating && tenant.priority < info.priority;
    !there.is_some_and(|there| there.iter().any(is_leaving))
}

pub(super) fn choose(info: &PodInfo, cache: &Cache, tenants: &Tenants) -> Option<Victims> {
    if !is_eligible(info, tenants) {
        return None;
    }
    let candidates = cache.present().filter_map(|(node, offer)| {
        let lacks_room = matches!(filter(&info.shape.fit, node), Err(Refusal::Resources(_)));
        let there = tenants.get(&node.name).filter(|_| lacks_room)?;
        let victims = victims(info, (node, offer), there)?;
        let highest = victims.iter().map(|victim| victim.priority).max()?;
        let sum: i64 = victims
            .iter()
            .map(|victim| i64::from(victim.priority))
            .sum();
        Some(((highest, sum, victims.len(), node.name.clone()), victims))
    });
    let ((.., node), victims) = candidates.min_by(|(one, _), (other, _)| one.cmp(other))?;
    Some(Victims {
        node,
        pods: victims
            .iter()
            .map(|victim| Arc::clone(&victim.pod))
            .collect(),
    })
}

/// The fewest and least important pods whose going makes the pod fit; `None` if none do.
fn victims<'a>(
    info: &PodInfo,
    (node, offer): (&NodeInfo, &Offer),
    there: &'a [PodInfo],
) -> Option<Vec<&'a PodInfo>> {
    let mut lower: Vec<&PodInfo> = there
        .iter()
        .filter(|tenant| tenant.priority < info.priority && !tenant.is_terminating)
        .collect();
    lower.sort_by_key(|tenant| {
        (
            Reverse(tenant.priority),
            tenant.created,
            tenant.name.clone(),
        )
    });
    let mut room = Room::of(node, offer);
    for tenant in &lower {
        room.give(tenant);
    }
    if !room.has(info) {
        return None;
    }
    lower.retain(|tenant| {
        room.take(tenant);
        let stays = room.has(info);
        if !stays {
            room.give(tenant);
        }
        !stays
    });
    Some(lower)
}

/// What is free on a node; less than nothing while a pod is weighed.
struct Room {
    cpu: i128,
    memory: i128,
    storage: i128,
    pods: i128,
}

impl Room {
    fn of(node: &NodeInfo, offer: &Offer) -> Self {
        let left = |all: u64, used: u64| i128::from(all) - i128::from(used);
        Self {
            cpu: left(offer.allocatable.cpu, node.used.cpu),
            memory: left(offer.allocatable.memory, node.used.memory),
            storage: left(offer.allocatable.storage, node.used.storage),
            pods: left(offer.pods, node.pods),
        }
    }

    fn change(&mut self, amounts: Amounts, sign: i128) {
        self.cpu += sign * i128::from(amounts.cpu);
        self.memory += sign * i128::from(amounts.memory);
        self.storage += sign * i128::from(amounts.storage);
        self.pods += sign;
    }

    fn give(&mut self, tenant: &PodInfo) {
        self.change(tenant.shape.fit.requests, 1);
    }

    fn take(&mut self, tenant: &PodInfo) {
        self.change(tenant.shape.fit.requests, -1);
    }

    /// What is not asked for cannot be lacking.
    fn has(&self, info: &PodInfo) -> bool {
        let asked = info.shape.fit.requests;
        let fits = |asked: u64, left: i128| asked == 0 || i128::from(asked) <= left;
        self.pods >= 1
            && fits(asked.cpu, self.cpu)
            && fits(asked.memory, self.memory)
            && fits(asked.storage, self.storage)
    }
}

impl Scheduler {
    /// Makes room for those of the pods that may have some made; the first in the queue first.
    pub(super) async fn make_room(&self, homeless: &[Arc<Pod>]) {
        // Where all are alike nobody is looked for, however many have no room.
        let lowest = self.decider.cache.lowest_priority();
        let is_above = |pod: &&Arc<Pod>| lowest.is_some_and(|lowest| priority(pod) > lowest);
        let mut hopeful = homeless.iter().filter(is_above).take(AT_ONCE).peekable();
        if hopeful.peek().is_none() {
            return;
        }
        let mut tenants = match self.pods.list(None) {
            Ok(pods) => tenants(pods),
            Err(error) => {
                tracing::warn!(error = %errors::chain(&error), "the pods that could make room");
                return;
            }
        };
        for pod in hopeful {
            let info = PodInfo::new(Arc::clone(pod));
            let Some(victims) = choose(&info, &self.decider.cache, &tenants) else {
                continue;
            };
            if let Err(error) = self.preempt(pod, &victims).await {
                // The next attempt of the pod tries again.
                tracing::debug!(pod = info.name, error = %errors::chain(&error), "preempt");
            }
            // What goes for one pod cannot go for the next.
            tenants.remove(&victims.node);
        }
    }

    async fn preempt(&self, pod: &Pod, victims: &Victims) -> Result<(), registry::Error> {
        let meta = &pod.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let live = self
            .pods
            .get(namespace, meta.name.as_deref().unwrap_or_default())?;
        if live.metadata.uid != meta.uid || pod::node_name(&live).is_some() {
            return Ok(());
        }
        let mut nominated = live.as_ref().clone();
        let status = nominated.status.get_or_insert_default();
        status.nominated_node_name = Some(victims.node.clone());
        self.pods.update_status(namespace, &nominated).await?;
        for victim in &victims.pods {
            let uid = meta.uid.as_deref().unwrap_or_default();
            let message = format!("Preempted by pod {uid} on node {}", victims.node);
            self.recorder
                .event(victim.as_ref(), Notice::normal("Preempted", message));
            let options = DeleteOptions {
                uid: victim.metadata.uid.clone(),
                ..DeleteOptions::default()
            };
            let namespace = victim.metadata.namespace.as_deref().unwrap_or_default();
            let name = victim.metadata.name.as_deref().unwrap_or_default();
            match self.pods.delete(namespace, name, &options).await {
                Ok(())
                | Err(registry::Error::NotFound { .. } | registry::Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn priority(pod: &Pod) -> i32 {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.priority)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Node;
    use serde_json::{Value, json};

    fn pod(
        name: &str,
        node: Option<&str>,
        (cpu, priority): (u32, i32),
        change: &Value,
    ) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"nodeName": node, "priority": priority, "containers": [
                {"name": "c", "resources": {"requests": {"cpu": format!("{cpu}m")}}}]},
        });
        json_patch::merge(&mut pod, change);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    /// Two nodes of one core.
    fn check(
        tenants_there: &[Arc<Pod>],
        cpu: u32,
        change: &Value,
        expected: Option<(&str, &[&str])>,
    ) {
        let mut cache = Cache::default();
        for name in ["a", "b"] {
            let node: Node = serde_json::from_value(json!({"metadata": {"name": name}, "status": {
                "allocatable": {"cpu": "1", "pods": "9"}, "conditions": [{"type": "Ready", "status": "True"}]}}))
            .unwrap();
            cache.set_node(&node);
        }
        for pod in tenants_there {
            let info = PodInfo::new(Arc::clone(pod));
            let node = info.node.clone().unwrap();
            cache.place(&info, &node, false);
        }
        let info = PodInfo::new(pod("high", None, (cpu, 100), change));
        let found = choose(&info, &cache, &tenants(tenants_there.to_vec()));
        let found = found.map(|victims| {
            let names = victims
                .pods
                .iter()
                .map(|pod| pod.metadata.name.clone().unwrap());
            (victims.node, names.collect::<Vec<_>>())
        });
        let expected = expected.map(|(node, names)| {
            (
                node.to_owned(),
                names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>(),
            )
        });
        assert_eq!(found, expected, "{cpu}");
    }

    #[test]
    fn the_least_important_go() {
        let none = json!({});
        let on = |name: &str, node: &str, cpu: u32, priority: i32| {
            pod(name, Some(node), (cpu, priority), &none)
        };
        let full = [
            on("a1", "a", 600, 50),
            on("a2", "a", 400, 10),
            on("b1", "b", 500, 20),
            on("b2", "b", 500, 5),
        ];
        check(&full, 400, &none, Some(("b", &["b2"])));
        check(&full, 900, &none, Some(("b", &["b1", "b2"])));
        check(&full, 2000, &none, None);
        let equals = [on("a1", "a", 1000, 100), on("b1", "b", 1000, 200)];
        check(&equals, 100, &none, None);
    }

    #[test]
    fn a_pod_may_abstain_and_waits_for_its_victims() {
        let full = [
            pod("a1", Some("a"), (1000, 1), &json!({})),
            pod("b1", Some("b"), (1000, 2), &json!({})),
        ];
        check(&full, 500, &json!({}), Some(("a", &["a1"])));
        check(
            &full,
            500,
            &json!({"spec": {"preemptionPolicy": "Never"}}),
            None,
        );
        let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let going = [pod("a1", Some("a"), (1000, 1), &leaving), full[1].clone()];
        check(
            &going,
            500,
            &json!({"status": {"nominatedNodeName": "a"}}),
            None,
        );
        check(&going, 500, &json!({}), Some(("b", &["b1"])));
    }
}
