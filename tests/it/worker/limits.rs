//! What a limit refused is in the pod's status and in its events.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::runtime::wait::await_condition;
use serde_json::json;

use super::harness::{World, within};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_is_full_says_so_and_is_tainted() {
    let world = World::start().await;
    let mut config = world.config("full");
    // No disk has that much.
    config.thresholds = "nodefs.available<1Ei".parse().unwrap();
    let _full = world.worker_with(config).await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let is_tainted = |node: Option<&Node>| {
        let taints = node.and_then(|it| it.spec.as_ref()?.taints.as_ref());
        taints.into_iter().flatten().any(|taint| {
            taint.key == "node.kubernetes.io/disk-pressure" && taint.effect == "NoSchedule"
        })
    };
    let node = within(await_condition(nodes, "full", is_tainted)).await;
    let status = node.unwrap().unwrap().status.unwrap();
    let conditions = status.conditions.unwrap();
    let of = |kind: &str| {
        let condition = conditions.iter().find(|it| it.type_ == kind).unwrap();
        (condition.status.clone(), condition.reason.clone().unwrap())
    };
    let expected = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    assert_eq!(
        of("DiskPressure"),
        expected("True", "KubeletHasDiskPressure")
    );
    assert_eq!(
        of("MemoryPressure"),
        expected("False", "KubeletHasSufficientMemory")
    );
}
