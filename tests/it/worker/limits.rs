//! What a limit refused is in the pod's status and in its events.

use serde_json::json;

use super::harness::World;
use crate::runtime_pods::guests::{HOG, core};

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_limit_is_told_in_status_and_event_with_its_numbers() {
    let world = World::start().await;
    let _one = world.worker("one").await;
    let hog = wat::parse_str(core(HOG)).unwrap();
    world.push("hog", hog).await;
    let spec = json!({"restartPolicy": "Never", "containers": [{
        "name": "app", "image": "hog", "resources": {"limits": {"memory": "16Mi"}}}]});
    world.create("hog", spec).await;
    let ended = |pod: &k8s_openapi::api::core::v1::Pod| {
        let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        status.state.as_ref()?.terminated.clone()
    };
    let pod = world.until("hog", |pod| ended(pod).is_some()).await;
    let terminated = ended(&pod).unwrap();
    assert_eq!(terminated.exit_code, 137);
    assert_eq!(terminated.reason.as_deref(), Some("OOMKilled"));
    let message = terminated.message.unwrap();
    assert!(message.starts_with("memory limit 16Mi: "), "{message}");
    world
        .event(
            "LimitReached",
            "container `app`: 1 growths of memory refused",
        )
        .await;
}
