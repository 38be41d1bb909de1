//! A NetworkPolicy, parsed once.
//!
//! What cannot be read closes: a selector of peers then selects nobody, one of pods everybody.
//! The API server has refused such objects; nothing here depends on it.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::selector::Labels;
use crate::api::subnet::Subnet;
use crate::runtime::net::{Block, PortRange};
use crate::runtime::spec::Protocol;

/// See the module. `None` is a direction that the policy says nothing about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Policy {
    pub(super) namespace: String,
    pub(super) selects: Labels,
    pub(super) ingress: Option<Vec<RuleSpec>>,
    pub(super) egress: Option<Vec<RuleSpec>>,
}

/// Peers and ports; `None` is all of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RuleSpec {
    pub(super) peers: Option<Vec<PeerSpec>>,
    pub(super) ports: Option<Vec<PortSpec>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum PeerSpec {
    Pods {
        /// `None` is the policy's own namespace.
        namespaces: Option<Labels>,
        pods: Labels,
    },
    Block(Block),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum PortSpec {
    Range(PortRange),
    Named(String, Protocol),
}

impl Policy {
    pub(super) fn of(object: &NetworkPolicy) -> Self {
        let spec = object.spec.clone().unwrap_or_default();
        let types = spec.policy_types.unwrap_or_default();
        let ingress = spec.ingress.unwrap_or_default();
        let egress = spec.egress.unwrap_or_default();
        let is_named = |name: &str| types.iter().any(|it| it == name);
        // Admission fills the types in; these are its rules.
        let has_ingress = types.is_empty() || is_named("Ingress");
        let has_egress = is_named("Egress") || (types.is_empty() && !egress.is_empty());
        let ingress = ingress
            .iter()
            .map(|rule| RuleSpec::of(&rule.from, &rule.ports));
        let egress = egress
            .iter()
            .map(|rule| RuleSpec::of(&rule.to, &rule.ports));
        let selector = spec.pod_selector.unwrap_or_default();
        Self {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            selects: Labels::from_selector(&selector).unwrap_or(Labels(Vec::new())),
            ingress: has_ingress.then(|| ingress.collect()),
            egress: has_egress.then(|| egress.collect()),
        }
    }
}

impl RuleSpec {
    fn of(peers: &Option<Vec<NetworkPolicyPeer>>, ports: &Option<Vec<NetworkPolicyPort>>) -> Self {
        let peers = peers.as_ref().filter(|peers| !peers.is_empty());
        let ports = ports.as_ref().filter(|ports| !ports.is_empty());
        Self {
            peers: peers.map(|peers| peers.iter().filter_map(PeerSpec::of).collect()),
            ports: ports.map(|ports| ports.iter().filter_map(PortSpec::of).collect()),
        }
    }
}

impl PeerSpec {
    fn of(peer: &NetworkPolicyPeer) -> Option<Self> {
        if let Some(block) = &peer.ip_block {
            return Some(Self::Block(parse_block(block)?));
        }
        let parse = |selector: &LabelSelector| Labels::from_selector(selector).ok();
        let namespaces = match &peer.namespace_selector {
            Some(selector) => Some(parse(selector)?),
            None => None,
        };
        let pods = match &peer.pod_selector {
            Some(selector) => parse(selector)?,
            None if namespaces.is_some() => Labels::default(),
            None => return None,
        };
        Some(Self::Pods { namespaces, pods })
    }
}

fn parse_block(block: &IPBlock) -> Option<Block> {
    let except = block
        .except
        .iter()
        .flatten()
        .map(|text| Subnet::parse(text));
    Some(Block {
        range: Subnet::parse(&block.cidr)?,
        except: except.collect::<Option<_>>()?,
    })
}

impl PortSpec {
    /// `None` for what nobody here speaks.
    fn of(port: &NetworkPolicyPort) -> Option<Self> {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some(_) => return None,
        };
        let number = |number: i32| u16::try_from(number).ok();
        let ports = match &port.port {
            None => 0..=u16::MAX,
            Some(IntOrString::String(name)) => return Some(Self::Named(name.clone(), protocol)),
            Some(IntOrString::Int(first)) => {
                number(*first)?..=number(port.end_port.unwrap_or(*first))?
            }
        };
        Some(Self::Range(PortRange { protocol, ports }))
    }
}
