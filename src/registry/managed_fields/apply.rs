//! Server-side apply: what an object becomes when a manager says what it wants of it.
//!
//! The applied fields are the manager's claim. Where somebody else owns one of them and the value
//! would change, that is a conflict, which the manager may force. What it claimed before and nobody
//! claims now is removed. Same values are owned together.

use serde_json::Value;

use super::compare::{compare, fields_of};
use super::merge::{merge, prune};
use super::set::Set;
use super::{Entry, Managed, Manager, Operation, without_managed_fields};
use crate::api::object;
use crate::registry::merge_keys::Root;

/// Where `kubectl apply` on the client's side remembers what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Managers whose applies take over from their own applies on the client's side: Kubernetes' and ours.
const COMMAND_LINES: [&str; 2] = ["kubectl", "wasmorch"];
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What an apply makes of an object.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) object: Value,
    pub(crate) managed: Managed,
}

/// A field that somebody else owns and that the apply would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldConflict {
    /// As Kubernetes prints it: `"kubectl-edit" using apps/v1`.
    pub manager: String,
    pub field: String,
}

/// Applies to a live object; `applied` holds only what this manager may write.
pub(crate) fn apply<'a>(
    root: impl Into<Root<'a>>,
    live: &Value,
    applied: &'a Value,
    me: &Manager,
    force: bool,
) -> Result<Applied, Vec<FieldConflict>> {
    let root = root.into();
    let mut managed = Managed::of(live);
    let live = without_managed_fields(live);
    if managed.is_empty() {
        managed.push(before_first_apply(root, &live, me));
    }
    let claim = me.claim(fields_of(root, applied));
    let mut object = merge(root, live.clone(), applied);
    let last = managed.take(me).unwrap_or_default();
    let mut kept = claim.clone();
    for entry in managed.entries() {
        kept.add(&entry.fields);
    }
    // Nobody owns the object's name, and it does not go with the last label.
    kept.hold("metadata");
    prune(root, &mut object, &last, &kept);
    let changes = compare(root, &live, &object);
    let written = changes.written();
    let conflicts = conflicts(&managed, &written);
    if !force && !conflicts.is_empty() {
        let mut unsettled = Set::default();
        for (_, fields) in &conflicts {
            unsettled.add(fields);
        }
        if COMMAND_LINES.contains(&me.name.as_str()) {
            unsettled.remove(&unchanged_since_last_applied(root, &live));
        }
        if !unsettled.is_empty() {
            return Err(told(&conflicts, &unsettled));
        }
    }
    managed.change(|fields| {
        fields.remove(&written);
        fields.remove(&changes.removed);
    });
    managed.push_applier(me.entry(claim));
    if COMMAND_LINES.contains(&me.name.as_str()) && last_applied(&object).is_some() {
        remember(&mut object, applied);
    }
    Ok(Applied { object, managed })
}

/// Of an object that nobody owns, everything that is there belongs to those who were before.
fn before_first_apply(root: Root<'_>, live: &Value, me: &Manager) -> Entry {
    let before = Manager {
        name: BEFORE_FIRST_APPLY.to_owned(),
        operation: Operation::Update,
        subresource: None,
        ..me.clone()
    };
    let mut fields = compare(root, &Value::Null, live).added;
    super::strip(&mut fields);
    before.entry(fields)
}

fn conflicts<'a>(managed: &'a Managed, written: &Set) -> Vec<(&'a Entry, Set)> {
    managed
        .entries()
        .iter()
        .map(|entry| (entry, entry.fields.common(written)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect()
}

fn told(conflicts: &[(&Entry, Set)], unsettled: &Set) -> Vec<FieldConflict> {
    let mut told = Vec::new();
    for (entry, fields) in conflicts {
        for field in fields.common(unsettled).paths() {
            told.push(FieldConflict {
                manager: entry.describe(),
                field,
            });
        }
    }
    told.sort_by(|one, other| one.manager.cmp(&other.manager));
    told
}

fn last_applied(object: &Value) -> Option<Value> {
    let text = object::str_at(object, &["metadata", "annotations", LAST_APPLIED])?;
    serde_json::from_str(text).ok()
}

/// What `kubectl apply` on the client's side applied and nobody changed since: its user may take it
/// over without a conflict.
fn unchanged_since_last_applied(root: Root<'_>, live: &Value) -> Set {
    let Some(applied) = last_applied(live) else {
        return Set::default();
    };
    let mut fields = fields_of(root, &applied);
    let changes = compare(root, &applied, live);
    fields.remove(&changes.modified);
    fields.remove(&changes.removed);
    fields
}

/// Keeps the annotation of applies on the client's side true, for users who go back to them.
fn remember(object: &mut Value, applied: &Value) {
    let mut applied = applied.clone();
    let annotations = applied.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{applied}\n");
    object["metadata"]["annotations"][LAST_APPLIED] = Value::String(text);
}
