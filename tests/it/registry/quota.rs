//! Quotas and limit ranges: what they refuse, and that no race gets past a quota.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};
use wasmorch::registry::{DeleteOptions, Error, WriteOptions};

use super::{Fixture, NS};

fn quota(hard: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "m", "image": "m", "resources": resources}]}})
}

async fn refusal(fixture: &Fixture, plural: &str, object: Value) -> String {
    match fixture.create(plural, object).await {
        Err(error @ Error::Forbidden { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was created"),
    }
}

#[tokio::test]
async fn a_quota_refuses_in_kubernetes_words() {
    let fixture = Fixture::new().await;
    let hard = json!({"pods": "3", "requests.cpu": "1", "limits.memory": "100Mi"});
    fixture.created("resourcequotas", quota(hard)).await;
    let good = json!({"requests": {"cpu": "400m"}, "limits": {"memory": "30Mi"}});
    let told = refusal(&fixture, "pods", pod("a", json!({}))).await;
    assert_eq!(
        told,
        "pods \"a\" is forbidden: failed quota: q: must specify limits.memory for: m; requests.cpu for: m"
    );
    for name in ["a", "b"] {
        fixture.created("pods", pod(name, good.clone())).await;
    }
    let told = refusal(&fixture, "pods", pod("c", good.clone())).await;
    assert_eq!(
        told,
        "pods \"c\" is forbidden: exceeded quota: q, requested: requests.cpu=400m, used: requests.cpu=800m, limited: requests.cpu=1"
    );
    // What has ended does not count, and what is gone does not either.
    let mut ended = fixture.get("pods", "a").unwrap();
    ended["status"]["phase"] = json!("Succeeded");
    fixture.update("pods", Some("status"), ended).await.unwrap();
    fixture.created("pods", pod("c", good)).await;
}

#[tokio::test]
async fn services_and_counts_are_bounded_too() {
    let fixture = Fixture::new().await;
    let hard = json!({"services.nodeports": "1", "count/roles.rbac.authorization.k8s.io": "1"});
    fixture.created("resourcequotas", quota(hard)).await;
    let service = |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    fixture.created("services", service("a", "NodePort")).await;
    refusal(&fixture, "services", service("b", "NodePort")).await;
    fixture.created("services", service("b", "ClusterIP")).await;
    // Neither by a change.
    let mut changed = fixture.get("services", "b").unwrap();
    changed["spec"]["type"] = json!("NodePort");
    let refused = fixture.update("services", None, changed).await;
    let told = refused.unwrap_err().to_string();
    assert!(
        told.contains("exceeded quota: q, requested: services.nodeports=1"),
        "{told}"
    );
    let role = |name: &str| {
        json!({"metadata": {"name": name}, "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})
    };
    fixture.created("roles", role("a")).await;
    refusal(&fixture, "roles", role("b")).await;
}

#[tokio::test]
async fn scopes_choose_pods() {
    let fixture = Fixture::new().await;
    let mut idle = quota(json!({"pods": "1"}));
    idle["spec"]["scopes"] = json!(["BestEffort"]);
    fixture.created("resourcequotas", idle).await;
    let asking = json!({"requests": {"cpu": "1m"}});
    fixture.created("pods", pod("a", asking.clone())).await;
    fixture.created("pods", pod("b", json!({}))).await;
    refusal(&fixture, "pods", pod("c", json!({}))).await;
    fixture.created("pods", pod("c", asking)).await;
}

#[tokio::test]
async fn a_limit_range_completes_and_refuses() {
    let fixture = Fixture::new().await;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "default": {"memory": "64Mi"}, "max": {"memory": "100Mi"}}]}});
    fixture.created("limitranges", range).await;
    let made = fixture.created("pods", pod("a", json!({}))).await;
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(
        *resources,
        json!({"limits": {"memory": "64Mi"}, "requests": {"memory": "64Mi"}})
    );
    let greedy = pod("b", json!({"limits": {"memory": "200Mi"}}));
    let told = refusal(&fixture, "pods", greedy).await;
    assert_eq!(
        told,
        "pods \"b\" is forbidden: [maximum memory usage per Container is 100Mi, but limit is 200Mi, maximum memory usage per Container is 100Mi, but request is 200Mi]"
    );
}

/// Creates and deletes that run at once, on several threads, with some that are abandoned half-way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_never_exceed_a_quota() {
    const HARD: usize = 7;
    let fixture = Arc::new(Fixture::new().await);
    let hard = json!({"count/configmaps": HARD.to_string()});
    fixture.created("resourcequotas", quota(hard)).await;
    let made = Arc::new(AtomicUsize::new(0));
    let tasks = wasmorch::tasks::TaskGroup::new();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (fixture, made) = (Arc::clone(&fixture), Arc::clone(&made));
            tasks.spawn("writer", async move {
                for round in 0..40 {
                    let name = format!("c-{writer}-{round}");
                    let object = json!({"metadata": {"name": name}});
                    let creating = fixture.create("configmaps", object);
                    if round % 9 == 3 {
                        // Its caller goes away: it may or may not be there.
                        let _ = futures::FutureExt::now_or_never(creating);
                    } else if creating.await.is_ok() {
                        made.fetch_add(1, Ordering::Relaxed);
                        assert!(fixture.registry.store().count("configmaps") <= HARD);
                        let row = fixture.row("configmaps");
                        let options = DeleteOptions::default();
                        let _ = fixture
                            .registry
                            .delete(row, NS, &name, &options, &fixture.caller)
                            .await;
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(
        !tasks.cancelled().is_cancelled(),
        "a writer has seen too many"
    );
    assert!(made.load(Ordering::Relaxed) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Of creates that are sent together, exactly as many pass as there is room for.
    #[test]
    fn exactly_what_fits_passes(
        hard in 0_usize..6,
        rounds in proptest::collection::vec((0_usize..8, 0_usize..4), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let fixture = Fixture::new().await;
            fixture.created("resourcequotas", quota(json!({"secrets": hard.to_string()}))).await;
            let mut alive: Vec<String> = Vec::new();
            for (round, (creates, deletes)) in rounds.into_iter().enumerate() {
                let names: Vec<String> = (0..creates).map(|n| format!("s-{round}-{n}")).collect();
                let creating = names.iter().map(|name| {
                    fixture.create("secrets", json!({"metadata": {"name": name}}))
                });
                let results = futures::future::join_all(creating).await;
                let passed: Vec<String> = names.iter().zip(&results)
                    .filter(|(_, result)| result.is_ok())
                    .map(|(name, _)| name.clone())
                    .collect();
                assert_eq!(passed.len(), creates.min(hard - alive.len()));
                alive.extend(passed);
                assert_eq!(fixture.registry.store().count("secrets"), alive.len());
                for name in alive.drain(..deletes.min(alive.len())) {
                    let options = DeleteOptions::default();
                    fixture.registry
                        .delete(fixture.row("secrets"), NS, &name, &options, &fixture.caller)
                        .await
                        .unwrap();
                }
                // A dry run and a failed write hold nothing.
                let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
                let object = json!({"metadata": {"name": "dry"}});
                let _ = fixture.registry
                    .create(fixture.row("secrets"), NS, object, &dry, &fixture.caller)
                    .await;
            }
        });
    }
}

#[tokio::test]
async fn custom_kinds_are_counted_too() {
    let fixture = Fixture::new().await;
    let names =
        json!({"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"});
    let definition = json!({"metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let mut definition = fixture
        .created("customresourcedefinitions", definition)
        .await;
    let established =
        json!([{"type": "Established", "status": "True", "reason": "x", "message": ""}]);
    definition["status"]["conditions"] = established;
    definition["status"]["acceptedNames"] = names;
    let part = Some("status");
    fixture
        .update("customresourcedefinitions", part, definition)
        .await
        .unwrap();
    let thing = |name: &str| json!({"metadata": {"name": name}});
    fixture.created("things", thing("a")).await;
    let hard = json!({"count/things.example.com": "2", "count/nothings.example.com": "2"});
    fixture.created("resourcequotas", quota(hard)).await;
    fixture.created("things", thing("b")).await;
    assert_eq!(
        refusal(&fixture, "things", thing("c")).await,
        "things.example.com \"c\" is forbidden: exceeded quota: q, requested: count/things.example.com=1, used: count/things.example.com=2, limited: count/things.example.com=2"
    );
}
