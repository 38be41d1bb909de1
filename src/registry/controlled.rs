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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, json};

    use super::super::{Api, Caller, Fixture};

    /// As many changes as the log of the fixture does not hold.
    const MANY: usize = 2000;

    #[tokio::test]
    async fn an_answer_holds_what_was_written_before_it_however_much_that_was() {
        let fixture = Fixture::new().await;
        let maps: Api<ConfigMap> = fixture.registry.api(Caller::system("test"));
        let map = |name: &str, owner: Value| -> ConfigMap {
            let meta = json!({"name": name, "ownerReferences": owner});
            serde_json::from_value(json!({"metadata": meta})).unwrap()
        };
        let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "u", "controller": true}]);
        let of_job = || maps.list_controlled("default", "Job", "a").unwrap().len();
        let mut orphan = maps
            .create("default", &map("free", json!([])))
            .await
            .unwrap();
        assert_eq!(
            (of_job(), maps.list_orphans("default").unwrap().len()),
            (0, 1)
        );
        for count in 0..MANY {
            let mut next = orphan.as_ref().clone();
            next.data = Some([("count".to_owned(), count.to_string())].into());
            orphan = maps.update("default", &next).await.unwrap();
        }
        maps.create("default", &map("mine", owner.clone()))
            .await
            .unwrap();
        assert_eq!(of_job(), 1);
        let found = maps.list_orphans("default").unwrap();
        assert_eq!(
            found[0].metadata.resource_version,
            orphan.metadata.resource_version
        );
        let mut adopted = orphan.as_ref().clone();
        adopted.metadata.owner_references = serde_json::from_value(owner).unwrap();
        maps.update("default", &adopted).await.unwrap();
        assert_eq!(
            (of_job(), maps.list_orphans("default").unwrap().len()),
            (2, 0)
        );
        fixture.stop().await;
    }
}
