//! Quotas: how much of what a namespace may hold, kept under any number of writes at once.
//!
//! The truth is in the store. For a namespace that has a quota, [`ledger`] keeps what each of its
//! objects counts for, fed from the store's log whenever somebody asks, and beside it the writes that
//! are under way. A write is charged under one lock before it is sent, so two that would only fit one
//! at a time never both pass; it stays charged until the store's log shows it, it fails, or its end
//! is unknown for a while. Namespaces without a quota cost one comparison.
//!
//! [`usage`] says what an object counts for, [`spec`] what a quota asks to be counted.
//! What a quota's status says is written by a controller, which reads this ledger too.

mod ledger;
pub(super) mod spec;
pub(super) mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Registry;
use super::admission::limit_range::is_binary;
use super::error::Error;
use super::kinds::ResourceInfo;
use super::strategy::Draft;
use crate::api::quantity;
use crate::clock::Clock;
use crate::store::{ObjectKey, Store};
use ledger::{Ledger, Pending};
use usage::{Amounts, Usage};

/// The ledger of every namespace that has a quota.
pub(crate) struct Quotas {
    clock: Clock,
    ledger: Mutex<Ledger>,
}

/// A charged write. Settle it when the write has ended.
#[derive(Default)]
pub(crate) struct Charge(Option<(Arc<Quotas>, u64)>);

impl Charge {
    /// The write has ended: in the store, where it is counted from now on, or not at all.
    pub(super) fn settle(mut self) {
        if let Some((quotas, id)) = self.0.take() {
            quotas.lock().settle(id);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some((quotas, id)) = self.0.take() {
            let now = quotas.clock.monotonic();
            quotas.lock().doubt(id, now);
        }
    }
}

impl Quotas {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        Self {
            clock,
            ledger: Mutex::new(Ledger::new(store)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // A panic in between leaves at most a write charged that is none; it is doubted away.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Charges what a write adds, or says which quota it would exceed.
    pub(super) fn charge(
        self: &Arc<Self>,
        res: &ResourceInfo,
        draft: &dyn Draft,
        old: Option<&dyn Draft>,
    ) -> Result<Charge, Error> {
        let meta = draft.meta();
        let ns = meta.namespace.as_deref().unwrap_or_default();
        if !res.namespaced || ns.is_empty() {
            return Ok(Charge::default());
        }
        let mut ledger = self.lock();
        let name = meta.name.as_deref().unwrap_or_default();
        let refused = |message: String| Error::forbidden(res, name, message);
        let quotas = ledger
            .quotas(ns)
            .map_err(|error| Error::from_store(res, name, error))?;
        if quotas.is_empty() {
            return Ok(Charge::default());
        }
        let mut added = usage::of(res, draft);
        if let Some(old) = old {
            added.subtract(&usage::of(res, old));
        }
        if added.amounts.is_empty() {
            return Ok(Charge::default());
        }
        ledger
            .follow(ns, res.storage, self.clock.monotonic())
            .map_err(|error| Error::from_store(res, name, error))?;
        for quota in quotas {
            judge(&ledger, (ns, res.storage), &quota, (draft, old), &added).map_err(refused)?;
        }
        let key = ObjectKey::new(res.storage, ns, name);
        let is_new = old.is_none();
        let id = ledger.charge(Pending::new(key, is_new, added));
        Ok(Charge(Some((Arc::clone(self), id))))
    }

    /// What a quota's objects come to now, for each resource that it bounds.
    fn used(&self, ns: &str, quota: &ResourceQuota) -> Result<Amounts, crate::store::Error> {
        let mut ledger = self.lock();
        let now = self.clock.monotonic();
        let mut used = Amounts::new();
        for name in spec::hard(quota).keys() {
            let storage = usage::storage_of(name, |definition| ledger.is_defined(definition));
            let Some(storage) = storage else {
                used.insert(name.clone(), 0);
                continue;
            };
            ledger.follow(ns, storage, now)?;
            used.insert(name.clone(), ledger.stored((ns, storage), quota, name));
        }
        Ok(used)
    }
}

/// Kubernetes' check of one quota, and its words.
fn judge(
    ledger: &Ledger,
    (ns, storage): (&str, &str),
    quota: &ResourceQuota,
    (draft, old): (&dyn Draft, Option<&dyn Draft>),
    added: &Usage,
) -> Result<(), String> {
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    if !spec::matches(quota, &added.traits) {
        return Ok(());
    }
    let hard = spec::hard(quota);
    if old.is_none()
        && let Some(missing) = usage::missing(draft, &hard)
    {
        return Err(format!("failed quota: {name}: must specify {missing}"));
    }
    let (mut requested, mut used, mut limited) = (Amounts::new(), Amounts::new(), Amounts::new());
    for (resource, most) in &hard {
        let Some(more) = added.amounts.get(resource).filter(|more| **more > 0) else {
            continue;
        };
        let there = ledger.total((ns, storage), quota, resource);
        if there + more > *most {
            requested.insert(resource.clone(), *more);
            used.insert(resource.clone(), there);
            limited.insert(resource.clone(), *most);
        }
    }
    if requested.is_empty() {
        return Ok(());
    }
    Err(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        told(&requested),
        told(&used),
        told(&limited)
    ))
}

/// `cpu=1,pods=2`
fn told(amounts: &Amounts) -> String {
    let one = |(name, nano): (&String, &i128)| {
        format!("{name}={}", quantity::canonical(*nano, is_binary(name)).0)
    };
    amounts.iter().map(one).collect::<Vec<_>>().join(",")
}

impl Registry {
    /// What a quota's objects come to now: its `status.used`.
    pub(crate) fn quota_used(
        &self,
        ns: &str,
        quota: &ResourceQuota,
    ) -> Result<BTreeMap<String, Quantity>, Error> {
        let used = self.shared.quotas.used(ns, quota).map_err(Error::Store)?;
        let shown = |(name, nano): (String, i128)| {
            let is_binary = is_binary(&name);
            (name, quantity::canonical(nano, is_binary))
        };
        Ok(used.into_iter().map(shown).collect())
    }
}
