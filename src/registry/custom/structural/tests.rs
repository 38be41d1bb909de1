//! What is not structural, and what would cost too much.

use super::*;
use serde_json::json;

fn check_field(field: &Value, expected: &[&str]) {
    let schema = json!({"type": "object", "properties": {"x": field}});
    let mut errors = Errors::default();
    check(&schema, &Path::Root.field("s"), &mut errors);
    let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{field}");
}

#[test]
fn what_is_not_structural_is_named() {
    check_field(&json!({"type": "string"}), &[]);
    check_field(
        &json!({}),
        &["s.properties[x].type: Required value: must not be empty for specified object fields"],
    );
    check_field(
        &json!({"type": "text"}),
        &[
            "s.properties[x].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ],
    );
    check_field(
        &json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
        &[],
    );
    check_field(
        &json!({"type": "array"}),
        &["s.properties[x].items: Required value: must be specified"],
    );
    check_field(
        &json!({"type": "object", "oneOf": [{"description": "d", "required": ["a"], "properties": {"a": {"minimum": 1}}}]}),
        &[
            "s.properties[x].oneOf[0].description: Forbidden: must be empty to be structural",
            "s.properties[x].oneOf[0].properties[a]: Required value: because it is mentioned here, it must be specified outside of allOf, anyOf, oneOf and not",
        ],
    );
    check_field(
        &json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
        &[
            "s.properties[x].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ],
    );
    check_field(
        &json!({"$ref": "#/x", "type": "string"}),
        &["s.properties[x].$ref: Forbidden: $ref is not supported"],
    );
    check_field(
        &json!({"type": "integer", "default": "a"}),
        &[
            "s.properties[x].default: Invalid value: \"string\": s.properties[x].default in body must be of type integer: \"string\"",
        ],
    );
    check_field(
        &json!({"type": "object", "default": {"a": 1}}),
        &["s.properties[x].default: Invalid value: {\"a\":1}: must not have unknown fields"],
    );
    check_field(
        &json!({"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}},
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}),
        &[
            "s.properties[x].items.properties[n].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ],
    );
}

#[test]
fn what_would_cost_too_much_is_refused() {
    let mut deep = json!({"type": "string"});
    for _ in 0..DEPTH {
        deep = json!({"type": "object", "properties": {"d": deep}});
    }
    let mut errors = Errors::default();
    check(&deep, &Path::Root, &mut errors);
    assert_eq!(errors.0.len(), 1);
    assert!(errors.0[0].message.contains("levels deep"));
    for pattern in ["(", "(a{1000}){1000}", &"(".repeat(1000)] {
        let mut errors = Errors::default();
        let schema =
            json!({"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}});
        check(&schema, &Path::Root, &mut errors);
        assert_eq!(errors.0.len(), 1);
        assert!(
            errors.0[0]
                .message
                .contains("must be a valid regular expression")
        );
    }
}
