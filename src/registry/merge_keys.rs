//! How the fields of our kinds merge: the one table behind strategic merge patches and field
//! ownership, so that a patch and an apply never disagree on which items are the same item.
//!
//! Maps merge field by field and lists are replaced whole, unless a row says otherwise. Kubernetes
//! reads this from its types (`patchMergeKey`, `listMapKey`, `listType`, `mapType`); the few dozen
//! rows that our kinds need stand here, by the field that holds the value and the field around it.
//! Where a list is a map in disguise, the first key is the one that a strategic merge patch uses:
//! the ports of a container are told apart by number there, and by number and protocol when applied.

use serde_json::Value;

use super::custom::schema::{ListKeys, Schema};

/// The keys of a list's items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Keys<'a> {
    BuiltIn(&'static [&'static str]),
    /// Those that the schema of a custom resource names.
    Schema(&'a ListKeys),
}

impl<'a> Keys<'a> {
    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        let (fixed, named) = match self {
            Self::BuiltIn(keys) => (keys, &[][..]),
            Self::Schema(keys) => (&[][..], &keys.names[..]),
        };
        fixed
            .iter()
            .copied()
            .chain(named.iter().map(String::as_str))
    }

    /// An item's value of one of the keys, its default if it leaves the key out.
    pub(super) fn value(self, item: &Value, key: &str) -> Option<Value> {
        match item.get(key) {
            Some(value) if !value.is_null() => Some(value.clone()),
            _ => match self {
                Self::BuiltIn(_) => KEY_DEFAULTS
                    .iter()
                    .find(|(name, _)| *name == key)
                    .map(|(_, value)| Value::from(*value)),
                Self::Schema(keys) => keys.defaults.get(key).cloned(),
            },
        }
    }
}

/// How a field merges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape<'a> {
    /// A map merges field by field; a list is one value.
    Plain,
    /// One value, whatever is in it.
    Atomic,
    /// A list of plain values, each there once; a strategic merge patch may yet replace it whole.
    Set { is_patched: bool },
    /// A list of maps that are told apart by these keys. Atomic items are owned as one value.
    Items { keys: Keys<'a>, atomic: bool },
    /// Merged by this key in a strategic merge patch, one value when applied.
    PatchOnly(&'static str),
}

use Shape::{Atomic, PatchOnly};

const fn by(keys: &'static [&'static str]) -> Shape<'static> {
    Shape::Items {
        keys: Keys::BuiltIn(keys),
        atomic: false,
    }
}

const fn whole(keys: &'static [&'static str]) -> Shape<'static> {
    Shape::Items {
        keys: Keys::BuiltIn(keys),
        atomic: true,
    }
}

const SET: Shape<'static> = Shape::Set { is_patched: true };
const NAME: Shape<'static> = by(&["name"]);
const PORTS: Shape<'static> = by(&["containerPort", "protocol"]);
const MOUNTS: Shape<'static> = by(&["mountPath"]);
const DEVICES: Shape<'static> = by(&["devicePath"]);
/// Values of a key that an item may leave out.
const KEY_DEFAULTS: &[(&str, &str)] = &[("protocol", "TCP")];

/// (the field around, the field, how it merges); an empty "around" is any. Items of a list stand
/// in the field of the list. `Service.spec` is the spec of that kind only.
const FIELDS: &[(&str, &str, Shape<'static>)] = &[
    ("", "containers", NAME),
    ("", "initContainers", NAME),
    ("", "ephemeralContainers", NAME),
    ("", "volumes", NAME),
    ("ServiceAccount", "imagePullSecrets", Shape::Plain),
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
    ("metadata", "finalizers", SET),
    ("Job.status", "conditions", PatchOnly("type")),
    ("status", "conditions", by(&["type"])),
    ("containerStatuses", "volumeMounts", MOUNTS),
    ("initContainerStatuses", "volumeMounts", MOUNTS),
    ("ephemeralContainerStatuses", "volumeMounts", MOUNTS),
    ("status", "resourceClaimStatuses", NAME),
    ("status", "podIPs", by(&["ip"])),
    ("status", "hostIPs", PatchOnly("ip")),
    ("status", "addresses", by(&["type"])),
    ("Service.spec", "ports", by(&["port", "protocol"])),
    ("ServiceAccount", "secrets", whole(&["name"])),
    ("Node.spec", "podCIDRs", SET),
    ("endpoints", "addresses", Shape::Set { is_patched: false }),
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

/// Whose fields: those of a built-in kind, or those that a schema names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Root<'a> {
    Kind(&'a str),
    Schema(&'a Schema),
}

impl<'a> From<&'a str> for Root<'a> {
    fn from(kind: &'a str) -> Self {
        Self::Kind(kind)
    }
}

/// Where a walk over an object is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// In a field of a built-in kind, or in the kind itself.
    BuiltIn { kind: &'a str, around: &'a str },
    /// In a custom resource; without a schema where anything goes.
    Schema {
        schema: Option<&'a Schema>,
        is_root: bool,
    },
}

impl<'a> Place<'a> {
    /// The object itself.
    pub(super) fn root(root: impl Into<Root<'a>>) -> Self {
        match root.into() {
            Root::Kind(kind) => Self::BuiltIn { kind, around: kind },
            Root::Schema(schema) => Self::Schema {
                schema: Some(schema),
                is_root: true,
            },
        }
    }

    /// What a field of this map holds.
    pub(super) fn inside(self, field: &'a str) -> Self {
        match self {
            Self::BuiltIn { kind, .. } => Self::BuiltIn {
                kind,
                around: field,
            },
            // Metadata is Kubernetes' own in every kind.
            Self::Schema { is_root: true, .. } if field == METADATA => Self::BuiltIn {
                kind: "",
                around: field,
            },
            Self::Schema { schema, .. } => Self::Schema {
                schema: schema
                    .and_then(|schema| schema.field(field))
                    .map(Schema::item),
                is_root: false,
            },
        }
    }

    /// The field that holds this map; empty where Kubernetes' types say nothing of it.
    pub(super) fn field(self) -> &'a str {
        match self {
            Self::BuiltIn { around, .. } => around,
            Self::Schema { .. } => "",
        }
    }

    /// How a field of this map merges.
    pub(super) fn shape(self, field: &str) -> Shape<'a> {
        match self {
            Self::BuiltIn { .. } => self.built_in_shape(field),
            Self::Schema { schema, .. } => schema
                .and_then(|schema| schema.field(field))
                .map_or(Shape::Plain, Schema::shape),
        }
    }

    /// The same by the table.
    pub(super) fn built_in_shape(self, field: &str) -> Shape<'static> {
        let Self::BuiltIn { kind, around } = self else {
            return Shape::Plain;
        };
        let is_around = |wanted: &str| match wanted.split_once('.') {
            Some((of, field)) => of == kind && field == around,
            None => wanted.is_empty() || wanted == around,
        };
        FIELDS
            .iter()
            .find(|(wanted, name, _)| *name == field && is_around(wanted))
            .map_or(Shape::Plain, |(_, _, shape)| *shape)
    }
}

const METADATA: &str = "metadata";
