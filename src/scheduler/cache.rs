//! The cluster as the scheduler believes it to be: nodes, the pods on them, and which nodes have
//! changed since when.
//!
//! A pod counts on its node from the moment it is *assumed* there, before the binding is durable;
//! the watch confirms it later, a failed binding takes it away again. Pods may be seen before
//! their node is, and outlive it: a node without an offer takes no new pods and is forgotten with
//! its last one.
//!
//! Every change of a node is appended to a log, so that a judgement of all nodes can be brought up
//! to date by looking at those that changed (`classes.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::neighbours::{KindId, Neighbours};
use super::node_info::{NodeInfo, Offer};
use super::pod_info::{Group, PodInfo, Shape};

/// A place in the list of nodes; reused after a node has gone.
pub(super) type Slot = usize;

#[derive(Default)]
pub(super) struct Cache {
    nodes: Vec<NodeInfo>,
    slots: HashMap<String, Slot>,
    free: Vec<Slot>,
    pods: HashMap<String, Placed>,
    /// How many pods have each priority.
    priorities: BTreeMap<i32, usize>,
    /// On how many nodes a group has pods.
    spread: HashMap<Group, usize>,
    pub(super) neighbours: Neighbours,
    /// How many nodes are there.
    offers: usize,
    log: Vec<Slot>,
    /// How many changes were cut off the log's front.
    forgotten: u64,
}

struct Placed {
    slot: Slot,
    priority: i32,
    shape: Arc<Shape>,
    kind: KindId,
    is_assumed: bool,
}

impl Cache {
    pub(super) fn node(&self, slot: Slot) -> &NodeInfo {
        &self.nodes[slot]
    }

    /// All places, also empty ones, whose node has no offer.
    pub(super) fn slots(&self) -> std::ops::Range<Slot> {
        0..self.nodes.len()
    }

    pub(super) fn offers(&self) -> usize {
        self.offers
    }

    /// The nodes that are there.
    pub(super) fn present(&self) -> impl Iterator<Item = (&NodeInfo, &Offer)> {
        self.nodes
            .iter()
            .filter_map(|node| Some((node, node.offer.as_ref()?)))
    }

    /// Takes what the Node says; tells whether anything changed that a pod may have waited for.
    pub(super) fn set_node(&mut self, node: &Node) -> bool {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let offer = Offer::new(node);
        let slot = self.slot(name);
        if self.nodes[slot].offer.as_ref() == Some(&offer) {
            return false;
        }
        let is_empty = self.nodes[slot].pods == 0;
        self.neighbours.relabel(slot, &offer.labels, is_empty);
        let before = self.nodes[slot].offer.replace(offer);
        self.offers += usize::from(before.is_none());
        self.changed(slot);
        true
    }

    pub(super) fn remove_node(&mut self, name: &str) {
        if let Some(&slot) = self.slots.get(name) {
            let before = self.nodes[slot].offer.take();
            self.offers -= usize::from(before.is_some());
            let is_empty = self.nodes[slot].pods == 0;
            self.neighbours.relabel(slot, &Arc::default(), is_empty);
            self.changed(slot);
            self.release(slot);
        }
    }

    /// Forgets every node that is not among `nodes`.
    pub(super) fn retain_nodes(&mut self, nodes: &[Arc<Node>]) {
        let known: HashSet<&str> = nodes
            .iter()
            .filter_map(|node| node.metadata.name.as_deref())
            .collect();
        let gone: Vec<String> = self
            .present()
            .filter(|(node, _)| !known.contains(node.name.as_str()))
            .map(|(node, _)| node.name.clone())
            .collect();
        for name in &gone {
            self.remove_node(name);
        }
    }

    /// Counts a pod on a node, once, wherever it was counted before; tells whether that is new.
    pub(super) fn place(&mut self, info: &PodInfo, node: &str, is_assumed: bool) -> bool {
        let kind = self.neighbours.learn(&info.social);
        if let Some(placed) = self.pods.get_mut(&info.uid)
            && self.nodes[placed.slot].name == node
            && placed.shape == info.shape
            && placed.kind == kind
        {
            placed.is_assumed = is_assumed;
            return false;
        }
        self.remove_pod(&info.uid);
        let slot = self.slot(node);
        self.nodes[slot].add(&info.shape);
        self.neighbours.count(kind, slot, true);
        self.count_spread(slot, &info.shape, true);
        self.changed(slot);
        *self.priorities.entry(info.priority).or_default() += 1;
        let placed = Placed {
            slot,
            priority: info.priority,
            shape: Arc::clone(&info.shape),
            kind,
            is_assumed,
        };
        self.pods.insert(info.uid.clone(), placed);
        true
    }

    /// Tells whether the pod was counted anywhere, so that there is more room now.
    pub(super) fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(placed) = self.pods.remove(uid) else {
            return false;
        };
        if let Some(count) = self.priorities.get_mut(&placed.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&placed.priority);
            }
        }
        self.nodes[placed.slot].remove(&placed.shape);
        self.neighbours.count(placed.kind, placed.slot, false);
        self.count_spread(placed.slot, &placed.shape, false);
        self.changed(placed.slot);
        self.release(placed.slot);
        true
    }

    /// The lowest priority of any pod that has a node.
    pub(super) fn lowest_priority(&self) -> Option<i32> {
        self.priorities.keys().next().copied()
    }

    /// Forgets every pod that is not among `pods`. Assumed ones need no exemption: they were told
    /// of before this list was, so one that it lacks is gone.
    pub(super) fn retain_pods(&mut self, pods: &[Arc<Pod>]) -> bool {
        let known: HashSet<&str> = pods
            .iter()
            .filter_map(|pod| pod.metadata.uid.as_deref())
            .collect();
        let gone: Vec<String> = self
            .pods
            .iter()
            .filter(|(uid, _)| !known.contains(uid.as_str()))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in &gone {
            self.remove_pod(uid);
        }
        !gone.is_empty()
    }

    pub(super) fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.is_assumed)
    }

    /// On how many nodes there are pods that a pod of this shape is spread against.
    pub(super) fn spread(&self, shape: &Shape) -> usize {
        let nodes = |group: Option<Group>| group.and_then(|group| self.spread.get(&group));
        let (owner, app) = (nodes(shape.owner), nodes(shape.app));
        owner.copied().unwrap_or(0).max(app.copied().unwrap_or(0))
    }

    /// The first pod of a group on a node adds the node, the last one takes it away.
    fn count_spread(&mut self, slot: Slot, shape: &Shape, is_added: bool) {
        for group in shape.owner.iter().chain(&shape.app) {
            let count = self.nodes[slot].count(Some(*group));
            if is_added && count == 1 {
                *self.spread.entry(*group).or_default() += 1;
            } else if !is_added
                && count == 0
                && let Some(nodes) = self.spread.get_mut(group)
            {
                *nodes -= 1;
                if *nodes == 0 {
                    self.spread.remove(group);
                }
            }
        }
    }

    /// The number of changes so far.
    pub(super) fn position(&self) -> u64 {
        self.forgotten + self.log.len() as u64
    }

    /// The nodes that changed after `position`; `None` if that is too long ago.
    pub(super) fn changed_since(&self, position: u64) -> Option<&[Slot]> {
        let from = position.checked_sub(self.forgotten)?;
        self.log.get(usize::try_from(from).ok()?..)
    }

    fn changed(&mut self, slot: Slot) {
        self.nodes[slot].version += 1;
        // A log longer than this is dearer to follow than looking at every node.
        let longest = 2 * self.nodes.len() + 1024;
        if self.log.len() >= longest {
            let half = self.log.len() / 2;
            self.log.drain(..half);
            self.forgotten += half as u64;
        }
        self.log.push(slot);
    }

    fn slot(&mut self, name: &str) -> Slot {
        if let Some(&slot) = self.slots.get(name) {
            return slot;
        }
        let slot = if let Some(slot) = self.free.pop() {
            let version = self.nodes[slot].version;
            self.nodes[slot] = NodeInfo::new(name);
            self.nodes[slot].version = version;
            slot
        } else {
            self.nodes.push(NodeInfo::new(name));
            self.nodes.len() - 1
        };
        self.slots.insert(name.to_owned(), slot);
        slot
    }

    fn release(&mut self, slot: Slot) {
        let node = &self.nodes[slot];
        if node.offer.is_none() && node.pods == 0 && self.slots.remove(&node.name).is_some() {
            self.free.push(slot);
        }
    }
}
