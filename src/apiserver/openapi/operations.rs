//! The operations on a kind, in both dialects of OpenAPI.
//!
//! kubectl looks here whether the server validates fields itself and can run dry, by the names of query
//! parameters, and whether a kind takes a strategic merge patch, by the types of bodies.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::apiserver::reviews::Review;
use crate::registry::schemas::LIST_META;

use super::dialect::Dialect;
use super::document::Kind;

/// Query parameters of every write; kubectl looks for each of them by name.
const WRITE_PARAMETERS: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
const LIST_PARAMETERS: [&str; 7] = [
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "timeoutSeconds",
    "watch",
];
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    STRATEGIC,
];

const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
/// Schemas of what operations take and answer beside the kinds themselves.
pub(super) const FURTHER: [&str; 1] = [SCALE];

/// The schemas of [`FURTHER`] and of what lists have in common.
pub(super) fn further_schemas() -> BTreeMap<String, Value> {
    use k8s_openapi::api::autoscaling::v1::Scale;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;

    let mut generator = schemars::generate::SchemaSettings::openapi3().into_generator();
    generator.subschema_for::<Scale>();
    generator.subschema_for::<ListMeta>();
    let mut schemas: BTreeMap<String, Value> = generator
        .take_definitions(false)
        .into_iter()
        .filter(|(name, _)| name == LIST_META || name.starts_with("io.k8s.api.autoscaling."))
        .collect();
    if let Some(scale) = schemas.get_mut(SCALE) {
        scale["x-kubernetes-group-version-kind"] =
            json!([{"group": "autoscaling", "version": "v1", "kind": "Scale"}]);
    }
    schemas
}

/// What an operation does to what.
struct Subject<'a> {
    /// (group, version, kind) that it belongs to.
    owner: (&'a str, &'a str, &'a str),
    is_custom: bool,
    /// The name of the schema of its body and answer.
    schema: &'a str,
    list: &'a str,
    /// (group, version, kind) of the body.
    kind: (&'a str, &'a str, &'a str),
    /// What its identifiers end with: `Status`, `Scale`.
    suffix: String,
    dialect: Dialect,
}

/// Path → its operations.
pub(super) fn paths(kind: &Kind, dialect: Dialect) -> Vec<(String, Value)> {
    let row = kind.row;
    let base = format!("/{}", kind.root());
    let collection = if row.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", row.plural)
    } else {
        format!("{base}/{}", row.plural)
    };
    let in_path = |names: &[&str]| -> Value {
        let mut names = names.to_vec();
        if row.namespaced {
            names.push("namespace");
        }
        names
            .into_iter()
            .map(|name| parameter(name, "path", dialect))
            .collect()
    };
    let subject = Subject {
        owner: (row.group, row.version, row.kind),
        is_custom: row.is_custom(),
        schema: &kind.schema,
        list: &kind.list,
        kind: (row.group, row.version, row.kind),
        suffix: String::new(),
        dialect,
    };
    let item = format!("{collection}/{{name}}");
    let mut all = json!({
        "get": subject.operation("list", "list"),
        "post": subject.operation("create", "post"),
        "parameters": in_path(&[]),
    });
    if row.verbs.contains(&"deletecollection") {
        all["delete"] = subject.operation("deleteCollection", "deletecollection");
    }
    let mut paths = vec![
        (collection, all),
        (
            item.clone(),
            json!({
                "get": subject.operation("read", "get"),
                "put": subject.operation("replace", "put"),
                "patch": subject.operation("patch", "patch"),
                "delete": subject.operation("delete", "delete"),
                "parameters": in_path(&["name"]),
            }),
        ),
    ];
    if row.namespaced {
        paths.push((
            format!("{base}/{}", row.plural),
            json!({"get": subject.operation("listAllNamespaces", "list")}),
        ));
    }
    for sub in row
        .subresources
        .iter()
        .filter(|sub| sub.verbs.contains(&"patch"))
    {
        let is_scale = sub.name == "scale";
        let subject = Subject {
            schema: if is_scale { SCALE } else { &kind.schema },
            kind: (sub.group, sub.version, sub.kind),
            suffix: capital(sub.name),
            ..subject
        };
        paths.push((
            format!("{item}/{}", sub.name),
            json!({
                "get": subject.operation("read", "get"),
                "put": subject.operation("replace", "put"),
                "patch": subject.operation("patch", "patch"),
                "parameters": in_path(&["name"]),
            }),
        ));
    }
    paths
}

/// The one operation on a review.
pub(super) fn review(review: &Review, schema: &str, dialect: Dialect) -> (String, Value) {
    let kind = (review.group, review.version, review.kind);
    let subject = Subject {
        owner: kind,
        is_custom: false,
        schema,
        list: schema,
        kind,
        suffix: String::new(),
        dialect,
    };
    let within = if review.namespaced {
        "namespaces/{namespace}/"
    } else {
        ""
    };
    let (group, version, plural) = (review.group, review.version, review.plural);
    let mut item = json!({"post": subject.operation("create", "post")});
    if review.namespaced {
        item["parameters"] = json!([parameter("namespace", "path", dialect)]);
    }
    (format!("/apis/{group}/{version}/{within}{plural}"), item)
}

impl Subject<'_> {
    fn operation(&self, verb: &str, action: &str) -> Value {
        let (group, version, kind) = self.kind;
        let (of_group, of_version, of_kind) = self.owner;
        let answer = if action == "list" {
            self.list
        } else {
            self.schema
        };
        let ok = match self.dialect {
            Dialect::V2 => json!({"description": "OK", "schema": self.dialect.reference(answer)}),
            Dialect::V3 => json!({
                "description": "OK",
                "content": {"application/json": {"schema": self.dialect.reference(answer)}},
            }),
        };
        let identifier = format!(
            "{verb}{}{}{}{}",
            capital(of_group.split('.').next().unwrap_or_default()),
            capital(of_version),
            of_kind,
            self.suffix,
        );
        let mut operation = json!({
            "operationId": identifier,
            "responses": {"200": ok},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let mut parameters: Vec<Value> = query_of(action)
            .map(|name| parameter(name, "query", self.dialect))
            .collect();
        self.bodies(action, &mut operation, &mut parameters);
        operation["parameters"] = Value::Array(parameters);
        operation
    }

    /// What the operation takes, and what it answers in.
    fn bodies(&self, action: &str, operation: &mut Value, parameters: &mut Vec<Value>) {
        let is_write = matches!(action, "post" | "put" | "patch");
        let types: Vec<&str> = match action {
            "patch" => PATCH_TYPES
                .into_iter()
                .filter(|media| !self.is_custom || *media != STRATEGIC)
                .collect(),
            _ => vec!["application/json", "application/yaml"],
        };
        let reference = self.dialect.reference(self.schema);
        match self.dialect {
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
                    .into_iter()
                    .map(|media| (media.to_owned(), json!({"schema": reference})))
                    .collect();
                operation["requestBody"] = json!({"required": true, "content": content});
            }
            Dialect::V3 => {}
        }
    }
}

/// The query parameters of an action.
fn query_of(action: &str) -> impl Iterator<Item = &'static str> {
    let (common, further): (&[&str], &[&str]) = match action {
        "patch" => (&WRITE_PARAMETERS, &["force"]),
        "post" | "put" => (&WRITE_PARAMETERS, &[]),
        "list" => (&LIST_PARAMETERS, &[]),
        "delete" | "deletecollection" => {
            (&[], &["dryRun", "gracePeriodSeconds", "propagationPolicy"])
        }
        _ => (&[], &[]),
    };
    common.iter().chain(further).copied()
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
