//! Complaints in Kubernetes' words.

use super::*;
use serde_json::json;

fn check(field: &Value, value: &Value, expected: &[&str]) {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": field}}}});
    let schema = Schema::compile(&schema);
    let object = json!({"spec": {"x": value}});
    let mut errors = Errors::default();
    let metadata = json!({"name": "a"});
    validate_object(&schema, object.as_object().unwrap(), &metadata, &mut errors);
    let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{field} {value}");
}

#[test]
fn complaints_are_kubernetes_own() {
    let string = json!({"type": "string"});
    check(&string, &json!("a"), &[]);
    check(
        &string,
        &json!(5),
        &["spec.x: Invalid value: \"integer\": spec.x in body must be of type string: \"integer\""],
    );
    check(
        &string,
        &json!(null),
        &["spec.x: Invalid value: \"null\": spec.x in body must be of type string: \"null\""],
    );
    check(
        &json!({"type": "string", "nullable": true}),
        &json!(null),
        &[],
    );
    check(&json!({"type": "integer"}), &json!(1.0), &[]);
    check(
        &json!({"type": "string", "enum": ["a", "b"]}),
        &json!("c"),
        &["spec.x: Unsupported value: \"c\": supported values: \"a\", \"b\""],
    );
    check(
        &json!({"type": "string", "pattern": "^a+$"}),
        &json!("b"),
        &["spec.x: Invalid value: \"b\": spec.x in body should match '^a+$'"],
    );
    check(
        &json!({"type": "string", "maxLength": 1, "format": "ipv4"}),
        &json!("b1"),
        &[
            "spec.x: Too long: may not be more than 1 bytes",
            "spec.x: Invalid value: \"b1\": spec.x in body must be of type ipv4: \"b1\"",
        ],
    );
    check(
        &json!({"type": "integer", "minimum": 1, "maximum": 10}),
        &json!(0),
        &["spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1"],
    );
    check(
        &json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true, "multipleOf": 0.1}),
        &json!(1.5),
        &["spec.x: Invalid value: 1.5: spec.x in body should be less than 1.5"],
    );
    check(
        &json!({"type": "array", "maxItems": 1, "items": {"type": "integer"}}),
        &json!([1, "a"]),
        &[
            "spec.x[1]: Invalid value: \"string\": spec.x[1] in body must be of type integer: \"string\"",
            "spec.x: Too many: 2: must have at most 1 items",
        ],
    );
    check(
        &json!({"type": "object", "required": ["a"], "additionalProperties": string}),
        &json!({"k": 1}),
        &[
            "spec.x.k: Invalid value: \"integer\": spec.x.k in body must be of type string: \"integer\"",
            "spec.x.a: Required value",
        ],
    );
    check(
        &json!({"x-kubernetes-int-or-string": true}),
        &json!("a"),
        &[],
    );
    check(
        &json!({"x-kubernetes-int-or-string": true}),
        &json!(true),
        &[
            "spec.x: Invalid value: \"boolean\": spec.x in body must be of type integer,string: \"boolean\"",
        ],
    );
}

#[test]
fn choices_and_lists() {
    let one_of = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    check(&one_of, &json!({"a": "x"}), &[]);
    check(
        &one_of,
        &json!({}),
        &[
            "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found none valid",
        ],
    );
    check(
        &one_of,
        &json!({"a": "x", "b": "y"}),
        &[
            "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ],
    );
    let set =
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"});
    check(
        &set,
        &json!(["a", "b", "a"]),
        &["spec.x[2]: Duplicate value: \"a\""],
    );
    let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
        "items": {"type": "object", "properties": {"n": {"type": "string"}}}});
    check(
        &map,
        &json!([{"n": "a"}, {"n": "a"}]),
        &["spec.x[1]: Duplicate value: {\"n\":\"a\"}"],
    );
}

#[test]
fn the_list_of_complaints_ends() {
    let schema = Schema::compile(&json!({"type": "array", "items": {"type": "string"}}));
    let mut errors = Errors::default();
    let value = json!(vec![1; 10_000]);
    validate_value(&schema, &value, &Path::Root.field("x"), &mut errors);
    assert_eq!(errors.0.len(), MOST);
}
