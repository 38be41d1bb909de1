//! How the fields of our kinds merge: the one table behind strategic merge patches and field
//! ownership, so that a patch and an apply never disagree on which items are the same item.
//!
//! Maps merge field by field and lists are replaced whole, unless a row says otherwise. Kubernetes
//! reads this from its types (`patchMergeKey`, `listMapKey`, `listType`, `mapType`); the few dozen
//! rows that our kinds need stand here, by the field that holds the value and the field around it.
//! Where a list is a map in disguise, the first key is the one that a strategic merge patch uses:
//! the ports of a container are told apart by number there, and by number and protocol when applied.

use serde_json::Value;

/// How a field merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A map merges field by field; a list is one value.
    Plain,
    /// One value, whatever is in it.
    Atomic,
    /// A list of plain values, each there once.
    Set,
    /// A list of maps that are told apart by these keys. Atomic items are owned as one value.
    Items {
        keys: &'static [&'static str],
        atomic: bool,
    },
    /// Merged by this key in a strategic merge patch, one value when applied.
    PatchOnly(&'static str),
}

use Shape::{Atomic, PatchOnly, Set};

const fn by(keys: &'static [&'static str]) -> Shape {
    Shape::Items {
        keys,
        atomic: false,
    }
}

const fn whole(keys: &'static [&'static str]) -> Shape {
    Shape::Items { keys, atomic: true }
}

const NAME: Shape = by(&["name"]);
const PORTS: Shape = by(&["containerPort", "protocol"]);
const MOUNTS: Shape = by(&["mountPath"]);
const DEVICES: Shape = by(&["devicePath"]);
/// Values of a key that an item may leave out.
const KEY_DEFAULTS: &[(&str, &str)] = &[("protocol", "TCP")];

/// (the field around, the field, how it merges); an empty "around" is any. Items of a list stand
/// in the field of the list. `Service.spec` is the spec of that kind only.
const FIELDS: &[(&str, &str, Shape)] = &[
    ("", "containers", NAME),
    ("", "initContainers", NAME),
    ("", "ephemeralContainers", NAME),
    ("", "volumes", NAME),
    ("", "imagePullSecrets", whole(&["name"])),
    ("", "hostAliases", by(&["ip"])),
    (
        "",
        "topologySpreadConstraints",
        by(&["topologyKey", "whenUnsatisfiable"]),
    ),
    ("", "schedulingGates", NAME),
    ("", "resourceClaims", NAME),
    ("resources", "claims", NAME),
    ("containers", "env", NAME),
    ("containers", "ports", PORTS),
    ("containers", "volumeMounts", MOUNTS),
    ("containers", "volumeDevices", DEVICES),
    ("initContainers", "env", NAME),
    ("initContainers", "ports", PORTS),
    ("initContainers", "volumeMounts", MOUNTS),
    ("initContainers", "volumeDevices", DEVICES),
    ("ephemeralContainers", "env", NAME),
    ("ephemeralContainers", "ports", PORTS),
    ("ephemeralContainers", "volumeMounts", MOUNTS),
    ("ephemeralContainers", "volumeDevices", DEVICES),
    ("metadata", "ownerReferences", whole(&["uid"])),
    ("metadata", "finalizers", Set),
    ("status", "conditions", by(&["type"])),
    ("status", "podIPs", by(&["ip"])),
    ("status", "hostIPs", PatchOnly("ip")),
    ("status", "addresses", by(&["type"])),
    ("Service.spec", "ports", by(&["port", "protocol"])),
    ("ServiceAccount", "secrets", whole(&["name"])),
    ("Node.spec", "podCIDRs", Set),
    // Maps that mean something only as a whole: selectors and references.
    ("", "selector", Atomic),
    ("", "labelSelector", Atomic),
    ("", "namespaceSelector", Atomic),
    ("", "nodeSelector", Atomic),
    ("", "requiredDuringSchedulingIgnoredDuringExecution", Atomic),
    ("", "configMapKeyRef", Atomic),
    ("", "secretKeyRef", Atomic),
    ("", "fieldRef", Atomic),
    ("", "resourceFieldRef", Atomic),
    ("", "secretRef", Atomic),
    ("", "configMapRef", Atomic),
    ("", "dataSource", Atomic),
    ("", "involvedObject", Atomic),
    ("", "regarding", Atomic),
    ("", "roleRef", Atomic),
    ("", "podSelector", Atomic),
    ("", "scopeSelector", Atomic),
    ("", "related", Atomic),
    ("backend", "resource", Atomic),
    ("defaultBackend", "resource", Atomic),
];

/// Where a walk over an object is: the kind, and the field that holds this map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    kind: &'a str,
    around: &'a str,
}

impl<'a> Place<'a> {
    /// The object itself.
    pub(super) fn root(kind: &'a str) -> Self {
        Self { kind, around: kind }
    }

    /// What a field of this map holds.
    pub(super) fn inside(self, field: &'a str) -> Self {
        Self {
            around: field,
            ..self
        }
    }

    /// The field that holds this map.
    pub(super) fn field(self) -> &'a str {
        self.around
    }

    /// How a field of this map merges.
    pub(super) fn shape(self, field: &str) -> Shape {
        let around = |wanted: &str| match wanted.split_once('.') {
            Some((kind, field)) => kind == self.kind && field == self.around,
            None => wanted.is_empty() || wanted == self.around,
        };
        FIELDS
            .iter()
            .find(|(wanted, name, _)| *name == field && around(wanted))
            .map_or(Shape::Plain, |(_, _, shape)| *shape)
    }
}

/// An item's value of one of its list's keys.
pub(super) fn key_value(item: &Value, key: &str) -> Option<Value> {
    match item.get(key) {
        Some(value) if !value.is_null() => Some(value.clone()),
        _ => KEY_DEFAULTS
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| Value::from(*value)),
    }
}
