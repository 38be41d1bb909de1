//! Which addresses of a pod are taken, by what, for one protocol.
//!
//! The rules are the kernel's: an address conflicts with itself and with the wildcard of its
//! family; 127.0.0.1 and the pod address may hold the same port side by side; IPv4 and IPv6 are
//! apart. A port handed out for port zero is free on every address. The search for it starts where
//! the last one ended and is bounded by the range, and in fact by the pod's limit of sockets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;

use super::error::Error;
use super::options::Family;
use super::owner::Registration;
use super::pod_net::PodNet;
use crate::ids;
use crate::runtime::spec::Protocol;

/// Linux' default `ip_local_port_range`.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;
const EPHEMERAL_COUNT: u16 = 60_999 - 32_768 + 1;

struct Binding<H> {
    id: u64,
    ip: IpAddr,
    holder: Option<H>,
}

/// The taken addresses; `H` is what stands behind one and is asked when something arrives.
pub(super) struct PortTable<H> {
    ports: HashMap<u16, Vec<Binding<H>>>,
    next_id: u64,
    cursor: Option<u16>,
}

impl<H> Default for PortTable<H> {
    fn default() -> Self {
        Self {
            ports: HashMap::new(),
            next_id: 0,
            cursor: None,
        }
    }
}

impl<H> PortTable<H> {
    /// Takes `wanted`, or a free port of its address for port zero. The address is held, and
    /// refuses what arrives until [`PortTable::set_holder`].
    pub(super) fn bind(&mut self, wanted: SocketAddr) -> Result<(SocketAddr, u64), Error> {
        let port = match wanted.port() {
            0 => self.ephemeral_port()?,
            port => port,
        };
        let bindings = self.ports.entry(port).or_default();
        if bindings.iter().any(|taken| conflict(taken.ip, wanted.ip())) {
            return Err(Error::AddressInUse);
        }
        let id = self.next_id;
        self.next_id += 1;
        bindings.push(Binding {
            id,
            ip: wanted.ip(),
            holder: None,
        });
        Ok((SocketAddr::new(wanted.ip(), port), id))
    }

    fn ephemeral_port(&mut self) -> Result<u16, Error> {
        let mut port = self
            .cursor
            .unwrap_or_else(|| EPHEMERAL.start() + ids::index(EPHEMERAL_COUNT.into()) as u16);
        for _ in 0..EPHEMERAL_COUNT {
            let next = if port == *EPHEMERAL.end() {
                *EPHEMERAL.start()
            } else {
                port + 1
            };
            self.cursor = Some(next);
            if !self.ports.contains_key(&port) {
                return Ok(port);
            }
            port = next;
        }
        Err(Error::AddressInUse)
    }

    /// Says what stands behind a taken address; `false` if it was released meanwhile.
    pub(super) fn set_holder(&mut self, port: u16, id: u64, holder: H) -> bool {
        let binding = self
            .ports
            .get_mut(&port)
            .and_then(|bindings| bindings.iter_mut().find(|binding| binding.id == id));
        match binding {
            Some(binding) => {
                binding.holder = Some(holder);
                true
            }
            None => false,
        }
    }

    /// Frees an address; gives what stood behind it, to be dropped outside the table's lock.
    pub(super) fn release(&mut self, port: u16, id: u64) -> Option<H> {
        let bindings = self.ports.get_mut(&port)?;
        let index = bindings.iter().position(|binding| binding.id == id)?;
        let binding = bindings.swap_remove(index);
        if bindings.is_empty() {
            self.ports.remove(&port);
        }
        binding.holder
    }

    /// What answers at `to`.
    pub(super) fn find(&self, to: SocketAddr) -> Option<&H> {
        self.ports
            .get(&to.port())?
            .iter()
            .find(|binding| covers(binding.ip, to.ip()))?
            .holder
            .as_ref()
    }

    /// Every address with something behind it, in order.
    pub(super) fn held(&self) -> Vec<SocketAddr> {
        let mut held: Vec<SocketAddr> = self
            .ports
            .iter()
            .flat_map(|(port, bindings)| bindings.iter().map(move |binding| (port, binding)))
            .filter(|(_, binding)| binding.holder.is_some())
            .map(|(port, binding)| SocketAddr::new(binding.ip, *port))
            .collect();
        held.sort_unstable();
        held
    }
}

fn conflict(taken: IpAddr, wanted: IpAddr) -> bool {
    Family::of(taken) == Family::of(wanted)
        && (taken == wanted || taken.is_unspecified() || wanted.is_unspecified())
}

fn covers(bound: IpAddr, to: IpAddr) -> bool {
    bound == to || (bound.is_unspecified() && Family::of(bound) == Family::of(to))
}

/// A taken address of a pod, freed on drop or when its owner ends, whichever comes first.
pub(super) struct PortLease {
    pub(super) net: Weak<PodNet>,
    pub(super) protocol: Protocol,
    pub(super) addr: SocketAddr,
    pub(super) id: u64,
    /// Held only to leave the owner's registry with the lease.
    pub(super) registration: Option<Registration>,
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.registration = None;
        if let Some(net) = self.net.upgrade() {
            net.release(self.protocol, self.addr, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn conflicts_are_those_of_the_kernel() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", true),
            ("127.0.0.1:80", "127.0.0.2:80", true),
            ("127.0.0.1:80", "10.64.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", false),
            ("0.0.0.0:80", "10.64.0.1:80", false),
            ("0.0.0.0:80", "0.0.0.0:80", false),
            ("0.0.0.0:80", "[::]:80", true),
            ("[::]:80", "[::1]:80", false),
            ("[::1]:80", "127.0.0.1:80", true),
        ];
        for (first, second, both) in cases {
            let mut table = PortTable::<()>::default();
            table.bind(addr(first)).unwrap();
            assert_eq!(table.bind(addr(second)).is_ok(), both, "{first} {second}");
        }
    }

    #[test]
    fn only_what_is_bound_there_answers() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "10.64.0.1:80", false),
            ("10.64.0.1:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "127.0.0.9:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::1]:80", true),
        ];
        for (bound, to, answers) in cases {
            let mut table = PortTable::default();
            let (at, id) = table.bind(addr(bound)).unwrap();
            assert!(table.find(addr(to)).is_none(), "held, but nothing behind");
            assert!(table.set_holder(at.port(), id, "listener"));
            assert_eq!(table.find(addr(to)).is_some(), answers, "{bound} {to}");
            assert_eq!(table.release(at.port(), id), Some("listener"));
            assert!(table.ports.is_empty());
            assert!(!table.set_holder(at.port(), id, "late"));
        }
    }

    #[test]
    fn ephemeral_ports_are_distinct_and_run_out() {
        let mut table = PortTable::<()>::default();
        let mut ports = Vec::new();
        for _ in 0..EPHEMERAL_COUNT {
            ports.push(table.bind(addr("127.0.0.1:0")).unwrap());
        }
        assert!(
            ports
                .iter()
                .all(|(addr, _)| EPHEMERAL.contains(&addr.port()))
        );
        assert_eq!(table.bind(addr("10.64.0.1:0")), Err(Error::AddressInUse));
        assert_eq!(table.bind(addr("0.0.0.0:0")), Err(Error::AddressInUse));
        let (freed, id) = ports[1234];
        table.release(freed.port(), id);
        assert_eq!(
            table.bind(addr("0.0.0.0:0")).unwrap().0.port(),
            freed.port()
        );
    }
}
