//! The registry: THE TABLE of kinds, and the typed and untyped verbs on it.
//!
//! It is the only door to the store: HTTP handlers, controllers and scheduler all come through
//! here, so nobody skips defaults, admission or validation. A kind is a row of the table with a
//! strategy; a verb is written once for all kinds and never names one.
//!
//! Order of a write: decode strictly → default → mutating admission → system metadata → validate
//! (all field errors at once) → validating admission → store. Every write of something that exists
//! names the revision it was computed from; whoever lost the race reads again, or is told so.
//!
//! Read in this order: `kinds` and `strategy` (what a kind is), `create`, `update`, `delete`,
//! `list`, `watch` (the verbs), `managed_fields` and `apply_verb` (who owns which field), `api` (the
//! same, typed), `admission`, `resources`.

mod admission;
mod api;
mod apply_verb;
mod binding;
mod bootstrap;
mod controlled;
mod create;
mod custom;
pub mod decode;
mod delete;
mod error;
mod evict;
mod field_error;
mod filter;
#[cfg(test)]
mod fixture;
mod kinds;
mod list;
mod managed_fields;
mod merge_keys;
mod meta;
mod options;
mod patch;
mod patch_verb;
pub(crate) mod path;
mod quota;
pub(crate) mod rbac;
mod resources;
mod scale;
pub mod schemas;
pub mod strategy;
mod update;
pub mod usage;
mod watch;

use std::sync::Arc;

use serde_json::Value;

pub use api::{Api, ApiKind, TypedEvent, TypedStream};
pub use bootstrap::SYSTEM_NAMESPACES;
pub use create::check_namespace;
pub use custom::rows::priority as version_priority;
pub use error::Error;
pub use field_error::{Errors, FieldError};
#[cfg(test)]
pub(crate) use fixture::Fixture;
pub use kinds::{ResourceInfo, SubresourceInfo};
pub use managed_fields::FieldConflict;
pub use options::{
    Caller, DeleteOptions, Deleted, FieldValidation, List, ListOptions, Propagation, WatchOptions,
    WriteOptions, Written,
};
pub use patch::Patch;
pub use watch::{Event, EventStream};

use crate::clock::Clock;
use crate::store::{ObjectKey, Store, Stored};

#[derive(Clone, Debug)]
pub struct Config {
    pub service_cidr: String,
    pub node_port_range: (u16, u16),
    /// How long a pod that says nothing about it stays on a node that is not ready or unreachable
    /// (Kubernetes' `--default-not-ready-toleration-seconds`); `dev` sets 0.
    pub default_toleration_seconds: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_cidr: "10.43.0.0/16".to_owned(),
            node_port_range: (30_000, 32_767),
            default_toleration_seconds: 300,
        }
    }
}

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    config: Config,
    addresses: Arc<admission::service_addresses::Addresses>,
    custom: custom::rows::Rows,
    usage: usage::Usage,
    rbac: rbac::Rbac,
    quotas: Arc<quota::Quotas>,
    controlled: controlled::Controlled,
}

impl Registry {
    pub fn new(store: Store, clock: Clock, config: Config) -> Self {
        let addresses = Arc::new(admission::service_addresses::Addresses::new(
            store.clone(),
            clock.clone(),
            &config,
        ));
        Self {
            shared: Arc::new(Shared {
                rbac: rbac::Rbac::new(store.clone()),
                quotas: Arc::new(quota::Quotas::new(store.clone(), clock.clone())),
                controlled: controlled::Controlled::new(store.clone()),
                store,
                clock,
                config,
                addresses,
                custom: custom::rows::Rows::default(),
                usage: usage::Usage::default(),
            }),
        }
    }

    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// What nodes and pods use, as far as their workers have said.
    pub fn usage(&self) -> &usage::Usage {
        &self.shared.usage
    }

    fn config(&self) -> &Config {
        &self.shared.config
    }

    /// All rows: those of the table, then those of custom kinds.
    pub fn resources(&self) -> Vec<&'static ResourceInfo> {
        let custom = self.shared.custom.all(self.store());
        kinds::TABLE.iter().chain(custom).collect()
    }

    /// One row for each kind that is stored, whatever versions and groups show it.
    pub fn stored_kinds(&self) -> Vec<&'static ResourceInfo> {
        let mut seen = std::collections::HashSet::new();
        let mut rows = self.resources();
        rows.retain(|row| seen.insert(row.storage));
        rows
    }

    /// A row by where its objects are stored.
    pub fn find_stored(&self, storage: &str) -> Option<&'static ResourceInfo> {
        let mut rows = kinds::TABLE.iter();
        rows.find(|row| row.storage == storage)
            .or_else(|| self.shared.custom.find_stored(self.store(), storage))
    }

    /// All definitions of custom resources, as they are stored.
    pub fn definitions(&self) -> Vec<Arc<Stored>> {
        custom::rows::definitions(self.store()).collect()
    }

    /// A row of a definition, also if none of its versions is served: to remove its objects.
    pub fn any_row(&self, definition: &str) -> Option<&'static ResourceInfo> {
        self.shared.custom.any(self.store(), definition)
    }

    /// A number that changes when a kind comes, goes or changes.
    pub fn kinds_version(&self) -> u64 {
        custom::rows::state(self.store())
    }

    /// The row by its place in a URL.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&'static ResourceInfo> {
        kinds::TABLE
            .iter()
            .find(|row| (row.group, row.version, row.plural) == (group, version, plural))
            .or_else(|| {
                self.shared
                    .custom
                    .find(self.store(), group, version, plural)
            })
    }

    /// The row by what an object says of itself.
    pub fn find_kind(&self, api_version: &str, kind: &str) -> Option<&'static ResourceInfo> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let is_it =
            |row: &&ResourceInfo| (row.group, row.version, row.kind) == (group, version, kind);
        kinds::TABLE.iter().find(is_it).or_else(|| {
            let rows = self.shared.custom.all(self.store());
            rows.into_iter().find(|row| is_it(row))
        })
    }

    pub fn get(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        name: &str,
    ) -> Result<Arc<Stored>, Error> {
        present(res, self.stored(res, ns, name)?)
    }

    /// One table row's cells, in the order of `columns`, of an object as this row shows it.
    pub fn cells(&self, res: &'static ResourceInfo, object: &Stored) -> Vec<Value> {
        match shown(res, object) {
            Some(draft) => draft.cells(self.clock().now()),
            // An object that cannot be read is shown by its name rather than hidden.
            None => res
                .columns
                .iter()
                .map(|column| match column.name {
                    "Name" => Value::from(&*object.key.name),
                    _ => "<unreadable>".into(),
                })
                .collect(),
        }
    }

    /// The object as it is stored.
    fn stored(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        name: &str,
    ) -> Result<Arc<Stored>, Error> {
        self.store()
            .get(&key(res, ns, name))
            .ok_or_else(|| Error::not_found(res, name))
    }
}

/// Where an object of this row lives.
fn key(res: &ResourceInfo, ns: Option<&str>, name: &str) -> ObjectKey {
    let ns = ns.filter(|_| res.namespaced).unwrap_or_default();
    ObjectKey::new(res.storage, ns, name)
}

/// The stored object in its Rust type.
fn typed(res: &'static ResourceInfo, stored: &Stored) -> Result<Arc<dyn strategy::Draft>, Error> {
    let typed = match res.custom {
        Some(custom) => custom::object::typed(custom, stored),
        None => (res.hooks.typed)(stored),
    };
    typed.map_err(|source| Error::corrupt(res, &stored.key.name, source))
}

/// An object in the form that this row shows, in its Rust type.
fn shown(res: &'static ResourceInfo, object: &Stored) -> Option<Arc<dyn strategy::Draft>> {
    match res.hooks.present {
        Some(_) => Some((res.hooks.decode)(&object.object).ok()?.0.into()),
        None => typed(res, object).ok(),
    }
}

/// The stored object in the form that this row shows.
fn present(res: &'static ResourceInfo, stored: Arc<Stored>) -> Result<Arc<Stored>, Error> {
    let object = match (res.custom, res.hooks.present) {
        (Some(custom), _) => match custom::object::shown(custom, &stored.object) {
            Some(object) => object,
            None => return Ok(stored),
        },
        (None, Some(present)) => present(&stored.object)
            .map_err(|source| Error::corrupt(res, &stored.key.name, source))?,
        (None, None) => return Ok(stored),
    };
    Ok(Arc::new(Stored::new(
        stored.key.clone(),
        stored.revision,
        object,
    )))
}
