//! The book of what namespaces with quotas hold, and of the writes that are under way.
//!
//! Kept by the namespace and the kind, and opened when somebody first asks: from then on each entry
//! follows the store's log. A namespace whose last quota has gone is forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ResourceQuota;

use super::super::custom::DEFINITIONS;
use super::super::kinds;
use super::usage::{self, Traits, Usage};
use super::{Amounts, spec};
use crate::store::{ChangeKind, Error, ListQuery, ObjectKey, Store, Stored, Watch};

const QUOTAS: &str = "resourcequotas";
/// How long a write may still happen after its caller went away.
const DOUBT: Duration = Duration::from_secs(10);

/// A write that is charged and not yet seen in the store.
pub(super) struct Pending {
    key: ObjectKey,
    is_new: bool,
    usage: Usage,
    /// Its end is unknown; after that it has not happened.
    until: Option<Instant>,
}

impl Pending {
    pub(super) fn new(key: ObjectKey, is_new: bool, usage: Usage) -> Self {
        Self {
            key,
            is_new,
            usage,
            until: None,
        }
    }
}

pub(super) struct Ledger {
    store: Store,
    /// The quotas of the namespaces that have some.
    quotas: HashMap<Box<str>, HashMap<Box<str>, Arc<ResourceQuota>>>,
    feed: Option<Watch>,
    books: HashMap<Box<str>, HashMap<Box<str>, Book>>,
    pending: HashMap<u64, Pending>,
    next: u64,
}

/// The objects of one kind in one namespace.
struct Book {
    watch: Watch,
    objects: HashMap<Box<str>, Usage>,
    /// Their sums, by what scopes tell apart.
    totals: HashMap<Traits, Amounts>,
}

impl Ledger {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            quotas: HashMap::new(),
            feed: None,
            books: HashMap::new(),
            pending: HashMap::new(),
            next: 0,
        }
    }

    /// The quotas of a namespace as they are now.
    pub(super) fn quotas(&mut self, ns: &str) -> Result<Vec<Arc<ResourceQuota>>, Error> {
        if self.drain_quotas().is_err() {
            self.feed = None;
            self.drain_quotas()?;
        }
        let quotas = self.quotas.get(ns);
        Ok(quotas.map_or(Vec::new(), |all| all.values().cloned().collect()))
    }

    fn drain_quotas(&mut self) -> Result<(), Error> {
        let mut feed = if let Some(feed) = self.feed.take() {
            feed
        } else {
            self.quotas.clear();
            let scan = self.store.scan(&ListQuery {
                resource: QUOTAS.to_owned(),
                ..ListQuery::default()
            })?;
            let feed = self.store.watch(QUOTAS, None, scan.revision())?;
            scan.for_each(|stored| self.put_quota(&stored));
            feed
        };
        while let Some(change) = feed.try_next() {
            let change = change?;
            match change.kind {
                ChangeKind::Created | ChangeKind::Updated => self.put_quota(&change.object),
                ChangeKind::Deleted => self.remove_quota(&change.object.key),
            }
        }
        self.feed = Some(feed);
        Ok(())
    }

    fn put_quota(&mut self, stored: &Stored) {
        match stored.typed::<ResourceQuota>() {
            Ok(quota) => {
                let ns = self
                    .quotas
                    .entry((&*stored.key.namespace).into())
                    .or_default();
                ns.insert((&*stored.key.name).into(), quota);
            }
            // What was known of it stays: an unreadable bound must not become none.
            Err(error) => tracing::error!(name = %stored.key.name, %error, "read a quota"),
        }
    }

    fn remove_quota(&mut self, key: &ObjectKey) {
        let Some(quotas) = self.quotas.get_mut(&*key.namespace) else {
            return;
        };
        quotas.remove(&*key.name);
        if quotas.is_empty() {
            self.quotas.remove(&*key.namespace);
            self.books.remove(&*key.namespace);
        }
    }

    /// Brings the book of a kind up to date, and drops the writes of unknown end that are overdue.
    pub(super) fn follow(&mut self, ns: &str, storage: &str, now: Instant) -> Result<(), Error> {
        self.pending
            .retain(|_, pending| pending.until.is_none_or(|until| now < until));
        let books = self.books.entry(ns.into()).or_default();
        if let Some(book) = books.get_mut(storage) {
            if book.drain(storage).is_ok() {
                return Ok(());
            }
            books.remove(storage);
        }
        let book = Book::open(&self.store, ns, storage)?;
        books.insert(storage.into(), book);
        Ok(())
    }

    pub(super) fn charge(&mut self, pending: Pending) -> u64 {
        self.next += 1;
        self.pending.insert(self.next, pending);
        self.next
    }

    pub(super) fn settle(&mut self, id: u64) {
        self.pending.remove(&id);
    }

    pub(super) fn doubt(&mut self, id: u64, now: Instant) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.until = Some(now + DOUBT);
        }
    }

    /// Whether a custom kind of this name is defined.
    pub(super) fn is_defined(&self, name: &str) -> bool {
        let key = ObjectKey::new(DEFINITIONS, "", name);
        self.store.get(&key).is_some()
    }

    fn book(&self, (ns, storage): (&str, &str)) -> Option<&Book> {
        self.books.get(ns)?.get(storage)
    }

    /// What the store's objects in the quota's scopes come to.
    pub(super) fn stored(&self, at: (&str, &str), quota: &ResourceQuota, name: &str) -> i128 {
        let totals = self.book(at).into_iter().flat_map(|book| &book.totals);
        totals
            .filter(|(traits, _)| spec::matches(quota, traits))
            .filter_map(|(_, amounts)| amounts.get(name))
            .sum()
    }

    /// The same with the writes under way.
    pub(super) fn total(&self, at: (&str, &str), quota: &ResourceQuota, name: &str) -> i128 {
        let (ns, storage) = at;
        let book = self.book(at);
        let is_seen = |pending: &Pending| {
            pending.is_new && book.is_some_and(|book| book.objects.contains_key(&*pending.key.name))
        };
        let pending: i128 = self
            .pending
            .values()
            .filter(|one| *one.key.namespace == *ns && *one.key.resource == *storage)
            .filter(|one| spec::matches(quota, &one.usage.traits) && !is_seen(one))
            .filter_map(|one| one.usage.amounts.get(name))
            .sum();
        self.stored(at, quota, name) + pending
    }
}

impl Book {
    fn open(store: &Store, ns: &str, storage: &str) -> Result<Self, Error> {
        let scan = store.scan(&ListQuery {
            resource: storage.to_owned(),
            namespace: Some(ns.to_owned()),
            ..ListQuery::default()
        })?;
        let mut book = Self {
            watch: store.watch(storage, Some(ns), scan.revision())?,
            objects: HashMap::new(),
            totals: HashMap::new(),
        };
        scan.for_each(|stored| book.put(storage, &stored));
        Ok(book)
    }

    fn drain(&mut self, storage: &str) -> Result<(), Error> {
        while let Some(change) = self.watch.try_next() {
            let change = change?;
            match change.kind {
                ChangeKind::Created | ChangeKind::Updated => self.put(storage, &change.object),
                ChangeKind::Deleted => self.remove(&change.object.key.name),
            }
        }
        Ok(())
    }

    fn put(&mut self, storage: &str, stored: &Stored) {
        let row = kinds::TABLE.iter().find(|row| row.storage == storage);
        let usage = match row {
            Some(row) => (row.hooks.typed)(stored).map(|draft| usage::of(row, draft.as_ref())),
            None => Ok(usage::of_custom(storage)),
        };
        match usage {
            Ok(usage) => {
                if self.objects.get(&*stored.key.name) == Some(&usage) {
                    return;
                }
                self.remove(&stored.key.name);
                let totals = self.totals.entry(usage.traits.clone()).or_default();
                for (name, nano) in &usage.amounts {
                    *totals.entry(name.clone()).or_default() += nano;
                }
                self.objects.insert((&*stored.key.name).into(), usage);
            }
            // It still counts for what it was known to be.
            Err(error) => tracing::error!(name = %stored.key.name, %error, "count an object"),
        }
    }

    fn remove(&mut self, name: &str) {
        let Some(usage) = self.objects.remove(name) else {
            return;
        };
        if let Some(totals) = self.totals.get_mut(&usage.traits) {
            for (name, nano) in &usage.amounts {
                *totals.entry(name.clone()).or_default() -= nano;
            }
            totals.retain(|_, nano| *nano != 0);
            if totals.is_empty() {
                self.totals.remove(&usage.traits);
            }
        }
    }
}
