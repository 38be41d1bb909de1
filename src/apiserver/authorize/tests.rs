//! What `authorize` promises, case by case.

use super::components::{NODES, ROUTERS};
use super::*;

fn caller(user: &str, group: &str) -> Caller {
    Caller {
        user: user.to_owned(),
        groups: vec![group.to_owned(), "system:authenticated".to_owned()],
        ..Caller::default()
    }
}

/// `verb group/resource[/sub] namespace name`, `-` for nothing.
fn may(caller: &Caller, text: &str) -> bool {
    let parts: Vec<&str> = text.split(' ').collect();
    let (group, resource) = parts[1].split_once('/').unwrap();
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub)),
        None => (resource, None),
    };
    let wanted = Attributes {
        verb: parts[0],
        group,
        resource,
        subresource,
        namespace: Some(parts[2]).filter(|text| *text != "-"),
        name: Some(parts[3]).filter(|text| *text != "-"),
    };
    caller.is_master() || components::allows(caller, wanted)
}

#[test]
fn the_table_of_rights() {
    let admin = caller("admin", "system:masters");
    let node = caller("system:node:dev-1", NODES);
    let router = caller("system:router", ROUTERS);
    let cases = [
        (&admin, "delete /namespaces - a", true),
        (&admin, "create wasmorch.dev/uploads a -", true),
        (&node, "watch /pods - -", true),
        (&node, "get wasmorch.dev/modules/content a hello", true),
        (&node, "create wasmorch.dev/modules/content a hello", false),
        (&node, "patch /nodes/status - dev-1", true),
        (&node, "patch /nodes/status - dev-2", false),
        (&node, "create /nodes - -", true),
        (&node, "delete /nodes - dev-1", false),
        (
            &node,
            "update coordination.k8s.io/leases kube-node-lease dev-1",
            true,
        ),
        (
            &node,
            "update coordination.k8s.io/leases kube-node-lease dev-2",
            false,
        ),
        (&node, "patch /pods/status a x", true),
        (&node, "patch /pods a x", false),
        (&node, "delete /pods a x", true),
        (&node, "create /pods a -", false),
        (&node, "create /events a -", true),
        (&node, "create apps/deployments a -", false),
        (&router, "watch discovery.k8s.io/endpointslices - -", true),
        (&router, "get /secrets kube-system wasmorch-wire", true),
        (&router, "get /secrets default wasmorch-wire", false),
        (&router, "list /secrets kube-system -", false),
        (&router, "get /configmaps a x", false),
    ];
    for (who, what, expected) in cases {
        assert_eq!(may(who, what), expected, "{} {what}", who.user);
    }
}

#[test]
fn a_refusal_is_kubernetes_sentence() {
    let node = caller("system:node:dev-1", NODES);
    let wanted = Attributes {
        verb: "list",
        group: "apps",
        resource: "deployments",
        subresource: None,
        namespace: Some("ns"),
        name: None,
    };
    assert_eq!(
        refusal(&node, wanted, None),
        "deployments.apps is forbidden: User \"system:node:dev-1\" cannot list resource \"deployments\" in API group \"apps\" in the namespace \"ns\""
    );
}

#[test]
fn strangers_see_health_and_version_only() {
    for path in [
        "/version",
        "/healthz",
        "/readyz/store",
        "/cacerts",
        "/ui/index.html",
    ] {
        assert!(is_public(path), "{path}");
    }
    for path in ["/api", "/apis/apps/v1", "/metrics", "/openapi/v3"] {
        assert!(!is_public(path), "{path}");
    }
}
