//! Gives every node a block of the pod network, `spec.podCIDR`, that no other node has.
//!
//! One worker, one node at a time, and the blocks in use are read live before each choice: two
//! nodes cannot get the same block. A block returns when its Node object is deleted. A node that
//! has a block keeps it, also one outside the configured network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::events::{Notice, Recorder};
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing};
use crate::registry::Api;

const COMPONENT: &str = "node-ipam-controller";

struct NodeIpam {
    blocks: Blocks,
    api: Api<Node>,
    recorder: Recorder,
}

pub(super) fn start(
    ctx: &Context,
    sources: &mut Sources,
) -> Result<(&'static str, Arc<Counters>), Error> {
    let (cidr, mask) = (&ctx.config.pod_cidr, ctx.config.node_cidr_mask);
    let blocks = Blocks::parse(cidr, mask).ok_or_else(|| Error::PodCidr {
        cidr: cidr.clone(),
        mask,
    })?;
    let this = Arc::new(NodeIpam {
        blocks,
        api: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
    });
    let controller = Controller::new("nodeipam", ctx).single();
    controller.root(&mut sources.nodes, this.api.clone());
    Ok(controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    }))
}

impl NodeIpam {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let node = self
            .api
            .try_get("", &key.name)
            .map_err(doing("get node", key.to_string()))?;
        let Some(node) = node.filter(|node| block_of(node).is_none()) else {
            return Ok(Outcome::Done);
        };
        let nodes = self.api.list(None).map_err(doing("list", "nodes"))?;
        let used = nodes.iter().filter_map(|node| block_of(node));
        let Some(block) = self.blocks.free(used) else {
            let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
            self.recorder
                .event(node.as_ref(), Notice::warning("CIDRNotAvailable", message));
            return Ok(Outcome::Done);
        };
        let mut updated = node.as_ref().clone();
        let spec = updated.spec.get_or_insert_default();
        spec.pod_cidr = Some(block.clone());
        spec.pod_cidrs = Some(vec![block]);
        let written = self.api.update("", &updated).await;
        written.map_err(doing("give a pod network to", key.to_string()))?;
        Ok(Outcome::Done)
    }
}

fn block_of(node: &Node) -> Option<&str> {
    let block = node.spec.as_ref()?.pod_cidr.as_deref();
    block.filter(|block| !block.is_empty())
}

/// A network cut into blocks of one size.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    base: u32,
    prefix: u8,
    mask: u8,
}

impl Blocks {
    fn parse(cidr: &str, mask: u8) -> Option<Self> {
        let (base, prefix) = network(cidr)?;
        (prefix <= mask && mask <= 30).then_some(Self { base, prefix, mask })
    }

    fn count(self) -> u32 {
        1 << u32::from(self.mask - self.prefix).min(31)
    }

    /// The lowest block that overlaps none of `used`.
    fn free<'a>(self, used: impl Iterator<Item = &'a str>) -> Option<String> {
        let size = 1_u64 << (32 - self.mask);
        let end = u64::from(self.base) + u64::from(self.count()) * size;
        let mut taken: BTreeSet<u32> = BTreeSet::new();
        for (base, prefix) in used.filter_map(network) {
            let from = u64::from(base).max(u64::from(self.base));
            let to = (u64::from(base) + (1_u64 << (32 - prefix))).min(end);
            let mut at = from;
            while at < to {
                let index = (at - u64::from(self.base)) / size;
                taken.insert(index as u32);
                at = u64::from(self.base) + (index + 1) * size;
            }
        }
        let index = (0..self.count()).find(|index| !taken.contains(index))?;
        let address = Ipv4Addr::from(self.base + index * (size as u32));
        Some(format!("{address}/{}", self.mask))
    }
}

fn network(cidr: &str) -> Option<(u32, u8)> {
    let (address, prefix) = cidr.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    if prefix == 0 || prefix > 32 {
        return None;
    }
    let mask = u32::MAX << (32 - prefix);
    Some((u32::from(address) & mask, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_block() {
        let blocks = Blocks::parse("10.64.0.0/10", 19).unwrap();
        let check = |used: &[&str]| blocks.free(used.iter().copied());
        assert_eq!(check(&[]).as_deref(), Some("10.64.0.0/19"));
        assert_eq!(
            check(&["10.64.0.0/19", "10.64.64.0/19"]).as_deref(),
            Some("10.64.32.0/19")
        );
        // Blocks of another size and from elsewhere.
        assert_eq!(
            check(&["10.64.0.0/18", "192.168.0.0/16", "nonsense"]).as_deref(),
            Some("10.64.64.0/19")
        );
        assert_eq!(check(&["10.64.10.0/24"]).as_deref(), Some("10.64.32.0/19"));
        assert_eq!(check(&["10.0.0.0/8"]), None);
    }

    #[test]
    fn every_block_is_given_once_and_then_none() {
        let blocks = Blocks::parse("10.64.0.0/10", 19).unwrap();
        let mut used: Vec<String> = Vec::new();
        while let Some(block) = blocks.free(used.iter().map(String::as_str)) {
            assert!(!used.contains(&block));
            used.push(block);
        }
        assert_eq!(used.len(), 512);
        assert_eq!(used.last().unwrap(), "10.127.224.0/19");
    }

    #[test]
    fn wrong_networks_are_refused() {
        for (cidr, mask) in [
            ("10.64.0.0", 19),
            ("10.64.0.0/10", 9),
            ("x/10", 19),
            ("10.0.0.0/33", 33),
            ("10.0.0.0/8", 31),
        ] {
            assert!(Blocks::parse(cidr, mask).is_none(), "{cidr} {mask}");
        }
    }
}
