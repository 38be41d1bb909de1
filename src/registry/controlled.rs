//! Who controls what: the objects of a kind by the controller that they name.
//!
//! A controller's look shall cost its own children and not the namespace's. The index reads what
//! the store's log says since the last question, so an answer holds every write that was
//! acknowledged before it; a cursor that has fallen off the log's end is opened anew. It tells by
//! kind and name and not by uid, so that also the children of an owner that is gone are found.

mod groups;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use groups::Groups;

use crate::store::{Error, ListQuery, Store, Stored, Watch};

pub(super) use groups::Controller;

pub(super) struct Controlled {
    store: Store,
    /// By where the objects live; a kind is followed from the first question about it.
    kinds: Mutex<HashMap<&'static str, Kind>>,
}

struct Kind {
    watch: Watch,
    groups: Groups,
}

impl Controlled {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            kinds: Mutex::default(),
        }
    }

    /// The objects of a namespace that `controller` controls, or nobody, in the order of their names.
    pub(super) fn by(
        &self,
        storage: &'static str,
        namespace: &str,
        controller: Option<Controller<'_>>,
    ) -> Result<Vec<Arc<Stored>>, Error> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = kinds.remove(storage).and_then(|mut kind| {
            // An index of which the log has no more to tell begins anew.
            kind.follow().is_ok().then_some(kind)
        });
        let kind = match followed {
            Some(kind) => kind,
            None => self.open(storage)?,
        };
        let found = kind.groups.of(namespace, controller);
        kinds.insert(storage, kind);
        Ok(found)
    }

    fn open(&self, storage: &'static str) -> Result<Kind, Error> {
        let scan = self.store.scan(&ListQuery {
            resource: storage.to_owned(),
            ..ListQuery::default()
        })?;
        let watch = self.store.watch(storage, None, scan.revision())?;
        let mut groups = Groups::default();
        scan.for_each(|stored| groups.put(stored));
        Ok(Kind { watch, groups })
    }
}

impl Kind {
    fn follow(&mut self) -> Result<(), Error> {
        while let Some(change) = self.watch.try_next() {
            self.groups.apply(change?);
        }
        Ok(())
    }
}
