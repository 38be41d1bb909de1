//! The shape of a row of the table, and what most rows have in common.

use serde_json::Value;

use super::subresource::SubresourceInfo;
use crate::api::table::Column;
use crate::registry::custom::Custom;
use crate::registry::filter::Selectable;
use crate::registry::strategy::{Hooks, Strategy};

/// A row of the table: everything that is particular to one kind.
pub struct ResourceInfo {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    /// Of a built-in kind, as its categories; [`ResourceInfo::short_names`] knows those of all.
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// What may be done to it, as discovery announces it.
    pub verbs: &'static [&'static str],
    /// `status`, `scale`, `binding`, `log`, …: what discovery announces (name, kind, group, version, verbs).
    pub subresources: &'static [SubresourceInfo],
    pub columns: &'static [Column],
    /// The plural with its group, `deployments.apps`: how errors name the resource.
    pub qualified: &'static str,
    /// A minimal valid object, for the conformance suite and for examples.
    pub sample: fn() -> Value,
    /// Where the objects live in the store.
    pub(crate) storage: &'static str,
    /// The fields that a field selector may name, besides name and namespace.
    pub(crate) fields: &'static [Selectable],
    pub(crate) hooks: Hooks,
    /// The name of its lists, where it is another than the kind with `List`.
    pub(crate) list_kind: Option<&'static str>,
    /// What a custom kind has instead of hooks.
    pub(crate) custom: Option<&'static Custom>,
}

/// What may be done to most kinds.
pub(crate) const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

impl ResourceInfo {
    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&'static SubresourceInfo> {
        self.subresources
            .iter()
            .find(|subresource| subresource.name == name)
    }

    /// `PodList`.
    pub fn list_kind(&self) -> String {
        match self.list_kind {
            Some(kind) => kind.to_owned(),
            None => format!("{}List", self.kind),
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl std::fmt::Debug for ResourceInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.qualified)
    }
}

/// What most rows have in common: namespaced, no short names, no subresources.
pub(super) const fn row<K: Strategy>(
    qualified: &'static str,
    singular: &'static str,
) -> ResourceInfo {
    ResourceInfo {
        group: K::GROUP,
        version: K::VERSION,
        kind: K::KIND,
        plural: K::URL_PATH_SEGMENT,
        singular,
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: VERBS,
        subresources: &[],
        columns: &[],
        qualified,
        sample: K::sample,
        storage: qualified,
        fields: &[],
        hooks: Hooks::of::<K>(),
        list_kind: None,
        custom: None,
    }
}
