//! The operations on a kind, in both dialects of OpenAPI: the same facts, differently spelt.

use serde_json::{Value, json};

use crate::registry::ResourceInfo;

use super::{group_version_kind, root, schema_name};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

/// Query parameters of every write; kubectl looks for each of them by name.
const WRITE_PARAMETERS: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
const PATCH_TYPES: [&str; 3] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
];

/// Path → its operations.
pub(super) fn paths(resource: &ResourceInfo, dialect: Dialect) -> Vec<(String, Value)> {
    let base = format!("/{}", root(resource));
    let collection = if resource.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{base}/{}", resource.plural)
    };
    let in_path = |names: &[&str]| -> Value {
        let mut names = names.to_vec();
        if resource.namespaced {
            names.push("namespace");
        }
        names
            .into_iter()
            .map(|name| parameter(name, "path", dialect))
            .collect()
    };
    let operation = |verb: &str, action: &str| operation(resource, verb, action, dialect);
    let item = format!("{collection}/{{name}}");
    let mut paths = vec![
        (
            collection,
            json!({
                "get": operation("list", "list"),
                "post": operation("create", "post"),
                "delete": operation("deleteCollection", "deletecollection"),
                "parameters": in_path(&[]),
            }),
        ),
        (
            item,
            json!({
                "get": operation("read", "get"),
                "put": operation("replace", "put"),
                "patch": operation("patch", "patch"),
                "delete": operation("delete", "delete"),
                "parameters": in_path(&["name"]),
            }),
        ),
    ];
    if resource.namespaced {
        paths.push((
            format!("{base}/{}", resource.plural),
            json!({"get": operation("listAllNamespaces", "list")}),
        ));
    }
    paths
}

fn operation(resource: &ResourceInfo, verb: &str, action: &str, dialect: Dialect) -> Value {
    let name = schema_name(resource);
    let reference = match dialect {
        Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
        Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
    };
    let ok = match dialect {
        Dialect::V2 => json!({"description": "OK", "schema": reference}),
        Dialect::V3 => json!({
            "description": "OK",
            "content": {"application/json": {"schema": reference}},
        }),
    };
    let identifier = format!(
        "{verb}{}{}{}",
        capital(resource.group.split('.').next().unwrap_or_default()),
        capital(resource.version),
        resource.kind
    );
    let mut operation = json!({
        "operationId": identifier,
        "responses": {"200": ok},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(resource),
    });
    let is_write = matches!(action, "post" | "put" | "patch");
    let mut parameters: Vec<Value> = Vec::new();
    if is_write {
        parameters.extend(
            WRITE_PARAMETERS
                .iter()
                .map(|name| parameter(name, "query", dialect)),
        );
        if action == "patch" {
            parameters.push(parameter("force", "query", dialect));
        }
    } else if action == "delete" {
        parameters.push(parameter("dryRun", "query", dialect));
    }
    let types: &[&str] = match action {
        "patch" => &PATCH_TYPES,
        _ => &["application/json", "application/yaml"],
    };
    match dialect {
        Dialect::V2 => {
            operation["produces"] = json!(["application/json"]);
            if is_write {
                operation["consumes"] = json!(types);
                parameters.push(json!({
                    "name": "body", "in": "body", "required": true, "schema": reference,
                }));
            }
        }
        Dialect::V3 if is_write => {
            let content: serde_json::Map<String, Value> = types
                .iter()
                .map(|media| ((*media).to_owned(), json!({"schema": reference})))
                .collect();
            operation["requestBody"] = json!({"required": true, "content": content});
        }
        Dialect::V3 => {}
    }
    operation["parameters"] = Value::Array(parameters);
    operation
}

fn parameter(name: &str, place: &str, dialect: Dialect) -> Value {
    let mut parameter = json!({"name": name, "in": place, "required": place == "path"});
    match dialect {
        Dialect::V2 => parameter["type"] = "string".into(),
        Dialect::V3 => parameter["schema"] = json!({"type": "string"}),
    }
    parameter
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_ascii_uppercase().to_string() + letters.as_str()
    })
}
