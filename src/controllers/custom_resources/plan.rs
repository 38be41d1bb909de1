//! Which names a definition gets, and what its conditions say of it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition as Condition,
    CustomResourceDefinitionNames as Names, CustomResourceDefinitionStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use serde_json::Value;

use crate::api::custom_resource::UNCHECKED_RULES;
use crate::registry::ResourceInfo;

const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Names of a group that others have.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Plurals, singulars and short names.
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

/// The names of a group that built-in kinds and other definitions have.
pub(super) fn taken<'a>(
    group: &str,
    others: impl Iterator<Item = &'a Value>,
    rows: &[&'static ResourceInfo],
) -> Taken {
    let mut taken = Taken::default();
    let built_in = rows
        .iter()
        .filter(|row| !row.is_custom() && row.group == group);
    for row in built_in {
        let names = [row.plural, row.singular].into_iter();
        let names = names.chain(row.short_names.iter().copied());
        taken.resources.extend(names.map(str::to_owned));
        taken.kinds.extend([row.kind.to_owned(), row.list_kind()]);
    }
    for other in others.filter(|other| other["spec"]["group"] == group) {
        let names = &other["status"]["acceptedNames"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let shorts = names["shortNames"].as_array().into_iter().flatten();
        let resources = [&names["plural"], &names["singular"]]
            .into_iter()
            .chain(shorts);
        taken.resources.extend(resources.filter_map(text));
        let kinds = [&names["kind"], &names["listKind"]];
        taken.kinds.extend(kinds.into_iter().filter_map(text));
    }
    taken.resources.remove("");
    taken.kinds.remove("");
    taken
}

/// Says that the rules of a kind are not evaluated, where its definition accepts that.
fn tell_of_rules(
    definition: &CustomResourceDefinition,
    conditions: &mut Vec<Condition>,
    now: Timestamp,
) {
    let annotations = definition.metadata.annotations.as_ref();
    if annotations.is_some_and(|all| all.contains_key(UNCHECKED_RULES)) {
        let message =
            "x-kubernetes-validations are not evaluated: objects that they would refuse are taken";
        set(
            conditions,
            ("RulesEvaluated", false),
            "NotImplemented",
            message,
            now,
        );
    } else {
        conditions.retain(|condition| condition.type_ != "RulesEvaluated");
    }
}

/// The status as it should be; `None` if it is.
pub(super) fn plan(
    definition: &CustomResourceDefinition,
    taken: &Taken,
    now: Timestamp,
) -> Option<CustomResourceDefinitionStatus> {
    let old = definition.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let wanted = &definition.spec.names;
    let (accepted, conflict) = accept(wanted, old.accepted_names.unwrap_or_default(), taken);
    status.accepted_names = Some(accepted);
    let conditions = status.conditions.get_or_insert_default();
    let was_established = conditions
        .iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True");
    let (is_accepted, reason, message) = match &conflict {
        None => (true, "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => (false, *reason, message.clone()),
    };
    set(
        conditions,
        ("NamesAccepted", is_accepted),
        reason,
        &message,
        now,
    );
    if !was_established {
        let (reason, message) = if is_accepted {
            (
                "InitialNamesAccepted",
                "the initial names have been accepted",
            )
        } else {
            ("NotAccepted", "not all names are accepted")
        };
        set(
            conditions,
            ("Established", is_accepted),
            reason,
            message,
            now,
        );
    }
    tell_of_rules(definition, conditions, now);
    (Some(&status) != definition.status.as_ref()).then_some(status)
}

/// The wanted names that are free, and what is wrong with the first that is not.
fn accept(wanted: &Names, had: Names, taken: &Taken) -> (Names, Option<(&'static str, String)>) {
    let mut accepted = had;
    let mut conflict = None;
    let mut judge = |reason: &'static str, name: &str, taken: &BTreeSet<String>| {
        let is_free = !taken.contains(name);
        if !is_free && conflict.is_none() {
            conflict = Some((reason, format!("{name:?} is already in use")));
        }
        is_free
    };
    if judge("PluralConflict", &wanted.plural, &taken.resources) {
        accepted.plural.clone_from(&wanted.plural);
    }
    if judge(
        "SingularConflict",
        wanted.singular.as_deref().unwrap_or_default(),
        &taken.resources,
    ) {
        accepted.singular.clone_from(&wanted.singular);
    }
    let shorts = wanted.short_names.iter().flatten();
    let are_free: Vec<bool> = shorts
        .map(|name| judge("ShortNamesConflict", name, &taken.resources))
        .collect();
    if are_free.iter().all(|is_free| *is_free) {
        accepted.short_names.clone_from(&wanted.short_names);
    }
    if judge("KindConflict", &wanted.kind, &taken.kinds) {
        accepted.kind.clone_from(&wanted.kind);
    }
    if judge(
        "ListKindConflict",
        wanted.list_kind.as_deref().unwrap_or_default(),
        &taken.kinds,
    ) {
        accepted.list_kind.clone_from(&wanted.list_kind);
    }
    accepted.categories.clone_from(&wanted.categories);
    (accepted, conflict)
}

/// Says a condition; its time is that of its last change.
fn set(
    conditions: &mut Vec<Condition>,
    (kind, holds): (&str, bool),
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let old = conditions
        .iter()
        .position(|condition| condition.type_ == kind);
    let since = old
        .map(|at| &conditions[at])
        .filter(|condition| condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone())
        .unwrap_or(Time(now));
    let condition = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since),
    };
    match old {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// Whether its objects have to go before it may.
pub(super) fn waits_for_objects(definition: &CustomResourceDefinition) -> bool {
    let finalizers = definition.metadata.finalizers.iter().flatten();
    finalizers.into_iter().any(|finalizer| finalizer == CLEANUP)
}

/// The definition without what made it wait.
pub(super) fn released(definition: &CustomResourceDefinition) -> CustomResourceDefinition {
    let mut released = definition.clone();
    if let Some(finalizers) = &mut released.metadata.finalizers {
        finalizers.retain(|finalizer| finalizer != CLEANUP);
    }
    released
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> CustomResourceDefinition {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "scope": "Namespaced", "versions": [],
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                    "listKind": format!("{kind}List"), "shortNames": short}},
        }))
        .unwrap()
    }

    fn conditions(status: &CustomResourceDefinitionStatus) -> Vec<String> {
        let conditions = status.conditions.iter().flatten();
        conditions
            .map(|it| {
                format!(
                    "{}={} {}",
                    it.type_,
                    it.status,
                    it.reason.as_deref().unwrap()
                )
            })
            .collect()
    }

    #[test]
    fn free_names_are_accepted_once() {
        let now = Timestamp::UNIX_EPOCH;
        let mut one = definition("tabs", "Tab", &["t"]);
        let status = plan(&one, &Taken::default(), now).unwrap();
        assert_eq!(
            conditions(&status),
            [
                "NamesAccepted=True NoConflicts",
                "Established=True InitialNamesAccepted"
            ]
        );
        assert_eq!(status.accepted_names.as_ref(), Some(&one.spec.names));
        one.status = Some(status);
        let later = now + jiff::SignedDuration::from_secs(5);
        assert_eq!(plan(&one, &Taken::default(), later), None);
    }

    #[test]
    fn unchecked_rules_are_told() {
        let mut one = definition("tabs", "Tab", &[]);
        let annotations = [(UNCHECKED_RULES.to_owned(), "true".to_owned())];
        one.metadata.annotations = Some(annotations.into());
        let status = plan(&one, &Taken::default(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            conditions(&status)[2],
            "RulesEvaluated=False NotImplemented"
        );
    }

    #[test]
    fn a_taken_name_is_refused_until_it_is_free() {
        let now = Timestamp::UNIX_EPOCH;
        let mut one = definition("tabs", "Tab", &["t"]);
        one.status = plan(&one, &Taken::default(), now);
        let mut two = definition("tables", "Table", &["t"]);
        let one = serde_json::to_value(one).unwrap();
        let of_one = taken("example.com", [&one].into_iter(), &[]);
        let status = plan(&two, &of_one, now).unwrap();
        assert_eq!(
            conditions(&status),
            [
                "NamesAccepted=False ShortNamesConflict",
                "Established=False NotAccepted"
            ]
        );
        two.status = Some(status);
        let status = plan(&two, &Taken::default(), now).unwrap();
        assert_eq!(
            conditions(&status),
            [
                "NamesAccepted=True NoConflicts",
                "Established=True InitialNamesAccepted"
            ]
        );
        // Names that are changed to taken ones leave an established kind as it was.
        two.status = Some(status);
        two.spec.names.short_names = Some(vec!["u".to_owned()]);
        let mut taken = Taken::default();
        taken.resources.insert("u".to_owned());
        let status = plan(&two, &taken, now).unwrap();
        assert_eq!(
            conditions(&status),
            [
                "NamesAccepted=False ShortNamesConflict",
                "Established=True InitialNamesAccepted"
            ]
        );
        let names = status.accepted_names.unwrap();
        assert_eq!(names.short_names, Some(vec!["t".to_owned()]));
    }
}
