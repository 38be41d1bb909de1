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
const RETAINED: [&str; 2] = ["volumes", "strategy"];

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
    for definition in definitions.values_mut() {
        normalize(definition);
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
        Shape::Set => {
            put("list-type", "set".into());
            put("patch-strategy", "merge".into());
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

/// The name of the metadata of lists.
pub const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::TABLE;

    fn all() -> Schemas {
        let kinds: Vec<Typed> = TABLE.iter().map(Typed::of_row).collect();
        of(&kinds)
    }

    #[test]
    fn every_row_has_a_schema_with_described_fields_and_nothing_dangles() {
        let schemas = all();
        for (row, name) in TABLE.iter().zip(&schemas.names) {
            let schema = schemas.definitions.get(name);
            let schema = schema.unwrap_or_else(|| panic!("{row:?} has no schema"));
            assert!(schema["properties"]["metadata"].is_object(), "{name}");
            assert!(schema["description"].is_string(), "{name}");
            let kind = &schema["x-kubernetes-group-version-kind"][0];
            let own = json!({"group": row.group, "version": row.version, "kind": row.kind});
            assert_eq!(*kind, own, "{name}");
        }
        for schema in schemas.definitions.values() {
            let mut names = Vec::new();
            references(schema, &mut names);
            for name in names {
                assert!(schemas.definitions.contains_key(name), "{name}");
            }
            assert!(!schema.to_string().contains("\"null\""), "{schema}");
        }
    }

    /// A schema of schemas has fields that are called like words of a schema.
    #[test]
    fn fields_may_be_called_like_words_of_a_schema() {
        let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let properties = &all().definitions[name]["properties"];
        for field in [
            "default",
            "nullable",
            "anyOf",
            "type",
            "properties",
            "format",
        ] {
            assert!(properties[field].is_object(), "{field}");
        }
    }

    #[test]
    fn fields_merge_as_the_table_says() {
        let schemas = all();
        let field = |name: &str, field: &str| {
            schemas.definitions[&format!("io.k8s.api.{name}")]["properties"][field].clone()
        };
        let containers = field("core.v1.PodSpec", "containers");
        assert_eq!(containers["x-kubernetes-list-type"], "map");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
        let volumes = field("core.v1.PodSpec", "volumes");
        assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
        let ports = field("core.v1.ServiceSpec", "ports");
        assert_eq!(
            ports["x-kubernetes-list-map-keys"],
            json!(["port", "protocol"])
        );
        let tolerations = field("core.v1.PodSpec", "tolerations");
        assert_eq!(tolerations["x-kubernetes-list-type"], "atomic");
        let selector = field("core.v1.ServiceSpec", "selector");
        assert_eq!(selector["x-kubernetes-map-type"], "atomic");
        let name = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";
        assert_eq!(schemas.definitions[name]["x-kubernetes-map-type"], "atomic");
    }
}
