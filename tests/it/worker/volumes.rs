//! Configuration that comes late, and that changes.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::harness::{World, container, is_ready, waiting};

async fn create_config_map(world: &World, name: &str) {
    let api: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"MESSAGE": "from a map"}});
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_config_map_is_waited_for() {
    let world = World::start().await;
    let _worker = world.worker("one").await;
    world.push_hello().await;
    let mut main = container("hello");
    main["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    world.create("env", json!({"containers": [main]})).await;
    let spec = json!({"containers": [container("hello")], "volumes": [{"name": "v", "configMap": {"name": "settings"}}]});
    world.create("volume", spec).await;
    world
        .until("env", |pod| waiting(pod) == "CreateContainerConfigError")
        .await;
    world
        .until("volume", |pod| {
            let message = pod
                .status
                .as_ref()
                .and_then(|status| status.message.clone());
            message.is_some_and(|text| text.contains("configmap \"settings\" not found"))
        })
        .await;
    create_config_map(&world, "settings").await;
    let pod = world.until("env", is_ready).await;
    let (_, body) = world.get(&pod, 8080, "/").await;
    assert!(body.contains("from a map"), "{body}");
    world.until("volume", is_ready).await;
}
