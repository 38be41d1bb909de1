//! Gives Services their cluster IPs and node ports; no two Services have the same.
//!
//! The truth is in the store: who has an address is who has it written in its spec. This table
//! only remembers where to look, and which addresses belong to writes that are under way. So
//! nothing has to be released: an address whose Service has gone, or no longer has it, is found
//! to be free when it is next asked for. The table is read from the store at first use.
//!
//! A write whose end is unknown (its caller went away) leaves its addresses in doubt for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::super::Config;
use super::super::error::Error;
use super::super::field_error::Errors;
use super::super::kinds::{self, ResourceInfo};
use super::super::path::Path;
use super::super::resources::service::Type;
use super::super::strategy::{self, Draft};
use crate::clock::Clock;
use crate::ids;
use crate::store::{ListQuery, ObjectKey, Store};

/// The lower addresses of the range are left for those who ask for one by number.
const STATIC_BAND: u32 = 256;
const RANDOM_TRIES: usize = 64;
/// How long a write may still happen after its caller went away.
const DOUBT: Duration = Duration::from_secs(10);

/// The table of addresses.
pub(crate) struct Addresses {
    store: Store,
    clock: Clock,
    cidr: Result<Cidr, String>,
    ports: (u16, u16),
    table: Mutex<Option<Table>>,
}

#[derive(Default)]
struct Table {
    ips: HashMap<Ipv4Addr, Holder>,
    ports: HashMap<u16, Holder>,
}

/// Who may have an address.
#[derive(Clone)]
enum Holder {
    /// This Service, if the store says so.
    Service(ObjectKey),
    /// A write that is under way.
    Write,
    /// A write of unknown end, until then; after that, this Service if the store says so.
    Doubt(ObjectKey, Instant),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Cidr {
    base: u32,
    size: u32,
}

impl Cidr {
    fn parse(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is not an IPv4 range such as 10.43.0.0/16");
        let (address, bits) = text.split_once('/').ok_or_else(refused)?;
        let address: Ipv4Addr = address.parse().map_err(|_| refused())?;
        let bits: u32 = bits.parse().map_err(|_| refused())?;
        if !(8..=30).contains(&bits) {
            return Err(refused());
        }
        let size = 1_u32 << (32 - bits);
        Ok(Self {
            base: u32::from(address) & !(size - 1),
            size,
        })
    }

    /// Network and broadcast addresses are nobody's.
    fn contains(self, ip: Ipv4Addr) -> bool {
        let ip = u32::from(ip);
        ip > self.base && ip < self.base + (self.size - 1)
    }

    fn address(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + offset)
    }
}

/// The address of the API server's own Service.
pub(crate) fn first_address(cidr: &str) -> Result<Ipv4Addr, Error> {
    let cidr = Cidr::parse(cidr).map_err(Error::BadRequest)?;
    Ok(cidr.address(1))
}

/// The addresses of a write that is under way. Settle it when the write has ended.
#[derive(Default)]
pub(crate) struct Reservation(Option<Reserved>);

struct Reserved {
    addresses: Arc<Addresses>,
    key: ObjectKey,
    ips: Vec<Ipv4Addr>,
    ports: Vec<u16>,
}

impl Reservation {
    /// Says how the write ended.
    pub(crate) fn settle(mut self, is_written: bool) {
        if let Some(reserved) = self.0.take() {
            let holder = is_written.then(|| Holder::Service(reserved.key.clone()));
            reserved.settle(holder.as_ref());
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(reserved) = self.0.take() {
            let until = reserved.addresses.clock.monotonic() + DOUBT;
            reserved.settle(Some(&Holder::Doubt(reserved.key.clone(), until)));
        }
    }
}

impl Reserved {
    fn settle(&self, holder: Option<&Holder>) {
        let mut guard = self.addresses.lock();
        let table = guard.get_or_insert_default();
        for ip in &self.ips {
            set(&mut table.ips, *ip, holder);
        }
        for port in &self.ports {
            set(&mut table.ports, *port, holder);
        }
    }
}

fn set<A: Eq + Hash>(table: &mut HashMap<A, Holder>, address: A, holder: Option<&Holder>) {
    match holder {
        Some(holder) => table.insert(address, holder.clone()),
        None => table.remove(&address),
    };
}

impl Addresses {
    pub(crate) fn new(store: Store, clock: Clock, config: &Config) -> Self {
        Self {
            store,
            clock,
            cidr: Cidr::parse(&config.service_cidr),
            ports: config.node_port_range,
            table: Mutex::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Table>> {
        // A panic while the table was held leaves it whole: each change is one insertion.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes the spec of a Service; other kinds pass.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        res: &ResourceInfo,
        draft: &mut dyn Draft,
    ) -> Result<Reservation, Error> {
        let Some(service) = strategy::get_mut::<Service>(draft) else {
            return Ok(Reservation::default());
        };
        let name = service.metadata.name.clone().unwrap_or_default();
        let ns = service.metadata.namespace.clone().unwrap_or_default();
        let key = ObjectKey::new(res.storage, &ns, &name);
        let Some(spec) = &mut service.spec else {
            return Ok(Reservation::default());
        };
        let mut guard = self.lock();
        let table = match &mut *guard {
            Some(table) => table,
            empty => empty.insert(self.load()?),
        };
        let mut take = Take {
            addresses: self,
            table,
            key: &key,
            errors: Errors::default(),
            ips: Vec::new(),
            ports: Vec::new(),
        };
        take.cluster_ip(spec)?;
        take.node_ports(spec);
        let (ips, ports, errors) = (take.ips, take.ports, take.errors);
        if errors.0.is_empty() {
            return Ok(Reservation(Some(Reserved {
                addresses: Arc::clone(self),
                key,
                ips,
                ports,
            })));
        }
        for ip in ips {
            table.ips.remove(&ip);
        }
        for port in ports {
            table.ports.remove(&port);
        }
        Err(Error::invalid(res, &name, errors.0))
    }

    /// Who has which address, from the specs of all Services.
    fn load(&self) -> Result<Table, Error> {
        let res = kinds::row_of::<Service>();
        let query = ListQuery {
            resource: res.storage.to_owned(),
            ..ListQuery::default()
        };
        let mut table = Table::default();
        let services = self
            .store
            .scan(&query)
            .map_err(|error| Error::from_store(res, "", error))?;
        for stored in services {
            let service = stored
                .typed::<Service>()
                .map_err(|source| Error::corrupt(res, &stored.key.name, source))?;
            let holder = Holder::Service(stored.key.clone());
            let Some(spec) = &service.spec else { continue };
            if let Some(ip) = cluster_ip(spec) {
                table.ips.insert(ip, holder.clone());
            }
            for port in node_ports(spec) {
                table.ports.insert(port, holder.clone());
            }
        }
        Ok(table)
    }

    /// Whether the store says that this Service's spec satisfies `has`.
    fn holds(&self, key: &ObjectKey, has: impl Fn(&ServiceSpec) -> bool) -> bool {
        let Some(stored) = self.store.get(key) else {
            return false;
        };
        match stored.typed::<Service>() {
            Ok(service) => service.spec.as_ref().is_some_and(has),
            // Unreadable is not free.
            Err(_) => true,
        }
    }
}

fn cluster_ip(spec: &ServiceSpec) -> Option<Ipv4Addr> {
    spec.cluster_ip.as_deref()?.parse().ok()
}

fn node_ports(spec: &ServiceSpec) -> impl Iterator<Item = u16> {
    let ports = spec.ports.iter().flatten();
    ports.filter_map(|port| {
        u16::try_from(port.node_port?)
            .ok()
            .filter(|port| *port != 0)
    })
}

/// One Service taking its addresses.
struct Take<'a> {
    addresses: &'a Addresses,
    table: &'a mut Table,
    key: &'a ObjectKey,
    errors: Errors,
    ips: Vec<Ipv4Addr>,
    ports: Vec<u16>,
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
            Some(Holder::Doubt(_, until)) if self.addresses.clock.monotonic() < *until => {
                Claim::Taken
            }
            Some(Holder::Service(key) | Holder::Doubt(key, _)) => {
                match self.addresses.holds(key, has) {
                    false => Claim::Free,
                    true if key == self.key => Claim::Own,
                    true => Claim::Taken,
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
        let why = if !cidr.contains(ip) {
            let bits = 32 - cidr.size.trailing_zeros();
            let range = format!("{}/{bits}", cidr.address(0));
            format!(
                "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
            )
        } else {
            match self.claim_ip(ip) {
                Claim::Own => return Some(ip),
                Claim::Free => {
                    self.take_ip(ip);
                    return Some(ip);
                }
                Claim::Taken => "provided IP is already allocated".to_owned(),
            }
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
        match found {
            Some(ip) => self.take_ip(ip),
            None => {
                let spec = Path::Root.field("spec");
                self.errors.invalid(
                    &spec.field("clusterIPs"),
                    "",
                    "failed to allocate a serviceIP: range is full",
                );
            }
        }
        found
    }

    fn take_ip(&mut self, ip: Ipv4Addr) {
        self.table.ips.insert(ip, Holder::Write);
        self.ips.push(ip);
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
        if self.ports.contains(&port) {
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
        self.ports.push(port);
    }

    fn refuse_port(&mut self, index: usize, port: i32, detail: &str) {
        let spec = Path::Root.field("spec");
        let ports = spec.field("ports");
        self.errors
            .invalid(&ports.index(index).field("nodePort"), port, detail);
    }
}
