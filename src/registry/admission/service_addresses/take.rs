//! One Service taking its addresses: those it asks for by number, else free ones.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::ServiceSpec;

use super::super::super::error::Error;
use super::super::super::field_error::Errors;
use super::super::super::path::Path;
use super::super::super::resources::service::Type;
use super::{Addresses, Cidr, Holder, Table, cluster_ip, node_ports};
use crate::ids;
use crate::store::ObjectKey;

/// The lower addresses of the range are left for those who ask for one by number.
const STATIC_BAND: u32 = 256;
const RANDOM_TRIES: usize = 64;

/// What a Service took that was not its own already.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) ips: Vec<Ipv4Addr>,
    pub(super) ports: Vec<u16>,
}

/// Completes the spec of the Service `key`. With errors, nothing stays taken.
pub(super) fn take(
    addresses: &Addresses,
    table: &mut Table,
    key: &ObjectKey,
    spec: &mut ServiceSpec,
) -> Result<Result<Taken, Errors>, Error> {
    let mut take = Take {
        addresses,
        table,
        key,
        errors: Errors::default(),
        taken: Taken::default(),
    };
    take.cluster_ip(spec)?;
    take.node_ports(spec);
    if take.errors.0.is_empty() {
        return Ok(Ok(take.taken));
    }
    for ip in &take.taken.ips {
        take.table.ips.remove(ip);
    }
    for port in &take.taken.ports {
        take.table.ports.remove(port);
    }
    Ok(Err(take.errors))
}

struct Take<'a> {
    addresses: &'a Addresses,
    table: &'a mut Table,
    key: &'a ObjectKey,
    errors: Errors,
    taken: Taken,
}

/// Whether an address can be had.
enum Claim {
    Free,
    /// It is this Service's own already.
    Own,
    Taken,
}

impl Take<'_> {
    fn claim(&self, holder: Option<&Holder>, has: impl Fn(&ServiceSpec) -> bool) -> Claim {
        match holder {
            None => Claim::Free,
            Some(Holder::Write) => Claim::Taken,
            // The same Service may try again: only one of its writes can win.
            Some(Holder::Doubt(key, until))
                if key != self.key && self.addresses.clock.monotonic() < *until =>
            {
                Claim::Taken
            }
            Some(Holder::Service(key) | Holder::Doubt(key, _)) => {
                if !self.addresses.holds(key, has) {
                    Claim::Free
                } else if key == self.key {
                    Claim::Own
                } else {
                    Claim::Taken
                }
            }
        }
    }

    fn claim_ip(&self, ip: Ipv4Addr) -> Claim {
        let holder = self.table.ips.get(&ip);
        self.claim(holder, |spec| cluster_ip(spec) == Some(ip))
    }

    fn claim_port(&self, port: u16) -> Claim {
        let holder = self.table.ports.get(&port);
        self.claim(holder, |spec| node_ports(spec).any(|found| found == port))
    }

    fn cluster_ip(&mut self, spec: &mut ServiceSpec) -> Result<(), Error> {
        let wanted = spec.cluster_ip.clone().unwrap_or_default();
        if Type::of(spec) == Type::ExternalName {
            return Ok(());
        }
        if wanted == "None" {
            spec.cluster_ips = Some(vec![wanted]);
            return Ok(());
        }
        let cidr = self.addresses.cidr.clone().map_err(Error::BadRequest)?;
        let ip = if wanted.is_empty() {
            self.free_ip(cidr)
        } else {
            self.given_ip(cidr, &wanted)
        };
        if let Some(ip) = ip {
            spec.cluster_ip = Some(ip.to_string());
            spec.cluster_ips = Some(vec![ip.to_string()]);
        }
        Ok(())
    }

    fn given_ip(&mut self, cidr: Cidr, wanted: &str) -> Option<Ipv4Addr> {
        let spec = Path::Root.field("spec");
        let path = spec.field("clusterIPs");
        let Ok(ip) = wanted.parse::<Ipv4Addr>() else {
            let path = path.index(0);
            self.errors
                .invalid(&path, wanted, "must be a valid IP address, (e.g. 10.9.8.7)");
            return None;
        };
        let why = if cidr.contains(ip) {
            match self.claim_ip(ip) {
                Claim::Own => return Some(ip),
                Claim::Free => {
                    self.take_ip(ip);
                    return Some(ip);
                }
                Claim::Taken => "provided IP is already allocated".to_owned(),
            }
        } else {
            let bits = 32 - cidr.size.trailing_zeros();
            let range = format!("{}/{bits}", cidr.address(0));
            format!(
                "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
            )
        };
        let detail = format!("failed to allocate IP {ip}: {why}");
        self.errors.invalid_json(&path, &[wanted], &detail);
        None
    }

    fn free_ip(&mut self, cidr: Cidr) -> Option<Ipv4Addr> {
        let first = if cidr.size > 2 * STATIC_BAND {
            STATIC_BAND
        } else {
            2
        };
        let count = cidr.size - 1 - first;
        let random = (0..RANDOM_TRIES).map(|_| first + ids::index(count as usize) as u32);
        let found = random
            .chain(first..first + count)
            .map(|offset| cidr.address(offset))
            .find(|ip| matches!(self.claim_ip(*ip), Claim::Free));
        if let Some(ip) = found {
            self.take_ip(ip);
        } else {
            let spec = Path::Root.field("spec");
            self.errors.invalid(
                &spec.field("clusterIPs"),
                "",
                "failed to allocate a serviceIP: range is full",
            );
        }
        found
    }

    fn take_ip(&mut self, ip: Ipv4Addr) {
        self.table.ips.insert(ip, Holder::Write);
        self.taken.ips.push(ip);
    }

    fn node_ports(&mut self, spec: &mut ServiceSpec) {
        let skips_ports = spec.allocate_load_balancer_node_ports == Some(false);
        if !Type::of(spec).has_node_ports() {
            return;
        }
        for (index, port) in spec.ports.iter_mut().flatten().enumerate() {
            match port.node_port.filter(|port| *port != 0) {
                Some(wanted) => self.given_port(index, wanted),
                None if skips_ports => {}
                None => port.node_port = self.free_port(index).map(i32::from),
            }
        }
    }

    fn given_port(&mut self, index: usize, wanted: i32) {
        let (first, last) = self.addresses.ports;
        let number = u16::try_from(wanted)
            .ok()
            .filter(|port| (first..=last).contains(port));
        let Some(port) = number else {
            let detail = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            self.refuse_port(index, wanted, &detail);
            return;
        };
        // The same port may serve two protocols of one Service.
        if self.taken.ports.contains(&port) {
            return;
        }
        match self.claim_port(port) {
            Claim::Own => {}
            Claim::Free => self.take_port(port),
            Claim::Taken => self.refuse_port(index, wanted, "provided port is already allocated"),
        }
    }

    fn free_port(&mut self, index: usize) -> Option<u16> {
        let (first, last) = self.addresses.ports;
        let count = usize::from(last - first) + 1;
        let random = (0..RANDOM_TRIES).map(|_| first + ids::index(count) as u16);
        let found = random
            .chain(first..=last)
            .find(|port| matches!(self.claim_port(*port), Claim::Free));
        match found {
            Some(port) => self.take_port(port),
            None => self.refuse_port(index, 0, "failed to allocate a nodePort: range is full"),
        }
        found
    }

    fn take_port(&mut self, port: u16) {
        self.table.ports.insert(port, Holder::Write);
        self.taken.ports.push(port);
    }

    fn refuse_port(&mut self, index: usize, port: i32, detail: &str) {
        let spec = Path::Root.field("spec");
        let ports = spec.field("ports");
        self.errors
            .invalid(&ports.index(index).field("nodePort"), port, detail);
    }
}
