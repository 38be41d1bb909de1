//! Pod addresses out of the node's `podCIDR`.
//!
//! Next-fit: the search goes on where it last ended, so that an address that was just freed comes
//! back as late as possible, after routers and peers have forgotten who had it. What is held is
//! persisted in the pods' checkpoints; there is no second book that could disagree.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not an IPv4 network of at most 2^24 addresses")]
    Cidr(String),
    #[error("all {0} addresses of the node's podCIDR are in use")]
    Exhausted(u32),
}

/// The addresses of one node.
#[derive(Debug)]
pub struct Addresses {
    first: u32,
    count: u32,
    next: u32,
    held: HashMap<u32, String>,
}

impl Addresses {
    /// All addresses of `cidr` but the network's own, the first (the node's) and the last.
    pub fn new(cidr: &str) -> Result<Self, Error> {
        let refuse = || Error::Cidr(cidr.to_owned());
        let (base, length) = cidr.split_once('/').ok_or_else(refuse)?;
        let base: Ipv4Addr = base.parse().map_err(|_| refuse())?;
        let length: u32 = length.parse().map_err(|_| refuse())?;
        if !(8..=29).contains(&length) {
            return Err(refuse());
        }
        let size = 1_u32 << (32 - length);
        let network = u32::from(base) & !(size - 1);
        Ok(Self {
            first: network + 2,
            count: size - 3,
            next: 0,
            held: HashMap::new(),
        })
    }

    /// Gives a pod back the address it had, if it is free and of this network.
    pub fn reserve(&mut self, ip: IpAddr, uid: &str) -> bool {
        let Some(offset) = self.offset(ip) else {
            return false;
        };
        let holder = self.held.entry(offset).or_insert_with(|| uid.to_owned());
        if holder != uid {
            return false;
        }
        self.next = self.next.max(offset + 1) % self.count;
        true
    }

    /// A free address for a pod.
    pub fn allocate(&mut self, uid: &str) -> Result<IpAddr, Error> {
        let candidates = (0..self.count).map(|step| (self.next + step) % self.count);
        let offset = candidates
            .into_iter()
            .find(|offset| !self.held.contains_key(offset))
            .ok_or(Error::Exhausted(self.count))?;
        self.held.insert(offset, uid.to_owned());
        self.next = (offset + 1) % self.count;
        Ok(IpAddr::V4(Ipv4Addr::from(self.first + offset)))
    }

    /// Takes an address back, if this pod holds it.
    pub fn release(&mut self, ip: IpAddr, uid: &str) {
        if let Some(offset) = self.offset(ip)
            && self.held.get(&offset).is_some_and(|holder| holder == uid)
        {
            self.held.remove(&offset);
        }
    }

    fn offset(&self, ip: IpAddr) -> Option<u32> {
        let IpAddr::V4(ip) = ip else { return None };
        let offset = u32::from(ip).checked_sub(self.first)?;
        (offset < self.count).then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_are_checked() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/7",
            "10.0.0.0/30",
            "fd00::/64",
            "x/24",
        ] {
            assert!(Addresses::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_freed_address_comes_back_last() {
        let mut addresses = Addresses::new("10.64.0.0/29").unwrap();
        let all: Vec<IpAddr> = (0..5)
            .map(|index| addresses.allocate(&index.to_string()).unwrap())
            .collect();
        assert_eq!(all[0].to_string(), "10.64.0.2");
        assert_eq!(all[4].to_string(), "10.64.0.6");
        assert_eq!(addresses.allocate("x"), Err(Error::Exhausted(5)));
        addresses.release(all[1], "0");
        assert!(addresses.allocate("x").is_err(), "not its holder");
        addresses.release(all[1], "1");
        addresses.release(all[0], "0");
        assert_eq!(addresses.allocate("x").unwrap(), all[0]);
        addresses.release(all[0], "x");
        assert_eq!(addresses.allocate("y").unwrap(), all[1]);
    }

    #[test]
    fn restored_pods_keep_their_address() {
        let mut addresses = Addresses::new("10.64.0.0/24").unwrap();
        let ip = "10.64.0.9".parse().unwrap();
        assert!(addresses.reserve(ip, "a"));
        assert!(addresses.reserve(ip, "a"));
        assert!(!addresses.reserve(ip, "b"));
        assert!(!addresses.reserve("10.65.0.9".parse().unwrap(), "a"));
        assert_eq!(addresses.allocate("c").unwrap().to_string(), "10.64.0.10");
    }

    proptest! {
        #[test]
        fn no_address_has_two_holders(steps in proptest::collection::vec((any::<bool>(), 0..20_usize), 0..200)) {
            let mut addresses = Addresses::new("10.64.0.0/28").unwrap();
            let mut held: Vec<(IpAddr, String)> = Vec::new();
            for (index, (is_allocation, at)) in steps.into_iter().enumerate() {
                if is_allocation {
                    if let Ok(ip) = addresses.allocate(&index.to_string()) {
                        prop_assert!(held.iter().all(|(other, _)| *other != ip));
                        held.push((ip, index.to_string()));
                    }
                } else if !held.is_empty() {
                    let (ip, uid) = held.remove(at % held.len());
                    addresses.release(ip, &uid);
                }
            }
        }
    }
}
