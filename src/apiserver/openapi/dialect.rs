//! The two dialects of OpenAPI: the same schemas, differently spelt.
//!
//! Version 2 has neither `oneOf` nor `nullable`, and kubectl reads it strictly: where a custom resource
//! keeps fields that its schema does not name, naming some would make kubectl refuse the others. Version
//! 3 may say everything, but a reference with anything beside it must be wrapped in `allOf`.

use serde_json::{Map, Value, json};

use crate::registry::schemas::{REFERENCE, target};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
/// Any JSON: defaults and examples in the schemas of custom resources.
const ANYTHING: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";
/// What version 2 cannot say.
const ONLY_V3: [&str; 5] = ["oneOf", "anyOf", "allOf", "not", "nullable"];

impl Dialect {
    /// A reference to a schema.
    pub(super) fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("{REFERENCE}{name}")}),
        }
    }
}

/// A named schema in one dialect.
pub(super) fn translate(name: &str, schema: &Value, dialect: Dialect) -> Value {
    let mut translated = node(schema, dialect);
    if name == ANYTHING
        && let Some(fields) = translated.as_object_mut()
    {
        // Without a type it is anything; with one, kubectl refuses a default that is a number.
        fields.remove("type");
    }
    // Two types of Kubernetes that JSON has no single type for.
    if let (INT_OR_STRING | QUANTITY, Some(fields)) = (name, translated.as_object_mut()) {
        fields.remove("x-kubernetes-int-or-string");
        if name == INT_OR_STRING {
            fields.insert("format".to_owned(), "int-or-string".into());
        }
        let other = if name == QUANTITY {
            "number"
        } else {
            "integer"
        };
        match dialect {
            Dialect::V2 => fields.insert("type".to_owned(), "string".into()),
            Dialect::V3 => fields.insert(
                "oneOf".to_owned(),
                json!([{"type": other}, {"type": "string"}]),
            ),
        };
    }
    translated
}

fn node(schema: &Value, dialect: Dialect) -> Value {
    let Value::Object(fields) = schema else {
        return schema.clone();
    };
    let mut translated = Map::new();
    for (name, value) in fields {
        let is_lost = dialect == Dialect::V2 && ONLY_V3.contains(&name.as_str());
        if name == "$ref" || is_lost {
            continue;
        }
        let value = match (name.as_str(), value) {
            ("properties", Value::Object(fields)) => Value::Object(
                fields
                    .iter()
                    .map(|(name, schema)| (name.clone(), node(schema, dialect)))
                    .collect(),
            ),
            ("items" | "additionalProperties" | "not", schema) => node(schema, dialect),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter().map(|schema| node(schema, dialect)).collect()
            }
            (_, value) => value.clone(),
        };
        translated.insert(name.clone(), value);
    }
    if let Some(name) = target(schema) {
        let reference = dialect.reference(name);
        if dialect == Dialect::V3 && !translated.is_empty() {
            translated.insert("allOf".to_owned(), json!([reference]));
        } else if let Value::Object(reference) = reference {
            translated.extend(reference);
        }
    }
    if dialect == Dialect::V2 {
        let is_free = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&true.into());
        let is_nullable = fields.get("nullable") == Some(&true.into());
        if is_free || is_nullable {
            for name in ["type", "properties", "items", "additionalProperties"] {
                translated.remove(name);
            }
        }
    }
    Value::Object(translated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_spells_it_its_way() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"$ref": "#/components/schemas/a.Spec", "description": "d"},
            "bare": {"$ref": "#/components/schemas/a.Spec"},
            "list": {"type": "array", "items": {"oneOf": [{"$ref": "#/components/schemas/b"}]}},
        }});
        assert_eq!(
            translate("x", &schema, Dialect::V2)["properties"],
            json!({"spec": {"$ref": "#/definitions/a.Spec", "description": "d"},
                "bare": {"$ref": "#/definitions/a.Spec"}, "list": {"type": "array", "items": {}}})
        );
        assert_eq!(
            translate("x", &schema, Dialect::V3)["properties"],
            json!({"spec": {"allOf": [{"$ref": "#/components/schemas/a.Spec"}], "description": "d"},
                "bare": {"$ref": "#/components/schemas/a.Spec"},
                "list": {"type": "array", "items": {"oneOf": [{"$ref": "#/components/schemas/b"}]}}})
        );
        assert_eq!(
            translate(ANYTHING, &json!({"type": "object"}), Dialect::V2),
            json!({})
        );
        let quantity = json!({"x-kubernetes-int-or-string": true});
        assert_eq!(
            translate(QUANTITY, &quantity, Dialect::V2),
            json!({"type": "string"})
        );
    }
}
