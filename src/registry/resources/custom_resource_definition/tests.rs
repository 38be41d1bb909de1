//! What a definition may not say.

use super::super::check;
use super::*;

#[test]
fn a_built_in_kind_is_not_defined_again() {
    let mut object = CustomResourceDefinition::sample();
    object["metadata"]["name"] = "modules.wasmorch.dev".into();
    object["spec"]["group"] = "wasmorch.dev".into();
    object["spec"]["names"] = json!({"plural": "modules", "kind": "Other"});
    let definition: CustomResourceDefinition = serde_json::from_value(object).unwrap();
    let mut errors = Errors::default();
    definition.validate(&mut errors);
    let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        ["metadata.name: Invalid value: \"modules.wasmorch.dev\": is the name of a built-in kind"]
    );
}

#[test]
fn names_and_versions_are_judged() {
    let check = check::<CustomResourceDefinition>;
    check("/spec/scope", &json!("Cluster"), &[]);
    check(
        "/spec/scope",
        &json!("World"),
        &[
            "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\"",
        ],
    );
    check(
        "/metadata/name",
        &json!("other"),
        &["metadata.name: Invalid value: \"other\": must be spec.names.plural+\".\"+spec.group"],
    );
    check(
        "/spec/conversion",
        &json!({"strategy": "Webhook"}),
        &[
            "spec.conversion: Forbidden: wasmorch does not honour this field: webhooks are not called; use the strategy None, with versions that differ in name only",
        ],
    );
    check(
        "/spec/versions/0/storage",
        &json!(false),
        &[
            "spec.versions: Invalid value: [\"v1\"]: must have exactly one version marked as storage version",
        ],
    );
    check(
        "/spec/versions/0/schema",
        &json!({}),
        &["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"],
    );
    check(
        "/spec/versions/0/schema/openAPIV3Schema",
        &json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.x > 1"}]}),
        &[
            "spec.versions[0].schema.openAPIV3Schema.x-kubernetes-validations: Forbidden: wasmorch does not honour this field: rules in CEL are not evaluated; remove them, or annotate the definition with wasmorch.dev/unchecked-rules: \"true\" to have the kind without them",
        ],
    );
    check(
        "/spec/versions/0/additionalPrinterColumns",
        &json!([{"name": "A", "type": "string", "jsonPath": "spec"}]),
        &[
            "spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value: \"spec\": must be a simple json path starting with .: unrecognized character in action: \"spec\"",
        ],
    );
    check(
        "/spec/versions/0/subresources",
        &json!({"scale": {"specReplicasPath": ".status.n", "statusReplicasPath": ".status.n"}}),
        &[
            "spec.versions[0].subresources.scale.specReplicasPath: Invalid value: \".status.n\": should be a json path under .spec",
        ],
    );
}

#[test]
fn what_a_definition_brings_is_bounded() {
    let many = |count: usize| (0..count).map(|number| format!("n{number}"));
    let short: Vec<String> = many(65).collect();
    check::<CustomResourceDefinition>(
        "/spec/names/shortNames",
        &json!(short),
        &["spec.names.shortNames: Too many: 65: must have at most 64 items"],
    );
    let schema = |count: usize, pattern: &str| {
        let fields = many(count).map(|name| (name, json!({"type": "string", "pattern": pattern})));
        json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": fields.collect::<serde_json::Map<_, _>>()}}})
    };
    let pointer = "/spec/versions/0/schema/openAPIV3Schema";
    let quantity = "^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$";
    check::<CustomResourceDefinition>(pointer, &schema(1000, quantity), &[]);
    let large = "\\w{10}";
    check::<CustomResourceDefinition>(pointer, &schema(1, large), &[]);
    check::<CustomResourceDefinition>(
        pointer,
        &schema(1000, large),
        &[
            "spec.versions[0].schema.openAPIV3Schema: Forbidden: it has 1000 patterns, each of which may take 134217 bytes when compiled; \"\\\\w{10}\" takes more",
        ],
    );
}
