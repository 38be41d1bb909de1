//! From policies, namespaces and pods to the rules of some pods of this worker. Pure.
//!
//! A pod is isolated in a direction if a policy of its namespace selects it for that direction;
//! then the rules of all such policies together say what passes. A named port is a number of the
//! pod that is connected to: of the pod itself on the way in, of each peer on the way out, where one
//! rule becomes one per number.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::peer_pod::PeerPod;
use super::policy::{PeerSpec, Policy, PortSpec, RuleSpec};
use crate::runtime::net::{PeerSet, Peers, PortRange, Rule, Rules};
use crate::runtime::spec::Protocol;

type LabelMap = Option<BTreeMap<String, String>>;

/// What is known of the cluster.
pub(super) struct View<'a> {
    pub(super) policies: Vec<&'a Policy>,
    pub(super) namespaces: HashMap<&'a str, &'a LabelMap>,
    pub(super) pods: Vec<&'a PeerPod>,
}

/// The rules of each of `locals`; `None` for one that no policy selects.
pub(super) fn plan(view: &View<'_>, locals: &[&PeerPod]) -> Vec<Option<Rules>> {
    let mut planned: Vec<Option<Rules>> = vec![None; locals.len()];
    for policy in &view.policies {
        let is_selected = |pod: &PeerPod| {
            pod.namespace() == policy.namespace && policy.selects.matches(pod.labels())
        };
        let selected: Vec<usize> = (0..locals.len())
            .filter(|index| is_selected(locals[*index]))
            .collect();
        if selected.is_empty() {
            continue;
        }
        let ingress = policy.ingress.as_ref().map(|rules| {
            let resolve = |rule| (rule, view.peers(&policy.namespace, rule));
            rules.iter().map(resolve).collect::<Vec<_>>()
        });
        let egress = policy.egress.as_ref().map(|rules| {
            let outward = rules
                .iter()
                .map(|rule| view.outward(&policy.namespace, rule));
            outward.flatten().collect::<Vec<Rule>>()
        });
        for index in selected {
            let rules = planned[index].get_or_insert_default();
            if let Some(ingress) = &ingress {
                let inward = ingress
                    .iter()
                    .filter_map(|(rule, peers)| inward(locals[index], rule, peers.clone()));
                rules.ingress.get_or_insert_default().extend(inward);
            }
            if let Some(egress) = &egress {
                rules
                    .egress
                    .get_or_insert_default()
                    .extend_from_slice(egress);
            }
        }
    }
    planned
}

/// A rule for who comes in; `None` if there is no such port.
fn inward(pod: &PeerPod, rule: &RuleSpec, peers: Peers) -> Option<Rule> {
    let Some(specs) = &rule.ports else {
        return Some(Rule { peers, ports: None });
    };
    let range = |spec: &PortSpec| match spec {
        PortSpec::Range(range) => Some(range.clone()),
        PortSpec::Named(name, protocol) => Some(one(*protocol, pod.port(name, *protocol)?)),
    };
    let ports: Vec<PortRange> = specs.iter().filter_map(range).collect();
    (!ports.is_empty()).then_some(Rule {
        peers,
        ports: Some(ports),
    })
}

fn one(protocol: Protocol, port: u16) -> PortRange {
    PortRange {
        protocol,
        ports: port..=port,
    }
}

impl View<'_> {
    fn outward(&self, namespace: &str, rule: &RuleSpec) -> Vec<Rule> {
        let Some(specs) = &rule.ports else {
            let peers = self.peers(namespace, rule);
            return vec![Rule { peers, ports: None }];
        };
        let mut rules = Vec::new();
        let numbers = specs.iter().filter_map(|spec| match spec {
            PortSpec::Range(range) => Some(range.clone()),
            PortSpec::Named(..) => None,
        });
        let numbers: Vec<PortRange> = numbers.collect();
        if !numbers.is_empty() {
            rules.push(Rule {
                peers: self.peers(namespace, rule),
                ports: Some(numbers),
            });
        }
        for spec in specs {
            let PortSpec::Named(name, protocol) = spec else {
                continue;
            };
            let mut pods: BTreeMap<u16, HashSet<IpAddr>> = BTreeMap::new();
            for pod in self.peer_pods(namespace, rule) {
                if let Some(number) = pod.port(name, *protocol) {
                    pods.entry(number).or_default().extend(pod.ips());
                }
            }
            rules.extend(pods.into_iter().map(|(number, pods)| Rule {
                peers: Peers::These(Arc::new(PeerSet {
                    pods,
                    blocks: Vec::new(),
                })),
                ports: Some(vec![one(*protocol, number)]),
            }));
        }
        rules
    }

    fn peers(&self, namespace: &str, rule: &RuleSpec) -> Peers {
        let Some(specs) = &rule.peers else {
            return Peers::Anybody;
        };
        let blocks = specs.iter().filter_map(|spec| match spec {
            PeerSpec::Block(block) => Some(block.clone()),
            PeerSpec::Pods { .. } => None,
        });
        Peers::These(Arc::new(PeerSet {
            blocks: blocks.collect(),
            pods: self
                .peer_pods(namespace, rule)
                .flat_map(PeerPod::ips)
                .collect(),
        }))
    }

    /// The pods that a rule names; all, where it names nobody.
    fn peer_pods<'a>(
        &'a self,
        namespace: &'a str,
        rule: &'a RuleSpec,
    ) -> impl Iterator<Item = &'a PeerPod> {
        let pods = self.pods.iter().copied();
        pods.filter(move |pod| match &rule.peers {
            None => true,
            Some(specs) => specs.iter().any(|spec| self.names(namespace, spec, pod)),
        })
    }

    fn names(&self, namespace: &str, spec: &PeerSpec, pod: &PeerPod) -> bool {
        match spec {
            PeerSpec::Block(_) => false,
            PeerSpec::Pods { namespaces, pods } => {
                let is_in = match namespaces {
                    None => pod.namespace() == namespace,
                    Some(selector) => self
                        .namespaces
                        .get(pod.namespace())
                        .is_some_and(|labels| selector.matches(labels.as_ref())),
                };
                is_in && pods.matches(pod.labels())
            }
        }
    }
}

#[cfg(test)]
mod tests;
