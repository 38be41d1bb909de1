//! What `service` promises, case by case.

use super::super::check;
use super::*;

#[test]
fn shapes_are_checked() {
    let check = check::<Service>;
    check(
        "/spec/type",
        &json!("Magic"),
        &[
            "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
    check("/spec/ports", &json!([]), &["spec.ports: Required value"]);
    check(
        "/spec/ports",
        &json!([{"port": 1}, {"port": 2}]),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].name: Required value",
        ],
    );
    check(
        "/spec/ports",
        &json!([{"port": 1, "name": "a"}, {"port": 1, "name": "a"}]),
        &[
            "spec.ports[1].name: Duplicate value: \"a\"",
            "spec.ports[1]: Duplicate value: \"1/TCP\"",
        ],
    );
    check(
        "/spec/ports",
        &json!([{"port": 70000, "targetPort": "80"}]),
        &[
            "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: \"80\": must be an IANA service name: at most 15 characters, lower case alphanumeric or '-', with at least one letter, no '-' at either end and no '--'",
        ],
    );
    check(
        "/spec/ports",
        &json!([{"port": 80, "nodePort": 30000}]),
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    check(
        "/spec/ports",
        &json!([{"port": 80, "protocol": "SCTP"}]),
        &[
            "spec.ports[0].protocol: Unsupported value: \"SCTP\": supported values: \"TCP\", \"UDP\"",
        ],
    );
    check(
        "/spec/externalIPs",
        &json!(["1.2.3.4"]),
        &[
            "spec.externalIPs: Forbidden: wasmorch does not honour this field: use type NodePort or LoadBalancer",
        ],
    );
    check("/spec/sessionAffinity", &json!("ClientIP"), &[]);
}

#[test]
fn a_name_elsewhere_has_no_address() {
    let spec = json!({"type": "ExternalName", "externalName": "db.example"});
    check::<Service>("/spec", &spec, &[]);
    let spec = json!({"type": "ExternalName", "clusterIP": "10.43.0.5"});
    check::<Service>(
        "/spec",
        &spec,
        &[
            "spec.externalName: Required value",
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
        ],
    );
}
