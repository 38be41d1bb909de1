//! The schemas of the built-in kinds, as OpenAPI tells them: generated from the very types that decode
//! and validate a request, so that they cannot promise another field.
//!
//! Names, fields, descriptions and required fields come with the types; how fields merge is added from
//! the table that patches and applies use (`merge_keys`). The form is that of a JSON schema with
//! Kubernetes' extensions, references as `#/components/schemas/…`; the API server turns it into the
//! two dialects.

use std::collections::{BTreeMap, BTreeSet};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::kinds::ResourceInfo;
use super::merge_keys::{Place, Shape};
use super::strategy::SchemaOf;

/// Where a reference points to.
pub const REFERENCE: &str = "#/components/schemas/";

/// Fields of which a client that patches keeps only what it names (`$retainKeys`), so that what
/// belonged to another choice does not stay beside it.
const RETAINED: [&str; 3] = ["volumes", "strategy", "resourceClaimStatuses"];

/// Types whose `name` may be left out, for the sake of old objects; here it is a plain string.
const NAMELESS: [&str; 8] = [
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "LocalObjectReference",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
];

/// Types that are one value wherever they stand, beyond those that a field's row says it of.
const WHOLE: [&str; 14] = [
    "core.v1.EndpointAddress",
    "core.v1.EndpointPort",
    "core.v1.FileKeySelector",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelectorTerm",
    "core.v1.ObjectReference",
    "core.v1.SecretReference",
    "core.v1.TopologySelectorTerm",
    "core.v1.TypedLocalObjectReference",
    "discovery.v1.EndpointPort",
    "networking.v1.ServiceBackendPort",
    "rbac.v1.RoleRef",
    "rbac.v1.Subject",
    "autoscaling.v1.CrossVersionObjectReference",
];

/// A kind and the type that its schema is made of.
pub(crate) struct Typed {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) schema: SchemaOf,
}

impl Typed {
    pub(crate) fn of_row(row: &ResourceInfo) -> Self {
        Self {
            group: row.group,
            version: row.version,
            kind: row.kind,
            schema: row.hooks.schema,
        }
    }
}

/// The schemas of some kinds and of all that is in them.
#[derive(Debug, Default)]
pub struct Schemas {
    /// By name: `io.k8s.api.core.v1.Pod`.
    pub definitions: BTreeMap<String, Value>,
    /// The name of each kind's schema, in the order in which they were asked for.
    pub names: Vec<String>,
}

/// The schemas of these kinds.
pub(crate) fn of(kinds: &[Typed]) -> Schemas {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let names: Vec<String> = kinds
        .iter()
        .map(|kind| {
            let reference = (kind.schema)(&mut generator).to_value();
            target(&reference).unwrap_or_default().to_owned()
        })
        .collect();
    let mut definitions: BTreeMap<String, Value> =
        generator.take_definitions(false).into_iter().collect();
    for (name, definition) in &mut definitions {
        normalize(definition);
        mend(name, definition);
    }
    let mut merges = BTreeMap::new();
    for (kind, name) in kinds.iter().zip(&names) {
        collect_merges(&definitions, Place::root(kind.kind), name, &mut merges);
    }
    for (field, shape) in merges {
        annotate(&mut definitions, &field, shape);
    }
    for (kind, name) in kinds.iter().zip(&names) {
        if let Some(definition) = definitions.get_mut(name) {
            name_kind(kind, definition);
        }
    }
    Schemas { definitions, names }
}

/// Which kind a schema is of; also adds the two fields that say so.
fn name_kind(kind: &Typed, definition: &mut Value) {
    let kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    definition["x-kubernetes-group-version-kind"] = json!([kind]);
    let Some(properties) = definition["properties"].as_object_mut() else {
        return;
    };
    for (name, description) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let field = json!({"type": "string", "description": description});
        properties.entry(name).or_insert(field);
    }
}

pub(super) const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
pub(super) const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The name that a schema refers to.
pub fn target(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(REFERENCE)
}

/// Drops what generated schemas have and Kubernetes' have not: `null` as a type, defaults that are
/// the empty value, unsigned formats.
fn normalize(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("default");
            if let Some(Value::Array(kinds)) = fields.get("type") {
                let kind = kinds.iter().find(|kind| *kind != "null").cloned();
                fields.insert("type".to_owned(), kind.unwrap_or_default());
            }
            let is_unsigned = matches!(
                fields.get("format").and_then(Value::as_str),
                Some("uint64" | "uint32")
            );
            if is_unsigned {
                fields.insert("format".to_owned(), "int64".into());
            }
            fields.remove("nullable");
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null" && choice["const"] != Value::Null);
                if let [only] = &mut choices[..]
                    && let Value::Object(only) = only.take()
                {
                    fields.remove("anyOf");
                    fields.extend(only);
                }
            }
            for (name, inner) in fields.iter_mut() {
                match inner {
                    // The names below are those of fields, not words of a schema.
                    Value::Object(fields) if name == "properties" => {
                        fields.values_mut().for_each(normalize);
                    }
                    inner => normalize(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalize),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Says what Kubernetes' types say of themselves and the generated schemas do not.
fn mend(name: &str, definition: &mut Value) {
    let api = name.strip_prefix("io.k8s.api.");
    let is_whole = api.is_some_and(|name| WHOLE.contains(&name)) || name == OWNER_REFERENCE;
    if is_whole {
        definition["x-kubernetes-map-type"] = "atomic".into();
    }
    let core = api.and_then(|name| name.strip_prefix("core.v1."));
    let is_nameless = core.is_some_and(|name| NAMELESS.contains(&name));
    let Some(required) = definition["required"].as_array_mut() else {
        return;
    };
    required.retain(|field| field != "metadata" && !(is_nameless && field == "name"));
    if required.is_empty()
        && let Some(definition) = definition.as_object_mut()
    {
        definition.remove("required");
    }
}

/// A field of a definition: (definition, field).
type Field = (String, String);

/// Walks a kind as an object of it is walked, and notes how each field merges.
fn collect_merges(
    definitions: &BTreeMap<String, Value>,
    root: Place<'_>,
    name: &str,
    merges: &mut BTreeMap<Field, Shape<'static>>,
) {
    let mut seen: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut pending = vec![(name, root)];
    while let Some((name, place)) = pending.pop() {
        let Some((name, definition)) = definitions.get_key_value(name) else {
            continue;
        };
        if !seen.insert((name.as_str(), place.field().to_owned())) {
            continue;
        }
        for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
            let shape = place.built_in_shape(field);
            merges.entry((name.clone(), field.clone())).or_insert(shape);
            let inner = [
                target(schema),
                target(&schema["items"]),
                target(&schema["additionalProperties"]),
            ];
            for name in inner.into_iter().flatten() {
                pending.push((name, place.inside(field)));
            }
        }
    }
}

/// Writes down how one field merges.
fn annotate(
    definitions: &mut BTreeMap<String, Value>,
    (name, field): &Field,
    shape: Shape<'static>,
) {
    let Some(schema) = definitions
        .get_mut(name)
        .and_then(|definition| definition.get_mut("properties")?.get_mut(field))
    else {
        return;
    };
    if schema["type"] == "array" {
        annotate_list(schema, shape);
    } else if shape == Shape::Atomic {
        // What is one value wherever it stands says so of itself.
        match target(schema).map(str::to_owned) {
            Some(name) => {
                if let Some(definition) = definitions.get_mut(&name) {
                    definition["x-kubernetes-map-type"] = "atomic".into();
                }
                return;
            }
            None => schema["x-kubernetes-map-type"] = "atomic".into(),
        }
    }
    if RETAINED.contains(&field.as_str())
        && let Some(schema) = definitions
            .get_mut(name)
            .and_then(|definition| definition.get_mut("properties")?.get_mut(field))
        && (schema["type"] == "array" || target(schema).is_some())
    {
        let strategy = match schema["x-kubernetes-patch-strategy"].as_str() {
            Some(strategy) => format!("{strategy},retainKeys"),
            None => "retainKeys".to_owned(),
        };
        schema["x-kubernetes-patch-strategy"] = strategy.into();
    }
}

fn annotate_list(schema: &mut Value, shape: Shape<'static>) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    let mut put = |name: &str, value: Value| schema.insert(format!("x-kubernetes-{name}"), value);
    match shape {
        Shape::Plain | Shape::Atomic => {
            put("list-type", "atomic".into());
        }
        Shape::Set { is_patched } => {
            put("list-type", "set".into());
            if is_patched {
                put("patch-strategy", "merge".into());
            }
        }
        Shape::Items { keys, .. } => {
            let keys: Vec<&str> = keys.names().collect();
            put("list-type", "map".into());
            put("patch-strategy", "merge".into());
            put("patch-merge-key", keys[0].into());
            put("list-map-keys", keys.into());
        }
        Shape::PatchOnly(key) => {
            put("list-type", "atomic".into());
            put("patch-strategy", "merge".into());
            put("patch-merge-key", key.into());
        }
    }
}

/// Names that a definition refers to, all the way down.
pub fn closure<'a>(
    definitions: &'a BTreeMap<String, Value>,
    names: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<&'a str, &'a Value> {
    let mut found = BTreeMap::new();
    let mut pending: Vec<&str> = names.into_iter().collect();
    while let Some(name) = pending.pop() {
        let Some((name, definition)) = definitions.get_key_value(name) else {
            continue;
        };
        if found.insert(name.as_str(), definition).is_none() {
            references(definition, &mut pending);
        }
    }
    found
}

fn references<'a>(schema: &'a Value, into: &mut Vec<&'a str>) {
    into.extend(target(schema));
    match schema {
        Value::Object(fields) => fields.values().for_each(|value| references(value, into)),
        Value::Array(items) => items.iter().for_each(|value| references(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The schema of a list of a kind.
pub fn list_of(row: &ResourceInfo, item: &str) -> Value {
    let field = |description: &str| json!({"type": "string", "description": description});
    let mut properties = Map::new();
    properties.insert("apiVersion".to_owned(), field(API_VERSION));
    properties.insert("kind".to_owned(), field(KIND));
    properties.insert(
        "items".to_owned(),
        json!({"type": "array", "items": {"$ref": format!("{REFERENCE}{item}")}}),
    );
    properties.insert(
        "metadata".to_owned(),
        json!({"$ref": format!("{REFERENCE}{LIST_META}")}),
    );
    json!({
        "description": format!("{}List is a list of {}", row.kind, row.kind),
        "type": "object",
        "required": ["items"],
        "properties": properties,
        "x-kubernetes-group-version-kind": [{
            "group": row.group, "version": row.version, "kind": row.list_kind(),
        }],
    })
}

const OWNER_REFERENCE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference";

/// The name of the metadata of lists.
pub const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

#[cfg(test)]
mod tests;
