//! What strategic patches come to, kind by kind.

use super::*;
use serde_json::json;

#[expect(clippy::needless_pass_by_value, reason = "takes what json! makes")]
fn check(kind: &str, object: Value, patch: Value, expected: Value) {
    assert_eq!(apply(kind, object, &patch), Ok(expected), "{patch}");
}

#[test]
fn lists_merge_by_their_keys() {
    let pod = json!({"spec": {"containers": [
        {"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}], "ports": [{"containerPort": 80}]}, {"name": "b"}]}});
    check(
        "Pod",
        pod.clone(),
        json!({"spec": {"containers": [{"name": "a", "image": "y", "env": [{"name": "L", "value": "2"}], "ports": [{"containerPort": 80, "name": "web"}]}, {"name": "c"}]}}),
        json!({"spec": {"containers": [
            {"name": "a", "image": "y", "env": [{"name": "K", "value": "1"}, {"name": "L", "value": "2"}], "ports": [{"containerPort": 80, "name": "web"}]}, {"name": "b"}, {"name": "c"}]}}),
    );
    check(
        "Pod",
        pod,
        json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "env": null, "ports": [{"$patch": "replace"}, {"containerPort": 90}]}]}}),
        json!({"spec": {"containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 90}]}]}}),
    );
    check(
        "Service",
        json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
        json!({"spec": {"ports": [{"port": 80, "name": "web"}, {"port": 443}]}}),
        json!({"spec": {"ports": [{"port": 80, "nodePort": 30000, "name": "web"}, {"port": 443}]}}),
    );
}

#[test]
fn other_lists_are_replaced() {
    check(
        "Node",
        json!({"spec": {"taints": [{"key": "a"}]}}),
        json!({"spec": {"taints": [{"key": "b"}]}}),
        json!({"spec": {"taints": [{"key": "b"}]}}),
    );
    check(
        "EndpointSlice",
        json!({"ports": [{"port": 1}]}),
        json!({"ports": [{"port": 2}]}),
        json!({"ports": [{"port": 2}]}),
    );
}

#[test]
fn directives() {
    check(
        "Deployment",
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"spec": {"strategy": {"type": "Recreate"}}}),
    );
    check(
        "ConfigMap",
        json!({"data": {"a": "1", "b": "2"}}),
        json!({"data": {"$patch": "replace", "c": "3"}}),
        json!({"data": {"c": "3"}}),
    );
    check(
        "ConfigMap",
        json!({"data": {"a": "1"}, "immutable": true}),
        json!({"data": {"$patch": "delete"}}),
        json!({"immutable": true}),
    );
    check(
        "Pod",
        json!({"metadata": {"finalizers": ["a/b", "c/d"]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["e/f", "c/d"]}}),
        json!({"metadata": {"finalizers": ["c/d", "e/f"]}}),
    );
}

#[test]
fn order_is_the_patchs_and_server_items_stay_in_place() {
    let items = |names: &[&str]| -> Value {
        let items: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"containers": items}})
    };
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}]}});
    check(
        "Pod",
        items(&["a", "server"]),
        patch,
        items(&["c", "a", "server"]),
    );
}

/// Minutes, if every item were compared with every other.
#[test]
fn long_lists_merge_in_a_moment() {
    let names: Vec<Value> = (0..200_000)
        .map(|number| json!(format!("f{number}")))
        .collect();
    let items: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    let reversed: Vec<&Value> = names.iter().rev().collect();
    check(
        "Pod",
        json!({"metadata": {"finalizers": names}, "spec": {"containers": items}}),
        json!({"metadata": {"finalizers": reversed, "$setElementOrder/finalizers": names},
            "spec": {"containers": items, "$setElementOrder/containers": items}}),
        json!({"metadata": {"finalizers": names}, "spec": {"containers": items}}),
    );
    check(
        "Pod",
        json!({"metadata": {"finalizers": names}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": names}}),
        json!({"metadata": {"finalizers": []}}),
    );
}

#[test]
fn a_deleted_item_may_come_again() {
    check(
        "Pod",
        json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}}),
        json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}, {"name": "a", "image": "y"}]}}),
        json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "image": "y"}]}}),
    );
}

#[test]
fn nonsense_is_refused() {
    for patch in [
        json!({"spec": {"containers": [{"image": "x"}]}}),
        json!({"spec": {"containers": ["x"]}}),
        json!({"spec": {"$patch": "explode"}}),
        json!({"metadata": {"$retainKeys": "a"}}),
    ] {
        assert!(apply("Pod", json!({}), &patch).is_err(), "{patch}");
    }
}

proptest::proptest! {
    /// Without directives and merged lists it is a merge patch.
    #[test]
    fn agrees_with_a_merge_patch(object in maps(), patch in maps()) {
        let merged = super::super::merge::apply(object.clone(), &patch);
        proptest::prop_assert_eq!(apply("ConfigMap", object, &patch), Ok(merged));
    }
}

fn maps() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(1)),
        Just(json!("x")),
        Just(json!([1, 2]))
    ];
    let map = |inner| {
        proptest::collection::btree_map("[ab]", inner, 0..3).prop_map(
            |map: std::collections::BTreeMap<String, Value>| {
                Value::Object(map.into_iter().collect())
            },
        )
    };
    let value = leaf.prop_recursive(3, 16, 4, move |inner| map(inner).boxed());
    proptest::collection::btree_map("[ab]", value, 0..3)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}
