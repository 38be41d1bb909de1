//! What the schema in a definition must be like: structural, as Kubernetes calls it.
//!
//! Every field's type is said once, outside of `allOf`, `anyOf`, `oneOf` and `not`, so that what is
//! pruned and defaulted is clear; what those say is about values alone. What could cost a server too
//! much (patterns, depth) is bounded here, when a kind is defined, rather than for each object.

mod patterns;

use serde_json::Value;

use super::schema::{self, DEPTH, Schema};
use super::{prune, validate};
use crate::registry::field_error::Errors;
use crate::registry::path::Path;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const RULES: &str = "x-kubernetes-validations";
const HINT: &str = "rules in CEL are not evaluated; remove them, or annotate the definition with wasmorch.dev/unchecked-rules: \"true\" to have the kind without them";
const JUNCTORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// What says more than which values are good.
const STRUCTURAL: [&str; 11] = [
    "title",
    "description",
    "type",
    "default",
    "additionalProperties",
    "nullable",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

/// What a schema describes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Root,
    Field,
    Item,
}

/// Judges the schema of one version.
pub(crate) fn check(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    node(schema, path, (Of::Root, 0), errors);
    patterns::check(schema, path, errors);
    let metadata = &schema["properties"]["metadata"];
    if let Some(fields) = metadata["properties"].as_object()
        && fields
            .keys()
            .any(|name| name != "name" && name != "generateName")
    {
        errors.forbidden(
            &path.field("properties").key("metadata"),
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        );
    }
}

fn node(schema: &Value, path: &Path<'_>, (of, depth): (Of, usize), errors: &mut Errors) {
    if depth >= DEPTH {
        errors.forbidden(
            path,
            &format!("a schema may be at most {DEPTH} levels deep"),
        );
        return;
    }
    types(schema, path, of, errors);
    unsupported(schema, path, errors);
    lists(schema, path, errors);
    let properties = path.field("properties");
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        node(
            schema,
            &properties.key(name),
            (Of::Field, depth + 1),
            errors,
        );
    }
    if schema["additionalProperties"].is_object() {
        let at = path.field("additionalProperties");
        node(
            &schema["additionalProperties"],
            &at,
            (Of::Field, depth + 1),
            errors,
        );
    }
    if schema["items"].is_object() {
        let at = path.field("items");
        node(&schema["items"], &at, (Of::Item, depth + 1), errors);
    }
    junctors(schema, schema, path, depth, errors);
    default(schema, path, errors);
}

fn types(schema: &Value, path: &Path<'_>, of: Of, errors: &mut Errors) {
    let flag = |name: &str| schema[name] == true;
    let at = path.field("type");
    let kind = schema["type"].as_str().unwrap_or_default();
    let is_either = flag("x-kubernetes-int-or-string");
    let is_free = flag("x-kubernetes-preserve-unknown-fields");
    match (of, kind) {
        (Of::Root, "") => errors.required(&at, "must not be empty at the root"),
        (Of::Root, "object") => {}
        (Of::Root, kind) => errors.invalid(&at, kind, "must be object at the root"),
        (_, "") if is_either || is_free => {}
        (Of::Field, "") => errors.required(&at, "must not be empty for specified object fields"),
        (Of::Item, "") => errors.required(&at, "must not be empty for specified array items"),
        (Of::Field | Of::Item, kind) if is_either => errors.invalid(
            &at,
            kind,
            "must be empty if x-kubernetes-int-or-string is true",
        ),
        (Of::Field | Of::Item, kind) => errors.one_of(&at, Some(kind), &TYPES),
    }
    if of == Of::Root && flag("nullable") {
        errors.forbidden(
            &path.field("nullable"),
            "nullable cannot be true at the root",
        );
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        errors.invalid(
            &path.field("x-kubernetes-preserve-unknown-fields"),
            false,
            "must be true or undefined",
        );
    }
    if flag("x-kubernetes-embedded-resource") {
        if kind != "object" {
            errors.invalid(
                &at,
                kind,
                "must be object if x-kubernetes-embedded-resource is true",
            );
        }
        if !is_free
            && schema["properties"]
                .as_object()
                .is_none_or(serde_json::Map::is_empty)
        {
            errors.required(
                &path.field("properties"),
                "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            );
        }
    }
    if kind == "array" && schema.get("items").is_none() {
        errors.required(&path.field("items"), "must be specified");
    }
}

/// Words of JSON schema that Kubernetes has not, and those that wasmorch has not.
fn unsupported(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    for name in [
        "id",
        "$schema",
        "$ref",
        "definitions",
        "dependencies",
        "patternProperties",
        "additionalItems",
    ] {
        if schema.get(name).is_some_and(|value| !value.is_null()) {
            errors.forbidden(&path.field(name), &format!("{name} is not supported"));
        }
    }
    if schema["uniqueItems"] == true {
        errors.forbidden(
            &path.field("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    let additional = path.field("additionalProperties");
    match &schema["additionalProperties"] {
        Value::Null => {}
        Value::Bool(false) => {
            errors.forbidden(&additional, "additionalProperties cannot be set to false");
        }
        _ if schema["properties"]
            .as_object()
            .is_some_and(|it| !it.is_empty()) =>
        {
            errors.forbidden(
                &additional,
                "additionalProperties and properties are mutual exclusive",
            );
        }
        _ => {}
    }
    if schema["items"].is_array() {
        errors.forbidden(
            &path.field("items"),
            "items must be a schema object and not an array",
        );
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(error) = schema::compile(pattern)
    {
        let error = error.to_string();
        let error: Vec<&str> = error.split_whitespace().collect();
        let error = error.join(" ");
        errors.invalid(
            &path.field("pattern"),
            pattern,
            &format!("must be a valid regular expression, but isn't: {error}"),
        );
    }
}

/// Rules in CEL, wherever they are in a schema.
pub(crate) fn check_rules(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    errors.not_honoured(&path.field(RULES), has_rules_itself(schema), HINT);
    let properties = path.field("properties");
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        check_rules(schema, &properties.key(name), errors);
    }
    for name in ["items", "additionalProperties", "not"] {
        if schema[name].is_object() {
            check_rules(&schema[name], &path.field(name), errors);
        }
    }
    for name in JUNCTORS {
        for (index, inner) in schema[name].as_array().into_iter().flatten().enumerate() {
            check_rules(inner, &path.field(name).index(index), errors);
        }
    }
}

fn has_rules_itself(schema: &Value) -> bool {
    schema[RULES]
        .as_array()
        .is_some_and(|rules| !rules.is_empty())
}

fn lists(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.field("x-kubernetes-list-type");
    let kind = schema["x-kubernetes-list-type"].as_str();
    errors.one_of(&at, kind, &["atomic", "set", "map"]);
    if kind.is_some() && schema["type"] != "array" {
        errors.invalid(
            &path.field("type"),
            schema["type"].as_str().unwrap_or_default(),
            "must be array if x-kubernetes-list-type is specified",
        );
    }
    let map_type = schema["x-kubernetes-map-type"].as_str();
    errors.one_of(
        &path.field("x-kubernetes-map-type"),
        map_type,
        &["granular", "atomic"],
    );
    let at = path.field("x-kubernetes-list-map-keys");
    let keys = schema["x-kubernetes-list-map-keys"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if kind != Some("map") {
        if !keys.is_empty() {
            errors.forbidden(
                &at,
                "must not be specified if x-kubernetes-list-type is not map",
            );
        }
        return;
    }
    if keys.is_empty() {
        errors.required(&at, "must not be empty if x-kubernetes-list-type is map");
    }
    let items = &schema["items"];
    let required = items["required"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match items["properties"].get(name) {
            None => errors.invalid(
                &at.index(index),
                name,
                "entries must all be names of item properties",
            ),
            Some(property) if property.get("default").is_none() && !required.contains(key) => {
                let at = path
                    .field("items")
                    .field("properties")
                    .key(name)
                    .to_string();
                errors.required(
                    &Path::Root.field(&at).field("default"),
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                );
            }
            Some(_) => {}
        }
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not` of `schema` speak of values of `structure` alone.
fn junctors(schema: &Value, structure: &Value, path: &Path<'_>, depth: usize, errors: &mut Errors) {
    for name in JUNCTORS {
        let at = path.field(name);
        for (index, inner) in schema[name].as_array().into_iter().flatten().enumerate() {
            junctor(inner, structure, &at.index(index), depth + 1, errors);
        }
    }
    if schema["not"].is_object() {
        junctor(
            &schema["not"],
            structure,
            &path.field("not"),
            depth + 1,
            errors,
        );
    }
}

fn junctor(schema: &Value, structure: &Value, path: &Path<'_>, depth: usize, errors: &mut Errors) {
    if depth >= DEPTH {
        errors.forbidden(
            path,
            &format!("a schema may be at most {DEPTH} levels deep"),
        );
        return;
    }
    // "An integer or a text" is spelt with types in `anyOf` beside the flag that says so.
    let is_either = structure["x-kubernetes-int-or-string"] == true;
    for name in STRUCTURAL {
        let is_said = schema
            .get(name)
            .is_some_and(|value| !value.is_null() && value != false);
        if is_said && !(is_either && name == "type") {
            errors.forbidden(&path.field(name), "must be empty to be structural");
        }
    }
    unsupported(schema, path, errors);
    let properties = path.field("properties");
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let at = properties.key(name);
        match structure["properties"].get(name) {
            Some(structure) => junctor(inner, structure, &at, depth + 1, errors),
            None if matches!(name.as_str(), "metadata" | "apiVersion" | "kind") => {}
            None => errors.required(
                &at,
                "because it is mentioned here, it must be specified outside of allOf, anyOf, oneOf and not",
            ),
        }
    }
    if schema["items"].is_object() && structure["items"].is_object() {
        let at = path.field("items");
        junctor(
            &schema["items"],
            &structure["items"],
            &at,
            depth + 1,
            errors,
        );
    }
    junctors(schema, structure, path, depth, errors);
}

/// A default must be what the schema asks for.
fn default(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(default) = schema.get("default").filter(|it| !it.is_null()) else {
        return;
    };
    let compiled = Schema::compile(schema);
    let at = path.field("default");
    if let Value::Object(fields) = default {
        let (mut fields, mut unknown) = (fields.clone(), Vec::new());
        prune::prune(&compiled, &mut fields, &mut unknown);
        if !unknown.is_empty() {
            errors.invalid_json(&at, default, "must not have unknown fields");
        }
        prune::default(&compiled, &mut fields);
        validate::validate_value(&compiled, &Value::Object(fields), &at, errors);
    } else {
        validate::validate_value(&compiled, default, &at, errors);
    }
}

#[cfg(test)]
mod tests;
