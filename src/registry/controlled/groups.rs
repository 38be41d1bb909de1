//! The objects of one kind in groups: those of a namespace that name the same controller.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::api::object;
use crate::store::{Change, ChangeKind, Stored};

/// Kind and name.
pub(in crate::registry) type Controller<'a> = (&'a str, &'a str);

/// By namespace, kind and name of the controller; both are empty for an orphan.
type Group = (Box<str>, Box<str>, Box<str>);

#[derive(Default)]
pub(super) struct Groups(HashMap<Group, BTreeMap<Box<str>, Arc<Stored>>>);

impl Groups {
    pub(super) fn of(
        &self,
        namespace: &str,
        controller: Option<Controller<'_>>,
    ) -> Vec<Arc<Stored>> {
        let members = self.0.get(&group(namespace, controller));
        members.map_or(Vec::new(), |members| members.values().cloned().collect())
    }

    pub(super) fn apply(&mut self, change: Change) {
        if let Some(previous) = &change.previous {
            self.remove(previous);
        }
        match change.kind {
            ChangeKind::Created | ChangeKind::Updated => self.put(change.object),
            ChangeKind::Deleted => self.remove(&change.object),
        }
    }

    pub(super) fn put(&mut self, stored: Arc<Stored>) {
        let members = self.0.entry(group_of(&stored)).or_default();
        members.insert((*stored.key.name).into(), stored);
    }

    fn remove(&mut self, stored: &Stored) {
        let group = group_of(stored);
        if let Some(members) = self.0.get_mut(&group) {
            members.remove(&*stored.key.name);
            if members.is_empty() {
                self.0.remove(&group);
            }
        }
    }
}

fn group(namespace: &str, controller: Option<Controller<'_>>) -> Group {
    let (kind, name) = controller.unwrap_or_default();
    (namespace.into(), kind.into(), name.into())
}

fn group_of(stored: &Stored) -> Group {
    group(&stored.key.namespace, controller(&stored.object))
}

/// What the object names as its controller.
fn controller(stored: &Value) -> Option<Controller<'_>> {
    let references = object::metadata(stored)?
        .get("ownerReferences")?
        .as_array()?;
    let is_controller = |it: &&Value| it["controller"] == true;
    let reference = references.iter().find(is_controller)?;
    let word = |field: &str| reference[field].as_str().unwrap_or_default();
    Some((word("kind"), word("name")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ObjectKey, Revision};
    use proptest::prelude::*;
    use serde_json::json;

    const KINDS: [&str; 2] = ["Job", "ReplicaSet"];
    const OWNERS: [&str; 3] = ["a", "b", "c"];

    /// A step: which object, and the owner that it then has; none at all deletes it.
    type Step = (u8, Option<Option<(usize, usize)>>);

    fn pod(number: u8, revision: u64, owner: Option<(usize, usize)>) -> Arc<Stored> {
        let namespace = if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        };
        let key = ObjectKey::new("pods", namespace, &format!("p{number}"));
        let owner = owner.map(|(kind, name)| {
            json!([{"kind": "Node", "name": "a", "uid": "x"},
                {"kind": KINDS[kind], "name": OWNERS[name], "uid": "u", "controller": true}])
        });
        let object = json!({"metadata": {"name": &*key.name, "ownerReferences": owner}});
        Arc::new(Stored::new(key, Revision(revision), object))
    }

    fn change(
        revision: u64,
        previous: Option<&Arc<Stored>>,
        (number, step): Step,
    ) -> Option<Change> {
        let (kind, object) = match (previous, step) {
            (None, None) => return None,
            (None, Some(owner)) => (ChangeKind::Created, pod(number, revision, owner)),
            (Some(_), Some(owner)) => (ChangeKind::Updated, pod(number, revision, owner)),
            (Some(previous), None) => (ChangeKind::Deleted, Arc::clone(previous)),
        };
        Some(Change {
            revision: Revision(revision),
            kind,
            object,
            previous: previous.cloned(),
        })
    }

    proptest! {
        #[test]
        fn the_index_is_a_filter_of_the_whole_list(
            steps in proptest::collection::vec(
                (0..8_u8, proptest::option::of(proptest::option::of((0..2_usize, 0..3_usize)))), 0..60),
        ) {
            let mut groups = Groups::default();
            let mut all: BTreeMap<u8, Arc<Stored>> = BTreeMap::new();
            for (revision, step) in (1..).zip(steps) {
                let Some(change) = change(revision, all.get(&step.0), step) else { continue };
                match change.kind {
                    ChangeKind::Deleted => all.remove(&step.0),
                    _ => all.insert(step.0, Arc::clone(&change.object)),
                };
                groups.apply(change);
            }
            let owned = KINDS.iter().flat_map(|kind| OWNERS.iter().map(move |name| Some((*kind, *name))));
            for owner in owned.chain([None]) {
                for namespace in ["even", "odd"] {
                    let is_it = |it: &&Arc<Stored>| {
                        &*it.key.namespace == namespace && controller(&it.object) == owner
                    };
                    let expected: Vec<u64> = all.values().filter(is_it).map(|it| it.revision.0).collect();
                    let found = groups.of(namespace, owner);
                    let found: Vec<u64> = found.iter().map(|it| it.revision.0).collect();
                    prop_assert_eq!(found, expected);
                }
            }
            // What is empty is forgotten.
            prop_assert!(groups.0.values().all(|members| !members.is_empty()));
        }
    }
}
