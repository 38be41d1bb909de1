//! The decision: a node for a pod, or the reasons against each. Pure and deterministic: the same
//! changes in the same order lead to the same answers.

use std::sync::Arc;

use super::cache::{Cache, Slot};
use super::classes::{Classes, explanation};
use super::neighbours::KindId;
use super::pod_info::{PodInfo, Shape};
use super::sociable::Company;
use super::social::Social;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The pod counts on this node from now on.
    Bind(String),
    Unschedulable(String),
    /// The pod itself says that its time has not come.
    Gated,
}

#[derive(Default)]
pub(super) struct Decider {
    pub(super) cache: Cache,
    classes: Classes,
    failed: Option<Failed>,
}

/// The last pod in company for which there was no node, and why, at that position of the log.
struct Failed {
    social: Arc<Social>,
    shape: Arc<Shape>,
    position: u64,
    words: String,
}

impl Decider {
    pub(super) fn decide(&mut self, info: &PodInfo) -> Decision {
        self.decide_within(info, &info.shape)
    }

    /// The same for a pod whose volumes allow less than it says itself. It counts with its own
    /// shape, which is what the watch will confirm.
    pub(super) fn decide_within(&mut self, info: &PodInfo, shape: &Arc<Shape>) -> Decision {
        if info.shape.fit.is_gated {
            return Decision::Gated;
        }
        let kind = self.cache.neighbours.learn(&info.social);
        let found = if self.cache.neighbours.matters(kind) {
            self.decide_in_company(info, shape, kind)
        } else {
            let slot = self.classes.best(shape, &self.cache);
            slot.ok_or_else(|| self.classes.explain(&shape.fit, &self.cache))
        };
        match found {
            Ok(slot) => {
                let node = self.cache.node(slot).name.clone();
                self.cache.place(info, &node, true);
                Decision::Bind(node)
            }
            Err(words) => Decision::Unschedulable(words),
        }
    }

    /// For a pod whose neighbours matter. Replicas that fail one after the other fail alike.
    fn decide_in_company(
        &mut self,
        info: &PodInfo,
        shape: &Arc<Shape>,
        kind: KindId,
    ) -> Result<Slot, String> {
        let position = self.cache.position();
        if let Some(last) = &self.failed
            && last.position == position
            && last.social == info.social
            && last.shape == *shape
        {
            return Err(last.words.clone());
        }
        let company = Company::new(kind, shape, &self.cache);
        let best = self.classes.best_in(&company, shape, &self.cache);
        best.ok_or_else(|| {
            let words = explanation(&shape.fit, &self.cache, Some(&company));
            self.failed = Some(Failed {
                social: Arc::clone(&info.social),
                shape: Arc::clone(shape),
                position,
                words: words.clone(),
            });
            words
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::filter::filter;
    use crate::scheduler::pod_info::Fit;
    use crate::scheduler::score::score;
    use k8s_openapi::api::core::v1::{Node, Pod};
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn node(name: &str, cpu: u64, pods: u64) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {},
            "status": {"allocatable": {"cpu": format!("{cpu}m"), "memory": "64Gi", "pods": pods.to_string()},
                "conditions": [{"type": "Ready", "status": "True"}]}}))
        .unwrap()
    }

    fn pod(name: &str, owner: &str, cpu: u64) -> PodInfo {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": owner},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": format!("{cpu}m")}}}]}}))
        .unwrap();
        PodInfo::new(Arc::new(pod))
    }

    fn fit_of(info: &mut PodInfo) -> &mut Fit {
        let shape = Arc::get_mut(&mut info.shape).unwrap();
        Arc::get_mut(&mut shape.fit).unwrap()
    }

    fn decider(nodes: &[Node]) -> Decider {
        let mut decider = Decider::default();
        for node in nodes {
            decider.cache.set_node(node);
        }
        decider
    }

    fn place(decider: &mut Decider, info: &PodInfo) -> String {
        match decider.decide(info) {
            Decision::Bind(node) => node,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn replicas_are_spread_before_load_is_balanced() {
        let mut decider = decider(&[
            node("a", 4000, 110),
            node("b", 4000, 110),
            node("c", 4000, 110),
        ]);
        // Two nodes are loaded by others.
        assert_eq!(place(&mut decider, &pod("x", "other", 3000)), "a");
        assert_eq!(place(&mut decider, &pod("y", "another", 2000)), "b");
        let nodes: Vec<String> = (0..4)
            .map(|n| place(&mut decider, &pod(&format!("w{n}"), "web", 100)))
            .collect();
        assert_eq!(nodes, ["c", "b", "a", "c"]);
    }

    #[test]
    fn the_words_are_kubernetes() {
        let empty = decider(&[]).decide(&pod("p", "web", 1));
        assert_eq!(
            empty,
            Decision::Unschedulable("no nodes available to schedule pods".into())
        );
        let mut tainted = node("c", 1000, 10);
        tainted.spec = serde_json::from_value(
            json!({"taints": [{"key": "gpu", "value": "", "effect": "NoSchedule"}]}),
        )
        .unwrap();
        let mut decider = decider(&[node("a", 1000, 10), node("b", 1000, 10), tainted]);
        assert_eq!(
            decider.decide(&pod("p", "web", 2000)),
            Decision::Unschedulable(
                "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: }, 2 Insufficient cpu.".into()
            )
        );
        let mut gated = pod("g", "web", 1);
        fit_of(&mut gated).is_gated = true;
        assert_eq!(decider.decide(&gated), Decision::Gated);
    }

    #[test]
    fn an_assumed_pod_counts_and_a_removed_one_does_not() {
        let mut decider = decider(&[node("a", 1000, 10)]);
        let first = pod("p1", "web", 1000);
        assert_eq!(place(&mut decider, &first), "a");
        assert!(decider.cache.is_assumed("p1"));
        assert!(matches!(
            decider.decide(&pod("p2", "web", 1000)),
            Decision::Unschedulable(_)
        ));
        decider.cache.place(&first, "a", false);
        assert!(!decider.cache.is_assumed("p1"));
        assert!(decider.cache.remove_pod("p1"));
        assert_eq!(place(&mut decider, &pod("p2", "web", 1000)), "a");
        decider.cache.remove_node("a");
        assert!(matches!(
            decider.decide(&pod("p3", "web", 1)),
            Decision::Unschedulable(_)
        ));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Node { name: u8, cpu: u64, pods: u64 },
        NodeGone(u8),
        Pod { owner: u8, cpu: u64 },
        PodGone(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0_u8..6, 0_u64..4000, 0_u64..8).prop_map(|(name, cpu, pods)| Step::Node { name, cpu, pods }),
            1 => (0_u8..6).prop_map(Step::NodeGone),
            8 => (0_u8..3, prop_oneof![Just(0), Just(300), Just(700)]).prop_map(|(owner, cpu)| Step::Pod { owner, cpu }),
            2 => any::<prop::sample::Index>().prop_map(Step::PodGone),
        ]
    }

    /// Plays the steps; checks each decision against a look at every node; returns the answers.
    fn play(steps: &[Step]) -> Vec<String> {
        let mut decider = Decider::default();
        let mut offers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut placed: Vec<(String, String, u64)> = Vec::new();
        let mut answers = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Node { name, cpu, pods } => {
                    let name = format!("n{name}");
                    decider.cache.set_node(&node(&name, *cpu, *pods));
                    offers.insert(name, (*cpu, *pods));
                }
                Step::NodeGone(name) => {
                    decider.cache.remove_node(&format!("n{name}"));
                    offers.remove(&format!("n{name}"));
                }
                Step::PodGone(which) if !placed.is_empty() => {
                    let (uid, ..) = placed.remove(which.index(placed.len()));
                    assert!(decider.cache.remove_pod(&uid));
                }
                Step::PodGone(_) => {}
                Step::Pod { owner, cpu } => {
                    let info = pod(&format!("p{index}"), &format!("o{owner}"), *cpu);
                    let best = best_by_brute_force(&decider.cache, &info);
                    let answer = match decider.decide(&info) {
                        Decision::Bind(node) => {
                            let on_node = || placed.iter().filter(|(_, on, _)| *on == node);
                            let (all_cpu, all_pods) = offers[&node];
                            let used: u64 = on_node().map(|(_, _, cpu)| cpu).sum();
                            assert!(*cpu == 0 || used + cpu <= all_cpu, "over-committed");
                            assert!((on_node().count() as u64) < all_pods, "too many pods");
                            placed.push((info.uid.clone(), node.clone(), *cpu));
                            node
                        }
                        Decision::Unschedulable(_) | Decision::Gated => String::new(),
                    };
                    assert_eq!(answer, best.unwrap_or_default());
                    answers.push(answer);
                }
            }
        }
        answers
    }

    fn best_by_brute_force(cache: &Cache, info: &PodInfo) -> Option<String> {
        let fits = cache
            .slots()
            .filter(|&slot| filter(&info.shape.fit, cache.node(slot)).is_ok());
        let judged = fits.map(|slot| {
            let node = cache.node(slot);
            (
                score(&info.shape, node, node.offer.as_ref().unwrap()),
                std::cmp::Reverse(slot),
            )
        });
        judged
            .max()
            .map(|(_, slot)| cache.node(slot.0).name.clone())
    }

    proptest! {
        #[test]
        fn never_over_commits_and_always_agrees_with_a_full_look(steps in prop::collection::vec(step(), 1..150)) {
            prop_assert_eq!(play(&steps), play(&steps));
        }
    }

    /// Enough nodes that a workload can crowd the best ones, so that both ways are taken.
    #[test]
    fn large_clusters_agree_with_a_full_look_too() {
        let nodes: Vec<Node> = (0..150)
            .map(|n| node(&format!("n{n}"), 1000 + 7 * (n % 13), 40))
            .collect();
        let mut decider = decider(&nodes);
        for n in 0..900 {
            let info = pod(&format!("p{n}"), &format!("o{}", n * n % 5), 10 * (n % 3));
            let best = best_by_brute_force(&decider.cache, &info);
            assert_eq!(Some(place(&mut decider, &info)), best, "pod {n}");
        }
    }

    #[test]
    fn a_thousand_replicas_over_many_nodes_are_even() {
        let nodes: Vec<Node> = (0..50)
            .map(|n| node(&format!("n{n}"), 100_000, 110))
            .collect();
        let mut decider = decider(&nodes);
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for n in 0..1000 {
            *counts
                .entry(place(&mut decider, &pod(&format!("p{n}"), "web", 100)))
                .or_default() += 1;
        }
        assert!(counts.values().all(|&count| count == 20), "{counts:?}");
    }

    /// G26; run by hand: `cargo test --release scheduler -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn decisions_per_second() {
        let nodes: Vec<Node> = (0..5000)
            .map(|n| node(&format!("n{n}"), 64_000, 110))
            .collect();
        for owners in [1, 100, 1000] {
            let mut decider = decider(&nodes);
            let pods: Vec<PodInfo> = (0..50_000)
                .map(|n| pod(&format!("p{n}"), &format!("o{}", n % owners), 100))
                .collect();
            let start = std::time::Instant::now();
            for info in &pods {
                assert!(matches!(decider.decide(info), Decision::Bind(_)));
            }
            let rate = f64::from(50_000) / start.elapsed().as_secs_f64();
            println!("{owners} owners: {rate:.0} decisions/s");
        }
    }
}
