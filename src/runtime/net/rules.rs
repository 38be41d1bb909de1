//! Who may connect into a pod, and where it may connect to.
//!
//! Plain and compiled: addresses and ports, nothing of the objects that they come from. A direction
//! without rules is open; one with rules lets through what any of them covers, so an empty list
//! lets nothing through.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::api::subnet::Subnet;
use crate::runtime::spec::Protocol;

/// See the module. `None` is a direction that is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
}

/// Some peers on some ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub peers: Peers,
    /// `None` is every port of every protocol.
    pub ports: Option<Vec<PortRange>>,
}

/// The other side of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    Anybody,
    /// Shared by all pods that the same rule is for.
    These(Arc<PeerSet>),
}

/// Addresses, by name and by range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSet {
    pub pods: HashSet<IpAddr>,
    pub blocks: Vec<Block>,
}

/// A range with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub range: Subnet,
    pub except: Vec<Subnet>,
}

/// Ports of one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub protocol: Protocol,
    pub ports: RangeInclusive<u16>,
}

impl Rules {
    /// Whether `from` may reach the pod's `port`.
    pub fn let_in(&self, from: IpAddr, protocol: Protocol, port: u16) -> bool {
        covers(self.ingress.as_deref(), from, protocol, port)
    }

    /// Whether the pod may reach `port` of `to`.
    pub fn let_out(&self, to: IpAddr, protocol: Protocol, port: u16) -> bool {
        covers(self.egress.as_deref(), to, protocol, port)
    }
}

fn covers(rules: Option<&[Rule]>, peer: IpAddr, protocol: Protocol, port: u16) -> bool {
    let peer = peer.to_canonical();
    let Some(rules) = rules else { return true };
    rules
        .iter()
        .any(|rule| rule.has_port(protocol, port) && rule.peers.contain(peer))
}

impl Rule {
    fn has_port(&self, protocol: Protocol, port: u16) -> bool {
        let Some(ports) = &self.ports else {
            return true;
        };
        ports
            .iter()
            .any(|range| range.protocol == protocol && range.ports.contains(&port))
    }
}

impl Peers {
    fn contain(&self, ip: IpAddr) -> bool {
        match self {
            Self::Anybody => true,
            Self::These(set) => {
                set.pods.contains(&ip) || set.blocks.iter().any(|block| block.contains(ip))
            }
        }
    }
}

impl Block {
    fn contains(&self, ip: IpAddr) -> bool {
        self.range.contains(ip) && !self.except.iter().any(|hole| hole.contains(ip))
    }
}
