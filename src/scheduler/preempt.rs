//! Preemption: room for a pod that has none, made by pods of lower priority.
//!
//! A node comes into question if nothing but room is missing there. All lower pods are taken away in
//! thought, and given back from the highest on as long as the pod still fits; who is left over must
//! go. Those that a disruption budget protects are given back first. The node that breaks the fewest
//! budgets is taken, then the one whose victims matter least. The pod is not bound: it waits until
//! the victims are gone, and its priority puts it first in the queue then.
//!
//! Pods with claims do not preempt: where their volumes are is decided with the node.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Scheduler;
use super::budgets::Budgets;
use super::cache::Cache;
use super::filter::{Refusal, filter};
use super::node_info::{NodeInfo, Offer};
use super::pod_info::{Amounts, PodInfo};
use super::sociable::Company;
use crate::api::{condition, pod};
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

pub(super) fn choose(
    info: &PodInfo,
    cache: &Cache,
    tenants: &Tenants,
    budgets: &Budgets,
) -> Option<Victims> {
    if !is_eligible(info, tenants) {
        return None;
    }
    let company = match cache.neighbours.known(&info.social) {
        Some(kind) => Some(Company::new(kind, &info.shape, cache)),
        // Its terms are not counted any more; the next attempt counts them.
        None if !info.social.wants.is_empty() => return None,
        None => None,
    };
    let candidates = cache.present().filter_map(|(node, offer)| {
        let filtered = filter(&info.shape.fit, node);
        let could_fit = matches!(filtered, Ok(()) | Err(Refusal::Resources(_)));
        let there = tenants.get(&node.name).filter(|_| could_fit)?;
        let place = Place {
            info,
            offer,
            company: company.as_ref(),
            cache,
        };
        let (victims, violations) = victims(&place, node, there, budgets)?;
        let highest = victims.iter().map(|victim| victim.priority).max()?;
        // Each victim counts, also one whose priority is below nought.
        let sum: i64 = victims
            .iter()
            .map(|victim| i64::from(victim.priority) - i64::from(i32::MIN))
            .sum();
        let first = victims.iter().filter(|victim| victim.priority == highest);
        let longest = Reverse(first.map(|victim| victim.created).min());
        let rank = (violations, highest, sum, victims.len(), longest);
        Some(((rank, node.name.clone()), victims))
    });
    let ((_, node), victims) = candidates.min_by(|(one, _), (other, _)| one.cmp(other))?;
    Some(Victims {
        node,
        pods: victims
            .iter()
            .map(|victim| Arc::clone(&victim.pod))
            .collect(),
    })
}

/// A node on trial.
struct Place<'a> {
    info: &'a PodInfo,
    offer: &'a Offer,
    company: Option<&'a Company<'a>>,
    cache: &'a Cache,
}

impl Place<'_> {
    /// Whether the pod may be here once these have gone.
    fn fits(&self, room: &Room, gone: &[&PodInfo]) -> bool {
        let neighbours = &self.cache.neighbours;
        let is_welcome = |company: &Company<'_>| {
            let gone = gone.iter().filter_map(|pod| neighbours.known(&pod.social));
            company
                .admits(self.offer, &gone.collect::<Vec<_>>())
                .is_ok()
        };
        room.has(self.info) && self.company.is_none_or(is_welcome)
    }
}

/// The fewest and least important pods whose going makes the pod fit, and how many of them a budget
/// protects; `None` if it does not fit then either.
fn victims<'a>(
    place: &Place<'_>,
    node: &NodeInfo,
    there: &'a [PodInfo],
    budgets: &Budgets,
) -> Option<(Vec<&'a PodInfo>, usize)> {
    let info = place.info;
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
    let mut room = Room::of(node, place.offer);
    for tenant in &lower {
        room.give(tenant);
    }
    if !place.fits(&room, &lower) {
        return None;
    }
    let is_protected = budgets.protected(&lower);
    let (first, then): (Vec<_>, Vec<_>) = lower
        .iter()
        .copied()
        .zip(is_protected)
        .partition(|(_, is_protected)| *is_protected);
    let mut violations = 0;
    for (tenant, is_protected) in first.into_iter().chain(then) {
        room.take(tenant);
        let others: Vec<&PodInfo> = lower
            .iter()
            .copied()
            .filter(|other| other.uid != tenant.uid)
            .collect();
        if place.fits(&room, &others) {
            lower = others;
        } else {
            room.give(tenant);
            violations += usize::from(is_protected);
        }
    }
    Some((lower, violations))
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
        let budgets = match self.budgets.list(None) {
            Ok(budgets) => Budgets::new(&budgets),
            Err(error) => {
                tracing::warn!(error = %errors::chain(&error), "the budgets of those that could make room");
                return;
            }
        };
        for pod in hopeful {
            let info = PodInfo::new(Arc::clone(pod));
            let Some(victims) = choose(&info, &self.decider.cache, &tenants, &budgets) else {
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
            self.mark(victim).await?;
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

impl Scheduler {
    /// Says in a victim's status why it goes. One that changes under way goes without.
    async fn mark(&self, victim: &Pod) -> Result<(), registry::Error> {
        let mut marked = victim.clone();
        let status = marked.status.get_or_insert_default();
        let message = format!(
            "{}: preempting to accommodate a higher priority pod",
            super::COMPONENT
        );
        condition::set(
            status.conditions.get_or_insert_default(),
            "DisruptionTarget",
            condition::Status::True,
            ("PreemptionByScheduler", &message),
            self.clock.now(),
        );
        let namespace = victim.metadata.namespace.as_deref().unwrap_or_default();
        match self.pods.update_status(namespace, &marked).await {
            Ok(_) | Err(registry::Error::Conflict { .. } | registry::Error::NotFound { .. }) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn priority(pod: &Pod) -> i32 {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.priority)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
