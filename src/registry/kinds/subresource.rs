//! What hangs below the objects of a kind, as its row announces it.

use crate::registry::strategy::Strategy;

pub struct SubresourceInfo {
    pub name: &'static str,
    pub kind: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub verbs: &'static [&'static str],
}

/// The autoscaling/v1 Scale of a workload with `spec.replicas` and `spec.selector`.
pub(super) const SCALE: SubresourceInfo = SubresourceInfo {
    name: "scale",
    kind: "Scale",
    group: "autoscaling",
    version: "v1",
    verbs: &["get", "patch", "update"],
};

/// A subresource that answers the kind itself.
pub(super) const fn own<K: Strategy>(name: &'static str) -> SubresourceInfo {
    SubresourceInfo {
        name,
        kind: K::KIND,
        group: K::GROUP,
        version: K::VERSION,
        verbs: &["get", "patch", "update"],
    }
}

/// A subresource that passes any request on.
pub(super) const fn proxy<K: Strategy>(kind: &'static str) -> SubresourceInfo {
    SubresourceInfo {
        kind,
        verbs: &["create", "delete", "get", "patch", "update"],
        ..own::<K>("proxy")
    }
}

pub(super) const fn status<K: Strategy>() -> SubresourceInfo {
    own::<K>("status")
}
