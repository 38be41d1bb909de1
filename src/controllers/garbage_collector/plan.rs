//! Whether an object must go because of its owners. Pure; `pkg/controller/garbagecollector`
//! `attemptToDeleteItem` in short.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use crate::api::object;
use crate::registry::Propagation;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// What became of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Solid,
    /// It goes, and waits for this dependent.
    Waiting,
    Absent,
    /// Its kind is unknown here; absence of knowledge is not knowledge of absence.
    Unverifiable,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Somebody still owns it; these references are dead weight.
    Drop(Vec<String>),
    Delete(Propagation),
}

/// The state of an owner that was found by its name.
pub(super) fn owner_state(found: &Value, reference: &OwnerReference) -> Owner {
    if object::uid(found) != reference.uid {
        return Owner::Absent;
    }
    let waits = object::is_terminating(found) && has_finalizer(found, FOREGROUND);
    if waits && reference.block_owner_deletion == Some(true) {
        Owner::Waiting
    } else {
        Owner::Solid
    }
}

pub(super) fn plan(object: &Value, owners: &[(String, Owner)], has_dependents: bool) -> Verdict {
    let is_held = |(_, owner): &(String, Owner)| match owner {
        Owner::Solid | Owner::Unverifiable => true,
        Owner::Waiting | Owner::Absent => false,
    };
    let lost: Vec<String> = owners
        .iter()
        .filter(|owner| !is_held(owner))
        .map(|(uid, _)| uid.clone())
        .collect();
    if lost.is_empty() {
        Verdict::Keep
    } else if owners.iter().any(is_held) {
        Verdict::Drop(lost)
    } else if has_finalizer(object, ORPHAN) {
        Verdict::Delete(Propagation::Orphan)
    } else {
        let is_awaited = owners.iter().any(|(_, owner)| *owner == Owner::Waiting);
        let policy = if has_finalizer(object, FOREGROUND) || is_awaited && has_dependents {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        Verdict::Delete(policy)
    }
}

pub(super) fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    let finalizers = object::at(object, &["metadata", "finalizers"]).and_then(Value::as_array);
    finalizers
        .into_iter()
        .flatten()
        .any(|name| name == finalizer)
}

pub(super) fn remove_finalizer(object: &mut Value, finalizer: &str) {
    if let Some(Value::Array(finalizers)) = object::metadata_mut(object).get_mut("finalizers") {
        finalizers.retain(|name| name != finalizer);
    }
}

pub(super) fn remove_references(object: &mut Value, uids: &[String]) {
    let meta = object::metadata_mut(object);
    if let Some(Value::Array(references)) = meta.get_mut("ownerReferences") {
        references.retain(|reference| {
            let uid = reference.get("uid").and_then(Value::as_str);
            !uid.is_some_and(|uid| uids.iter().any(|gone| gone == uid))
        });
        if references.is_empty() {
            meta.remove("ownerReferences");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(finalizers: &[&str], owners: &[Owner], has_dependents: bool) -> Verdict {
        let object = json!({"metadata": {"finalizers": finalizers}});
        let named: Vec<(String, Owner)> = owners
            .iter()
            .enumerate()
            .map(|(index, owner)| (index.to_string(), *owner))
            .collect();
        plan(&object, &named, has_dependents)
    }

    #[test]
    fn an_object_dies_with_its_last_owner() {
        use Owner::{Absent, Solid, Unverifiable, Waiting};
        use Propagation::{Background, Foreground, Orphan};
        let cases = [
            (check(&[], &[], false), Verdict::Keep),
            (check(&[], &[Solid], false), Verdict::Keep),
            (check(&[], &[Unverifiable], false), Verdict::Keep),
            (check(&[], &[Absent], false), Verdict::Delete(Background)),
            (
                check(&[], &[Absent, Absent], true),
                Verdict::Delete(Background),
            ),
            (
                check(&[], &[Absent, Solid], false),
                Verdict::Drop(vec!["0".into()]),
            ),
            (
                check(&[], &[Unverifiable, Absent], false),
                Verdict::Drop(vec!["1".into()]),
            ),
            (
                check(&[], &[Solid, Waiting, Absent], false),
                Verdict::Drop(vec!["1".into(), "2".into()]),
            ),
            (check(&[], &[Waiting], false), Verdict::Delete(Background)),
            (check(&[], &[Waiting], true), Verdict::Delete(Foreground)),
            (
                check(&[FOREGROUND], &[Absent], false),
                Verdict::Delete(Foreground),
            ),
            (check(&[ORPHAN], &[Absent], true), Verdict::Delete(Orphan)),
        ];
        for (index, (verdict, expected)) in cases.into_iter().enumerate() {
            assert_eq!(verdict, expected, "case {index}");
        }
    }

    #[test]
    fn the_owner_is_the_uid_and_not_the_name() {
        let reference = |uid: &str, blocks: bool| OwnerReference {
            uid: uid.into(),
            block_owner_deletion: Some(blocks),
            ..OwnerReference::default()
        };
        let living = json!({"metadata": {"uid": "a"}});
        let waiting = json!({"metadata": {"uid": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FOREGROUND]}});
        let dying = json!({"metadata": {"uid": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(owner_state(&living, &reference("a", true)), Owner::Solid);
        assert_eq!(owner_state(&living, &reference("b", true)), Owner::Absent);
        assert_eq!(owner_state(&waiting, &reference("a", true)), Owner::Waiting);
        assert_eq!(owner_state(&waiting, &reference("a", false)), Owner::Solid);
        assert_eq!(owner_state(&dying, &reference("a", true)), Owner::Solid);
    }

    #[test]
    fn references_and_finalizers_are_taken_out() {
        let mut object = json!({"metadata": {"finalizers": [ORPHAN, "x"], "ownerReferences": [{"uid": "a"}, {"uid": "b"}]}});
        remove_finalizer(&mut object, ORPHAN);
        remove_references(&mut object, &["a".into()]);
        assert_eq!(
            object,
            json!({"metadata": {"finalizers": ["x"], "ownerReferences": [{"uid": "b"}]}})
        );
        remove_references(&mut object, &["b".into()]);
        assert_eq!(object, json!({"metadata": {"finalizers": ["x"]}}));
    }
}
