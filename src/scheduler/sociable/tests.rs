//! Pods that ask for each other, by table.

mod random;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use serde_json::{Value, json};

use crate::scheduler::decide::{Decider, Decision};
use crate::scheduler::pod_info::PodInfo;

const HOST: &str = "kubernetes.io/hostname";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn node(name: &str, zone: &str, pods: u32) -> Node {
    let mut labels = json!({HOST: name});
    if !zone.is_empty() {
        labels["zone"] = zone.into();
    }
    serde_json::from_value(
        json!({"metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {"allocatable": {"cpu": "64", "memory": "64Gi", "pods": pods.to_string()},
            "conditions": [{"type": "Ready", "status": "True"}]}}),
    )
    .unwrap()
}

fn pod(name: &str, app: &str, spec: &Value) -> PodInfo {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": app},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": app, "controller": true}]},
        "spec": {"containers": [{"name": "c"}]}});
    json_patch::merge(&mut pod, &json!({"spec": spec}));
    let pod: Pod = serde_json::from_value(pod).unwrap();
    PodInfo::new(Arc::new(pod))
}

fn term(app: &str, key: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
}

fn near(app: &str, key: &str) -> Value {
    json!({"affinity": {"podAffinity": {REQUIRED: [term(app, key)]}}})
}

fn apart(app: &str, key: &str) -> Value {
    json!({"affinity": {"podAntiAffinity": {REQUIRED: [term(app, key)]}}})
}

/// Nodes of two zones, `a1 a2 b1 b2`, and one without a zone, `x`.
fn cluster() -> Decider {
    let mut decider = Decider::default();
    for name in ["a1", "a2", "b1", "b2"] {
        decider.cache.set_node(&node(name, &name[..1], 110));
    }
    decider.cache.set_node(&node("x", "", 110));
    decider
}

/// Puts a pod on a node whatever it wants.
fn put(decider: &mut Decider, on: &str, name: &str, app: &str, spec: &Value) {
    decider.cache.place(&pod(name, app, spec), on, false);
}

fn decide(decider: &mut Decider, info: &PodInfo) -> String {
    match decider.decide(info) {
        Decision::Bind(node) => node,
        Decision::Unschedulable(words) => words,
        Decision::Gated => "gated".to_owned(),
    }
}

#[test]
fn required_affinity_finds_its_domain() {
    let mut decider = cluster();
    let words = "0/5 nodes are available: 5 node(s) didn't match pod affinity rules.";
    let wants = pod("p", "web", &near("db", "zone"));
    assert_eq!(decide(&mut decider, &wants), words);
    put(&mut decider, "b2", "d", "db", &json!({}));
    let found = decide(&mut decider, &wants);
    assert!(found.starts_with('b'), "{found}");
    let beside = pod("q", "web", &near("db", HOST));
    assert_eq!(decide(&mut decider, &beside), "b2");
    // All terms must select the same pod.
    put(&mut decider, "a1", "c", "cache", &json!({}));
    let both = json!({"affinity": {"podAffinity": {REQUIRED: [term("db", "zone"), term("cache", "zone")]}}});
    assert_eq!(decide(&mut decider, &pod("r", "web", &both)), words);
}

#[test]
fn the_first_of_a_group_may_begin() {
    let mut decider = cluster();
    let first = decide(&mut decider, &pod("p0", "web", &near("web", "zone")));
    assert_ne!(first, "x", "no zone there");
    for n in 1..6 {
        let next = decide(
            &mut decider,
            &pod(&format!("p{n}"), "web", &near("web", "zone")),
        );
        assert_eq!(next[..1], first[..1]);
    }
    // Not where others of the group are that cannot be reached.
    assert!(decider.cache.remove_pod("p0"));
    let other = decide(&mut decider, &pod("q", "other", &near("none", "zone")));
    assert!(other.contains("didn't match pod affinity rules"), "{other}");
}

#[test]
fn anti_affinity_holds_both_ways() {
    let mut decider = cluster();
    let nodes: Vec<String> = (0..6)
        .map(|n| {
            decide(
                &mut decider,
                &pod(&format!("p{n}"), "web", &apart("web", HOST)),
            )
        })
        .collect();
    let mut distinct = nodes[..5].to_vec();
    distinct.sort_unstable();
    assert_eq!(distinct, ["a1", "a2", "b1", "b2", "x"]);
    assert_eq!(
        nodes[5],
        "0/5 nodes are available: 5 node(s) didn't match pod anti-affinity rules."
    );
    // One that wants nothing itself is kept away by those who are there.
    let plain = decide(&mut decider, &pod("q", "web", &json!({})));
    assert_eq!(
        plain,
        "0/5 nodes are available: 5 node(s) didn't satisfy existing pods anti-affinity rules."
    );
    assert!(decider.cache.remove_pod("p3"));
    let plain = decide(&mut decider, &pod("q", "web", &json!({})));
    assert_eq!(plain, nodes[3]);
    // By zone; a node without a zone has no such neighbours.
    let mut decider = cluster();
    put(&mut decider, "a1", "g", "guard", &apart("web", "zone"));
    put(&mut decider, "b1", "d", "db", &json!({}));
    assert_eq!(
        decide(&mut decider, &pod("p", "web", &apart("db", "zone"))),
        "x"
    );
}

#[test]
fn namespaces_are_chosen() {
    let elsewhere = |change: Value| {
        let mut decider = cluster();
        let mut info = pod("d", "db", &json!({})).pod.as_ref().clone();
        info.metadata.namespace = Some("other".to_owned());
        decider
            .cache
            .place(&PodInfo::new(Arc::new(info)), "a1", false);
        let namespace = |name: &str, team: &str| -> Namespace {
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"team": team}}}))
                .unwrap()
        };
        decider.set_namespace(&namespace("other", "blue"));
        let mut wanted = term("db", HOST);
        json_patch::merge(&mut wanted, &change);
        let spec = json!({"affinity": {"podAffinity": {REQUIRED: [wanted]}}});
        let before = decide(&mut decider, &pod("p", "web", &spec)) == "a1";
        decider.cache.remove_pod("p");
        decider.set_namespace(&namespace("other", "red"));
        (
            before,
            decide(&mut decider, &pod("p", "web", &spec)) == "a1",
        )
    };
    assert_eq!(elsewhere(json!({})), (false, false));
    assert_eq!(elsewhere(json!({"namespaces": ["other"]})), (true, true));
    assert_eq!(
        elsewhere(json!({"namespaces": ["default"]})),
        (false, false)
    );
    assert_eq!(elsewhere(json!({"namespaceSelector": {}})), (true, true));
    let blue = json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}});
    assert_eq!(elsewhere(blue), (true, false));
}

#[test]
fn preferences_decide_among_what_is_possible() {
    let check = |there: &[(&str, &str, Value)], spec: Value, expected: &[&str]| {
        let mut decider = cluster();
        for (index, (on, app, spec)) in there.iter().enumerate() {
            put(&mut decider, on, &format!("t{index}"), app, spec);
        }
        let found = decide(&mut decider, &pod("p", "web", &spec));
        assert!(expected.contains(&found.as_str()), "{found}: {spec}");
    };
    let weighted = |kind: &str, app: &str, key: &str| {
        let one = json!({"weight": 50, "podAffinityTerm": term(app, key)});
        json!({"affinity": {kind: {PREFERRED: [one]}}})
    };
    let nodes = |value: &str| {
        let wanted =
            json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [value]}]});
        json!({"affinity": {"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": wanted}]}}})
    };
    check(&[], nodes("b"), &["b1", "b2"]);
    check(&[("b1", "web", json!({}))], nodes("b"), &["b2"]);
    check(
        &[("b2", "db", json!({}))],
        weighted("podAffinity", "db", "zone"),
        &["b1", "b2"],
    );
    check(
        &[("b2", "db", json!({}))],
        weighted("podAffinity", "db", HOST),
        &["b2"],
    );
    let full = [
        ("a1", "db", json!({})),
        ("b1", "db", json!({})),
        ("x", "db", json!({})),
    ];
    check(
        &full,
        weighted("podAntiAffinity", "db", HOST),
        &["a2", "b2"],
    );
    check(&full, weighted("podAntiAffinity", "db", "zone"), &["x"]);
    // What those who are there prefer counts, too, and so does what they require.
    check(
        &[("b1", "db", weighted("podAffinity", "web", HOST))],
        json!({}),
        &["b1"],
    );
    check(&[("b1", "db", near("web", HOST))], json!({}), &["b1"]);
    let shunned: Vec<_> = ["a1", "a2", "b2", "x"]
        .map(|on| (on, "db", weighted("podAntiAffinity", "web", HOST)))
        .into();
    check(&shunned, json!({}), &["b1"]);
}

fn constraint(key: &str, skew: u32, when: &str) -> Value {
    json!({"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "web"}}})
}

#[test]
fn pods_are_spread_as_even_as_they_must_be() {
    let hard = json!({"topologySpreadConstraints": [constraint("zone", 1, "DoNotSchedule")]});
    let mut decider = cluster();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for n in 0..9 {
        let found = decide(&mut decider, &pod(&format!("p{n}"), "web", &hard));
        *counts.entry(found[..1].to_owned()).or_default() += 1;
    }
    assert_eq!(
        counts.values().copied().collect::<Vec<_>>().len(),
        2,
        "{counts:?}"
    );
    assert!(counts.values().all(|&count| count >= 4), "{counts:?}");

    let mut decider = cluster();
    put(&mut decider, "a1", "t1", "web", &json!({}));
    let held = json!({"nodeSelector": {HOST: "a2"}, "topologySpreadConstraints": [constraint("zone", 1, "DoNotSchedule")]});
    // Zone b is not for this pod, so it does not count.
    assert_eq!(decide(&mut decider, &pod("p", "web", &held)), "a2");
    assert!(decider.cache.remove_pod("p"));
    let mut ignoring = held;
    ignoring["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = "Ignore".into();
    assert_eq!(
        decide(&mut decider, &pod("p", "web", &ignoring)),
        "0/5 nodes are available: 1 node(s) didn't match pod topology spread constraints, 4 node(s) didn't match Pod's node affinity/selector."
    );
    let x = json!({"nodeSelector": {HOST: "x"}, "topologySpreadConstraints": [constraint("zone", 1, "DoNotSchedule")]});
    let words = decide(&mut decider, &pod("q", "web", &x));
    assert!(
        words.contains(
            "1 node(s) didn't match pod topology spread constraints (missing required label)"
        ),
        "{words}"
    );
    // Fewer domains than there must be: none may have more than the skew.
    let mut domains = hard;
    domains["topologySpreadConstraints"][0]["minDomains"] = 3.into();
    let found = decide(&mut decider, &pod("r1", "web", &domains));
    assert!(found.starts_with('b'), "{found}");
    let words = decide(&mut decider, &pod("r2", "web", &domains));
    assert!(words.starts_with("0/5 nodes are available"), "{words}");
}

#[test]
fn those_who_leave_are_not_spread_against() {
    let leaving = |decider: &mut Decider, on: &str, name: &str| {
        let mut pod = pod(name, "web", &json!({})).pod.as_ref().clone();
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        decider.cache.place(&PodInfo::new(Arc::new(pod)), on, false);
    };
    for extra in [json!({}), json!({"nodeTaintsPolicy": "Honor"})] {
        let mut one = constraint("zone", 1, "DoNotSchedule");
        json_patch::merge(&mut one, &extra);
        let spec = json!({"nodeName": null, "topologySpreadConstraints": [one]});
        let mut decider = cluster();
        put(&mut decider, "b1", "t", "web", &json!({}));
        for name in ["l1", "l2", "l3"] {
            leaving(&mut decider, "a1", name);
        }
        let found = decide(&mut decider, &pod("p", "web", &spec));
        assert!(found.starts_with('a'), "{found}");
    }
}

#[test]
fn soft_constraints_prefer_the_emptier_domain() {
    let soft = json!({"topologySpreadConstraints": [constraint("zone", 1, "ScheduleAnyway")]});
    let mut decider = cluster();
    put(&mut decider, "a1", "t1", "web", &json!({}));
    put(&mut decider, "a2", "t2", "web", &json!({}));
    put(&mut decider, "b1", "t3", "web", &json!({}));
    assert_eq!(decide(&mut decider, &pod("p", "web", &soft)), "b2");
    for n in 0..8 {
        let found = decide(&mut decider, &pod(&format!("q{n}"), "web", &soft));
        assert!(found.len() <= 2, "{found}");
    }
}

#[test]
fn what_moves_is_counted_anew() {
    let mut decider = cluster();
    put(&mut decider, "a1", "d", "db", &json!({}));
    let wants = pod("p", "web", &near("db", "zone"));
    assert!(decide(&mut decider, &wants).starts_with('a'));
    decider.cache.remove_pod("p");
    // The node changes its zone, then goes, then the pod itself.
    decider.cache.set_node(&node("a1", "c", 110));
    assert_eq!(decide(&mut decider, &wants), "a1");
    decider.cache.remove_pod("p");
    decider.cache.remove_node("a1");
    assert!(decide(&mut decider, &wants).starts_with("0/4 nodes"));
    decider.cache.set_node(&node("a1", "a", 110));
    assert!(decide(&mut decider, &wants).starts_with('a'));
    decider.cache.remove_pod("p");
    decider.cache.remove_pod("d");
    assert!(decide(&mut decider, &wants).starts_with("0/5 nodes"));
}

#[test]
fn idle_kinds_are_forgotten_and_the_rest_still_counts() {
    let mut decider = cluster();
    put(&mut decider, "b1", "g", "guard", &apart("web", "zone"));
    for n in 0..5000 {
        let wants = pod("p", &format!("app{n}"), &near(&format!("app{n}"), "zone"));
        decide(&mut decider, &wants);
        decider.cache.remove_pod("p");
    }
    let found = decide(&mut decider, &pod("w", "web", &near("web", "zone")));
    assert!(found.starts_with('a'), "{found}");
    let found = decide(&mut decider, &pod("v", "web", &near("web", "zone")));
    assert!(found.starts_with('a'), "{found}");
}
