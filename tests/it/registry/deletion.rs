//! Grace, finalizers, propagation, collections.

use std::time::Duration;

use serde_json::{Value, json};
use wasmorch::registry::{DeleteOptions, Deleted, Error, ListOptions, Propagation};

use super::{Fixture, NS, config_map, pod};

impl Fixture {
    async fn delete(&self, plural: &str, name: &str, options: DeleteOptions) -> Option<Value> {
        let row = self.row(plural);
        let deleted = self.registry.delete(row, NS, name, &options, &self.caller);
        match deleted.await.unwrap() {
            Deleted::Gone(_) => None,
            Deleted::Pending(stored) => Some(stored.object.clone()),
        }
    }
}

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions {
        grace_period_seconds: Some(seconds),
        ..DeleteOptions::default()
    }
}

#[tokio::test]
async fn a_pod_that_nobody_runs_goes_at_once() {
    let fixture = Fixture::new().await;
    fixture.created("pods", pod("idle")).await;
    assert_eq!(
        fixture
            .delete("pods", "idle", DeleteOptions::default())
            .await,
        None
    );
    fixture.created("pods", pod("done")).await;
    fixture
        .registry
        .bind("default", "done", None, "dev-1")
        .await
        .unwrap();
    let mut done = fixture.get("pods", "done").unwrap();
    done["status"]["phase"] = json!("Succeeded");
    fixture.update("pods", Some("status"), done).await.unwrap();
    assert_eq!(
        fixture
            .delete("pods", "done", DeleteOptions::default())
            .await,
        None
    );
}

#[tokio::test]
async fn a_running_pod_has_its_grace_which_may_only_shrink() {
    let fixture = Fixture::new().await;
    fixture.created("pods", pod("web")).await;
    fixture
        .registry
        .bind("default", "web", None, "dev-1")
        .await
        .unwrap();
    let marked = fixture
        .delete("pods", "web", DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(
        marked["metadata"]["deletionTimestamp"],
        "2027-01-15T08:00:30Z"
    );
    assert_eq!(marked["metadata"]["generation"], 2);
    fixture.clock.advance(Duration::from_secs(3));
    let longer = fixture.delete("pods", "web", grace(60)).await.unwrap();
    assert_eq!(longer, marked);
    let shorter = fixture.delete("pods", "web", grace(5)).await.unwrap();
    assert_eq!(
        shorter["metadata"]["deletionTimestamp"],
        "2027-01-15T08:00:05Z"
    );
    // Labels and status may still change.
    let mut pod = shorter;
    pod["status"]["phase"] = json!("Running");
    fixture.update("pods", Some("status"), pod).await.unwrap();
    assert_eq!(fixture.delete("pods", "web", grace(0)).await, None);
    assert_eq!(fixture.get("pods", "web"), None);
}

#[tokio::test]
async fn propagation_is_a_finalizer() {
    let fixture = Fixture::new().await;
    for (policy, finalizer) in [
        (Propagation::Foreground, "foregroundDeletion"),
        (Propagation::Orphan, "orphan"),
    ] {
        fixture.created("configmaps", config_map("a")).await;
        let options = DeleteOptions {
            propagation_policy: Some(policy),
            ..DeleteOptions::default()
        };
        let mut marked = fixture.delete("configmaps", "a", options).await.unwrap();
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
        marked["metadata"]["finalizers"] = json!([]);
        fixture.update("configmaps", None, marked).await.unwrap();
        assert_eq!(fixture.get("configmaps", "a"), None);
    }
    fixture.created("configmaps", config_map("a")).await;
    let options = DeleteOptions {
        propagation_policy: Some(Propagation::Background),
        ..DeleteOptions::default()
    };
    assert_eq!(fixture.delete("configmaps", "a", options).await, None);
}

#[tokio::test]
async fn a_collection_goes_by_selector() {
    let fixture = Fixture::new().await;
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({"app": app});
        fixture.created("configmaps", object).await;
    }
    let list = ListOptions {
        label_selector: Some("app=x".to_owned()),
        ..ListOptions::default()
    };
    let options = DeleteOptions::default();
    let row = fixture.row("configmaps");
    let deleted = fixture
        .registry
        .delete_collection(row, NS, &list, &options, &fixture.caller)
        .await
        .unwrap();
    assert_eq!(deleted.len(), 2);
    assert!(fixture.get("configmaps", "b").is_some());
    assert_eq!(fixture.get("configmaps", "a"), None);
}

#[tokio::test]
async fn an_eviction_of_another_pod_costs_no_disruption() {
    let fixture = Fixture::new().await;
    let mut object = pod("web");
    object["metadata"]["labels"] = json!({"app": "web"});
    let mut made = fixture.created("pods", object).await;
    let ready = json!([{"type": "Ready", "status": "True"}]);
    made["status"] = json!({"phase": "Running", "conditions": ready});
    let made = fixture.update("pods", Some("status"), made).await.unwrap();
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    let mut budget = fixture.created("poddisruptionbudgets", budget).await;
    budget["status"] = json!({"currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 2, "observedGeneration": 1});
    fixture
        .update("poddisruptionbudgets", Some("status"), budget)
        .await
        .unwrap();
    let allowed = || {
        let budget = fixture.get("poddisruptionbudgets", "b").unwrap();
        budget["status"]["disruptionsAllowed"].clone()
    };
    let evict = async |options: DeleteOptions| {
        let evicted = fixture
            .registry
            .evict("default", "web", &options, &fixture.caller);
        evicted.await
    };
    for wrong in [
        DeleteOptions {
            uid: Some("another".to_owned()),
            ..DeleteOptions::default()
        },
        DeleteOptions {
            resource_version: Some("1".to_owned()),
            ..DeleteOptions::default()
        },
    ] {
        let refused = evict(wrong).await;
        assert!(
            matches!(refused, Err(Error::Conflict { .. })),
            "{refused:?}"
        );
        assert_eq!(allowed(), 1);
        assert_eq!(fixture.get("pods", "web").unwrap(), made, "not even marked");
    }
    // Its own mark does not make the pod another.
    let text = |field: &str| made["metadata"][field].as_str().map(str::to_owned);
    let right = DeleteOptions {
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..grace(0)
    };
    evict(right).await.unwrap();
    assert_eq!(allowed(), 0);
    assert!(fixture.get("pods", "web").is_none());
}
