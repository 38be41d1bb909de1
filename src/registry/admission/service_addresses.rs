//! Gives Services their cluster IPs and node ports; no two Services have the same.
//!
//! The truth is in the store: who has an address is who has it written in its spec. This table
//! only remembers where to look, and which addresses belong to writes that are under way. So
//! nothing has to be released: an address whose Service has gone, or no longer has it, is found
//! to be free when it is next asked for. The table is read from the store at first use.
//!
//! A write whose end is unknown (its caller went away) leaves its addresses in doubt for a while.

mod take;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::super::Config;
use super::super::error::Error;
use super::super::kinds::{self, ResourceInfo};
use super::super::strategy::{self, Draft};
use crate::clock::Clock;
use crate::store::{ListQuery, ObjectKey, Store};

use take::Taken;

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
    taken: Taken,
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
        for ip in &self.taken.ips {
            set(&mut table.ips, *ip, holder);
        }
        for port in &self.taken.ports {
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
        match take::take(self, table, &key, spec)? {
            Ok(taken) => Ok(Reservation(Some(Reserved {
                addresses: Arc::clone(self),
                key,
                taken,
            }))),
            Err(errors) => Err(Error::invalid(res, &name, errors.0)),
        }
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
