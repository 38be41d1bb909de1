//! Who makes room for whom, by table.

use super::*;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

fn pod(name: &str, node: Option<&str>, (cpu, priority): (u32, i32), change: &Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"nodeName": node, "priority": priority, "containers": [
            {"name": "c", "resources": {"requests": {"cpu": format!("{cpu}m")}}}]},
    });
    json_patch::merge(&mut pod, change);
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// Two nodes of one core.
fn check(tenants_there: &[Arc<Pod>], cpu: u32, change: &Value, expected: Option<(&str, &[&str])>) {
    let mut cache = Cache::default();
    for name in ["a", "b"] {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name}, "status": {
            "allocatable": {"cpu": "1", "pods": "9"}, "conditions": [{"type": "Ready", "status": "True"}]}}))
        .unwrap();
        cache.set_node(&node);
    }
    for pod in tenants_there {
        let info = PodInfo::new(Arc::clone(pod));
        let node = info.node.clone().unwrap();
        cache.place(&info, &node, false);
    }
    let info = PodInfo::new(pod("high", None, (cpu, 100), change));
    let found = judge(&mut cache, &info, tenants_there, &Budgets::default());
    let expected = expected.map(|(node, names)| {
        (
            node.to_owned(),
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        )
    });
    assert_eq!(found, expected, "{cpu}");
}

#[test]
fn the_least_important_go() {
    let none = json!({});
    let on = |name: &str, node: &str, cpu: u32, priority: i32| {
        pod(name, Some(node), (cpu, priority), &none)
    };
    let full = [
        on("a1", "a", 600, 50),
        on("a2", "a", 400, 10),
        on("b1", "b", 500, 20),
        on("b2", "b", 500, 5),
    ];
    check(&full, 400, &none, Some(("b", &["b2"])));
    check(&full, 900, &none, Some(("b", &["b1", "b2"])));
    check(&full, 2000, &none, None);
    let equals = [on("a1", "a", 1000, 100), on("b1", "b", 1000, 200)];
    check(&equals, 100, &none, None);
}

#[test]
fn a_pod_may_abstain_and_waits_for_its_victims() {
    let full = [
        pod("a1", Some("a"), (1000, 1), &json!({})),
        pod("b1", Some("b"), (1000, 2), &json!({})),
    ];
    check(&full, 500, &json!({}), Some(("a", &["a1"])));
    check(
        &full,
        500,
        &json!({"spec": {"preemptionPolicy": "Never"}}),
        None,
    );
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let going = [pod("a1", Some("a"), (1000, 1), &leaving), full[1].clone()];
    check(
        &going,
        500,
        &json!({"status": {"nominatedNodeName": "a"}}),
        None,
    );
    check(&going, 500, &json!({}), Some(("b", &["b1"])));
}

fn judge(
    cache: &mut Cache,
    info: &PodInfo,
    there: &[Arc<Pod>],
    budgets: &Budgets,
) -> Option<(String, Vec<String>)> {
    // As the decision that found no node has done.
    cache.neighbours.learn(&info.social);
    let victims = choose(info, cache, &tenants(there.to_vec()), budgets)?;
    let names = victims.pods.iter();
    let names = names.map(|pod| pod.metadata.name.clone().unwrap());
    Some((victims.node, names.collect()))
}

fn full(pods: &[Arc<Pod>]) -> Cache {
    let mut cache = Cache::default();
    for name in ["a", "b"] {
        let labels = json!({"kubernetes.io/hostname": name});
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "status": {
            "allocatable": {"cpu": "1", "pods": "9"}, "conditions": [{"type": "Ready", "status": "True"}]}}))
        .unwrap();
        cache.set_node(&node);
    }
    for pod in pods {
        let info = PodInfo::new(Arc::clone(pod));
        let node = info.node.clone().unwrap();
        cache.place(&info, &node, false);
    }
    cache
}

#[test]
fn budgets_are_spared_where_another_choice_is() {
    let labelled = |name: &str, node: &str, cpu: u32, priority: i32, app: &str| {
        let labels = json!({"metadata": {"labels": {"app": app}}});
        pod(name, Some(node), (cpu, priority), &labels)
    };
    let check = |there: &[Arc<Pod>], allowed: i32, expected: (&str, &[&str])| {
        let budget = json!({"metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "db"}}},
            "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
        let budgets = Budgets::new(&[Arc::new(serde_json::from_value(budget).unwrap())]);
        let mut cache = full(there);
        let info = PodInfo::new(pod("high", None, (500, 100), &json!({})));
        let (node, names) = judge(&mut cache, &info, there, &budgets).unwrap();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!((node.as_str(), &names[..]), expected, "{allowed}");
    };
    // The pod of the budget matters less, and stays all the same.
    let one_each = [
        labelled("a1", "a", 1000, 1, "db"),
        labelled("b1", "b", 1000, 50, "web"),
    ];
    check(&one_each, 0, ("b", &["b1"]));
    check(&one_each, 1, ("a", &["a1"]));
    // On one node, too.
    let both = [
        labelled("a1", "a", 500, 1, "db"),
        labelled("a2", "a", 500, 2, "web"),
        labelled("b1", "b", 1000, 99, "db"),
    ];
    check(&both, 0, ("a", &["a2"]));
    // Where there is no other choice, the fewest are broken.
    let none = [
        labelled("a1", "a", 250, 1, "db"),
        labelled("a2", "a", 250, 1, "db"),
        labelled("a3", "a", 500, 101, "x"),
        labelled("b1", "b", 1000, 9, "db"),
    ];
    check(&none, 0, ("b", &["b1"]));
}

#[test]
fn those_who_repel_may_have_to_go() {
    let spec = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "x"}}}]}}}});
    let there = [
        pod("a1", Some("a"), (100, 5), &spec),
        pod("a2", Some("a"), (100, 1), &json!({})),
        pod("b1", Some("b"), (100, 7), &spec),
    ];
    let mut cache = full(&there);
    let info = PodInfo::new(pod("high", None, (100, 100), &spec));
    let found = judge(&mut cache, &info, &there, &Budgets::default());
    assert_eq!(found, Some(("a".to_owned(), vec!["a1".to_owned()])));
    let info = PodInfo::new(pod("low", None, (100, 6), &spec));
    let found = judge(&mut cache, &info, &there, &Budgets::default());
    assert_eq!(found, Some(("a".to_owned(), vec!["a1".to_owned()])));
    let info = PodInfo::new(pod("lowest", None, (100, 2), &spec));
    assert_eq!(judge(&mut cache, &info, &there, &Budgets::default()), None);
}
