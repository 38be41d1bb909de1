//! Lost updates and targets out of reach, against a registry.

use super::*;
use crate::controllers::Config;
use crate::registry::{Fixture, Patch};
use k8s_openapi::api::apps::v1::Deployment;

fn spec(version: &str, kind: &str) -> HorizontalPodAutoscalerSpec {
    let target = json!({"apiVersion": version, "kind": kind, "name": "web"});
    serde_json::from_value(json!({"maxReplicas": 9, "scaleTargetRef": target})).unwrap()
}

async fn with_deployment() -> (Fixture, Autoscalers, Api<Deployment>) {
    let fixture = Fixture::new().await;
    let ctx = Context::new(fixture.registry.clone(), Config::default(), &fixture.tasks);
    let api: Api<Deployment> = ctx.api("test");
    let labels = json!({"app": "web"});
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3,
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "hello"}]}}}});
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    api.create("default", &deployment).await.unwrap();
    (fixture, Autoscalers::new(&ctx), api)
}

#[tokio::test]
async fn what_somebody_else_has_set_meanwhile_stays() {
    let (fixture, this, deployments) = with_deployment().await;
    let spec = spec("apps/v1", "Deployment");
    let key = Key::new("default", "scaler");
    let replicas = || {
        let found = deployments.get("default", "web").unwrap();
        found.spec.as_ref().unwrap().replicas
    };
    let seen = this.target("default", &spec).unwrap();
    assert_eq!(seen.target.wanted, 3);
    let by_hand = Patch::Merge(json!({"spec": {"replicas": 7}}));
    let patched = deployments.patch("default", "web", None, by_hand).await;
    patched.unwrap();
    let judged = (seen.res, &seen.revision);
    assert!(!this.scale(&key, &spec, judged, 1).await.unwrap());
    assert_eq!(replicas(), Some(7));
    let seen = this.target("default", &spec).unwrap();
    let judged = (seen.res, &seen.revision);
    assert!(this.scale(&key, &spec, judged, 1).await.unwrap());
    assert_eq!(replicas(), Some(1));
    fixture.stop().await;
}

#[tokio::test]
async fn what_belongs_to_no_namespace_is_not_scaled() {
    let (fixture, this, _) = with_deployment().await;
    let refused = |version: &str, kind: &str| {
        let found = this.target("default", &spec(version, kind));
        found.err().unwrap_or_default()
    };
    assert_eq!(
        refused("v1", "Node"),
        "nodes belong to no namespace: an autoscaler scales what is in its own"
    );
    assert!(refused("apps/v1", "Nothing").contains("no matches for kind"));
    assert_eq!(refused("apps/v1", "Deployment"), "");
    fixture.stop().await;
}
