//! RoleBindings and ClusterRoleBindings: who has a role. The role of a binding never changes: what
//! was allowed to bind the one need not be allowed to bind another.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::rbac::GROUP;
use super::super::strategy::{NameRule, Strategy};
use super::cell;
use crate::api::names;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Role"),
    Column::text("Age"),
    Column::text("Users").wide(),
    Column::text("Groups").wide(),
    Column::text("ServiceAccounts").wide(),
];

impl Strategy for RoleBinding {
    const NAMES: NameRule = NameRule::PathSegment;

    fn set_defaults(&mut self) {
        set_defaults(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self, errors: &mut Errors) {
        validate_role(&self.role_ref, &["Role", "ClusterRole"], errors);
        validate_subjects(self.subjects.as_deref(), true, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        validate_same_role(&self.role_ref, &old.role_ref, errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        cells(
            &self.metadata,
            &self.role_ref,
            self.subjects.as_deref(),
            now,
        )
    }

    fn sample() -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "sample"},
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "apiGroup": GROUP, "name": "jane"}]})
    }
}

impl Strategy for ClusterRoleBinding {
    const NAMES: NameRule = NameRule::PathSegment;

    fn set_defaults(&mut self) {
        set_defaults(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self, errors: &mut Errors) {
        validate_role(&self.role_ref, &["ClusterRole"], errors);
        validate_subjects(self.subjects.as_deref(), false, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        validate_same_role(&self.role_ref, &old.role_ref, errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        cells(
            &self.metadata,
            &self.role_ref,
            self.subjects.as_deref(),
            now,
        )
    }

    fn sample() -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "sample"},
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "Group", "apiGroup": GROUP, "name": "auditors"}]})
    }
}

fn set_defaults(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    if role.api_group.is_empty() {
        GROUP.clone_into(&mut role.api_group);
    }
    for subject in subjects.into_iter().flatten() {
        let is_given = subject.api_group.as_deref().is_some_and(|g| !g.is_empty());
        if !is_given && matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

fn validate_role(role: &RoleRef, kinds: &[&str], errors: &mut Errors) {
    let path = Path::Root.field("roleRef");
    errors.one_of(&path.field("apiGroup"), Some(&role.api_group), &[GROUP]);
    errors.one_of(&path.field("kind"), Some(&role.kind), kinds);
    if role.name.is_empty() {
        errors.required(&path.field("name"), "");
    } else if let Some(complaint) = names::path_segment_complaint(&role.name) {
        errors.invalid(&path.field("name"), &role.name, complaint);
    }
}

fn validate_same_role(new: &RoleRef, old: &RoleRef, errors: &mut Errors) {
    if new != old {
        errors.invalid_json(&Path::Root.field("roleRef"), new, "cannot change roleRef");
    }
}

fn validate_subjects(subjects: Option<&[Subject]>, is_namespaced: bool, errors: &mut Errors) {
    let path = Path::Root.field("subjects");
    for (index, subject) in subjects.unwrap_or_default().iter().enumerate() {
        validate_subject(&path.index(index), subject, is_namespaced, errors);
    }
}

fn validate_subject(path: &Path<'_>, subject: &Subject, is_namespaced: bool, errors: &mut Errors) {
    if subject.name.is_empty() {
        errors.required(&path.field("name"), "");
    }
    let group = subject.api_group.as_deref().unwrap_or_default();
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() && !names::is_dns_subdomain(&subject.name) {
                errors.invalid(
                    &path.field("name"),
                    &subject.name,
                    names::DNS_SUBDOMAIN_RULE,
                );
            }
            errors.one_of(&path.field("apiGroup"), Some(group), &[""]);
            let has_namespace = subject
                .namespace
                .as_deref()
                .is_some_and(|ns| !ns.is_empty());
            if !is_namespaced && !has_namespace {
                errors.required(&path.field("namespace"), "");
            }
        }
        "User" | "Group" => errors.one_of(&path.field("apiGroup"), Some(group), &[GROUP]),
        other => errors.not_supported(
            &path.field("kind"),
            other,
            &["ServiceAccount", "User", "Group"],
        ),
    }
}

fn cells(
    meta: &ObjectMeta,
    role: &RoleRef,
    subjects: Option<&[Subject]>,
    now: Timestamp,
) -> Vec<Value> {
    let of = |kind: &str| {
        let names: Vec<String> = subjects
            .unwrap_or_default()
            .iter()
            .filter(|subject| subject.kind == kind)
            .map(|subject| match (kind, subject.namespace.as_deref()) {
                ("ServiceAccount", Some(ns)) => format!("{ns}/{}", subject.name),
                _ => subject.name.clone(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![
        cell::name(meta),
        format!("{}/{}", role.kind, role.name).into(),
        cell::age(meta, now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn refuses_in_kubernetes_words() {
        check::<RoleBinding>(
            "/roleRef",
            &json!({"kind": "Thing", "name": "a/b"}),
            &[
                "roleRef.kind: Unsupported value: \"Thing\": supported values: \"Role\", \"ClusterRole\"",
                "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
            ],
        );
        check::<ClusterRoleBinding>(
            "/roleRef",
            &json!({"kind": "Role", "name": "a"}),
            &["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""],
        );
        check::<ClusterRoleBinding>(
            "/subjects",
            &json!([{"kind": "ServiceAccount", "name": "a"}, {"kind": "User", "name": "jane"}, {"kind": "Robot", "name": "r"}]),
            &[
                "subjects[0].namespace: Required value",
                "subjects[2].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ],
        );
        check::<RoleBinding>(
            "/subjects",
            &json!([{"kind": "ServiceAccount", "name": "a"}, {"kind": "Group", "name": "g"}]),
            &[],
        );
    }
}
