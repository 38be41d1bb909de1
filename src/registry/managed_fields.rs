//! Who owns which field of an object: `metadata.managedFields`, as Kubernetes keeps it.
//!
//! Whoever writes a field owns it (operation `Update`) and takes it from others; whoever applies a
//! manifest owns what stands in it (`Apply`) together with others who apply the same values. The
//! entries are the memory of server-side apply: they say what to remove when a manifest no longer
//! holds a field, and whom a change would hurt.
//!
//! Objects that only the control plane's own components have made (replicas' pods, slices, leases,
//! events) carry no entries: nobody applies them, and at a hundred thousand pods the entries would
//! weigh more than the pods. As soon as somebody applies to one, what is there belongs to
//! `before-first-apply`, as it does in Kubernetes for objects older than its entries.
//!
//! Bounds: at most [`UPDATERS`] writers are told apart, the oldest are put together; appliers are
//! counted by the verb.
//!
//! Read in this order: `element`, `set`, `entry`, `compare`, `merge`, `apply`.

mod apply;
mod compare;
mod element;
mod entry;
mod merge;
#[cfg(test)]
mod properties;
mod set;

use serde_json::{Map, Value};

pub use self::apply::FieldConflict;
pub(super) use self::apply::apply;
use self::entry::{Entry, strip};
pub(super) use self::entry::{Manager, Operation};
use self::set::Set;
use super::merge_keys::{Place, Root};

/// How many writers have an entry each, as in Kubernetes.
const UPDATERS: usize = 10;
/// How many entries an object may have: each applier has one, and they stay until it applies nothing.
pub(super) const ENTRIES: usize = 100;
/// How many a client may send: an object's own, which its writers and appliers came to.
pub(super) const SENT: usize = ENTRIES + UPDATERS;
const ANCIENT: &str = "ancient-changes";

/// All entries of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managed(Vec<Entry>);

impl Managed {
    /// Those of a stored object.
    pub(super) fn of(object: &Value) -> Self {
        Self::sent(object).unwrap_or_default()
    }

    /// Those that a client sends; `None` if it sends none, or none that can be read.
    fn sent(object: &Value) -> Option<Self> {
        let entries = object.get("metadata")?.get("managedFields")?.as_array()?;
        let entries: Option<Vec<Entry>> = entries.iter().map(Entry::decode).collect();
        entries.map(Self).filter(|managed| !managed.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn entries(&self) -> &[Entry] {
        &self.0
    }

    fn push(&mut self, entry: Entry) {
        if !entry.fields.is_empty() {
            self.0.push(entry);
        }
    }

    /// An applier's entry, which stays without fields where it is the only one: it says that the
    /// object's fields are accounted for.
    fn push_applier(&mut self, entry: Entry) {
        if self.is_empty() || !entry.fields.is_empty() {
            self.0.push(entry);
        }
    }

    /// The fields of this manager, whose entry goes.
    fn take(&mut self, manager: &Manager) -> Option<Set> {
        let found = self.0.iter().position(|entry| manager.has(entry))?;
        Some(self.0.remove(found).fields)
    }

    fn change(&mut self, change: impl Fn(&mut Set)) {
        self.0.retain_mut(|entry| {
            let was_empty = entry.fields.is_empty();
            change(&mut entry.fields);
            was_empty || !entry.fields.is_empty()
        });
    }

    /// Puts the oldest writers together.
    fn cap(&mut self, manager: &Manager) {
        let is_update = |entry: &Entry| entry.operation == Operation::Update;
        if self.0.iter().filter(|entry| is_update(entry)).count() <= UPDATERS {
            return;
        }
        let (mut updaters, appliers): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut self.0).into_iter().partition(is_update);
        self.0 = appliers;
        let age = |entry: &Entry| entry.time.as_str().unwrap_or_default().to_owned();
        updaters.sort_by_key(|entry| (entry.manager != ANCIENT, age(entry)));
        let recent = updaters.split_off(updaters.len() - (UPDATERS - 1));
        let mut ancient = Entry {
            manager: ANCIENT.to_owned(),
            operation: Operation::Update,
            api_version: manager.api_version.clone(),
            subresource: String::new(),
            time: updaters
                .last()
                .map_or(Value::Null, |entry| entry.time.clone()),
            fields: Set::default(),
        };
        for entry in &updaters {
            ancient.fields.add(&entry.fields);
        }
        self.push(ancient);
        self.0.extend(recent);
    }

    /// Whether they differ in nothing but when.
    fn same_but_times(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .all(|entry| other.0.iter().any(|other| entry.same_but_time(other)))
    }

    /// `null` if there are none.
    fn encode(&mut self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        self.0.sort_by(|one, other| {
            let key = |entry: &Entry| {
                let time = entry.time.as_str().unwrap_or_default().to_owned();
                (entry.operation, time)
            };
            (key(one), &one.manager, &one.subresource).cmp(&(
                key(other),
                &other.manager,
                &other.subresource,
            ))
        });
        self.0.iter().map(Entry::encode).collect()
    }
}

/// Who owns what of a new object that somebody wrote.
pub(super) fn created(root: Root<'_>, object: &Value, me: &Manager) -> Managed {
    let mut managed = Managed::default();
    match me.operation {
        Operation::Apply => {
            let fields = me.claim(compare::fields_of(root, object));
            managed.push_applier(me.entry(fields));
        }
        Operation::Update => {
            let fields = compare::compare(root, &Value::Null, object).added;
            managed.push(me.entry(me.claim(fields)));
        }
    }
    managed
}

/// Why an applied object cannot be owned, if it cannot: items without a key, or with the same one.
pub(super) fn complaint(root: Root<'_>, applied: &Value) -> Option<String> {
    compare::complaint(Place::root(root), applied, "")
}

/// What a write says about the entries.
pub(super) enum Sent {
    /// Nothing: those of the live object hold.
    Nothing,
    /// Away with them.
    Reset,
    These(Managed),
}

/// What the body of a write says. A single empty entry is Kubernetes' way to say "none"; none at
/// all comes from clients that know nothing of them.
pub(super) fn sent(body: &Value) -> Sent {
    let entries = body.get("metadata").and_then(|it| it.get("managedFields"));
    match entries.and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::Object(entry)]) if entry.values().all(Value::is_null) => Sent::Reset,
        _ => Managed::sent(body).map_or(Sent::Nothing, Sent::These),
    }
}

/// Who owns what after somebody wrote `new` over `live`.
pub(super) fn updated(
    root: Root<'_>,
    live: &Value,
    new: &Value,
    sent: Sent,
    me: &Manager,
) -> Managed {
    let mut managed = match sent {
        Sent::Reset => return Managed::default(),
        Sent::These(managed) => managed,
        Sent::Nothing => Managed::of(live),
    };
    if managed.is_empty() {
        return managed;
    }
    let mut changes = compare::compare(root, live, new);
    for set in [
        &mut changes.added,
        &mut changes.modified,
        &mut changes.removed,
    ] {
        strip(set);
    }
    let written = changes.written();
    managed.change(|fields| {
        fields.remove(&written);
        fields.remove(&changes.removed);
    });
    if !written.is_empty() {
        let mut fields = managed.take(me).unwrap_or_default();
        fields.add(&written);
        managed.push(me.entry(fields));
    }
    managed.cap(me);
    managed
}

/// Writes the entries into an object. If nothing differs from `old` but when, `old`'s stay, so that
/// a write that changes nothing is none.
pub(super) fn put(object: &mut Value, mut managed: Managed, old: &Value) {
    let before = old.get("metadata").and_then(|it| it.get("managedFields"));
    if managed.is_empty() && before.is_none() {
        return;
    }
    let is_same = equal_but_entries(object, old) && managed.same_but_times(&Managed::of(old));
    let entries = match before {
        Some(before) if is_same => before.clone(),
        _ => managed.encode(),
    };
    let metadata = crate::api::object::metadata_mut(object);
    if entries.is_null() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), entries);
    }
}

/// Whether two versions differ in nothing but their entries.
fn equal_but_entries(one: &Value, other: &Value) -> bool {
    let same = |one: &Map<String, Value>, other: &Map<String, Value>, skipped: &str| {
        let count = |map: &Map<String, Value>| map.keys().filter(|name| *name != skipped).count();
        count(one) == count(other)
            && one
                .iter()
                .all(|(name, value)| name == skipped || other.get(name) == Some(value))
    };
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return one == other;
    };
    let metadata = (
        one.get("metadata").and_then(Value::as_object),
        other.get("metadata").and_then(Value::as_object),
    );
    let (Some(own), Some(others)) = metadata else {
        return one == other;
    };
    same(one, other, "metadata") && same(own, others, "managedFields")
}

/// The object without its entries.
fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}
