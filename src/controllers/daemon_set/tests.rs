//! What wakes a DaemonSet, and how its pods are tried.

use super::*;
use crate::controllers::Config;
use crate::errors;
use crate::registry::Fixture;
use serde_json::{Value, json};

#[test]
fn a_heartbeat_concerns_nobody() {
    let node = |change: Value| -> Node {
        let mut base = json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "status": {}});
        json_patch::merge(&mut base, &change);
        serde_json::from_value(base).unwrap()
    };
    let base = node(json!({}));
    let check = |change: Value| concerns_placement(Some(&base), Some(&node(change)));
    assert!(!check(
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    ));
    assert!(check(json!({"metadata": {"labels": {"x": "2"}}})));
    assert!(check(
        json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})
    ));
    assert!(concerns_placement(None, Some(&base)) && concerns_placement(Some(&base), None));
}

#[tokio::test]
async fn after_a_refusal_no_more_pods_are_tried() {
    let fixture = Fixture::new().await;
    let ctx = Context::new(fixture.registry.clone(), Config::default(), &fixture.tasks);
    let this = DaemonSets::new(&ctx);
    let labels = json!({"app": "agent"});
    let set = json!({"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "hello"}]}}}});
    let set: DaemonSet = serde_json::from_value(set).unwrap();
    let set = this.api.create("default", &set).await.unwrap();
    // A pod for a node that cannot be called so is refused. One is tried, then two, then no more.
    let nodes = ["a", "b", "No Name", "c", "d", "e", "f"].map(str::to_owned);
    let spec = set.spec.as_ref().unwrap();
    let failed = this.create(&set, spec, &nodes, "hash").await.unwrap_err();
    let text = errors::chain(&failed).to_string();
    assert!(text.contains("No Name"), "{text}");
    let made = this.pods.list(Some("default")).unwrap();
    let mut held: Vec<&str> = made.iter().filter_map(|it| placement::target(it)).collect();
    held.sort_unstable();
    assert_eq!(held, ["a", "b"]);
    fixture.stop().await;
}
