//! What a definition may not say.

use super::super::check;
use super::*;

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
