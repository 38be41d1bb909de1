//! What a limit refused is in the pod's status and in its events.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use super::harness::{World, is_ready, phase, within};
use super::remote::{Remote, exec};
use crate::hostile::attacks;
use crate::runtime_pods::guests::{HOG, core, handler};

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

/// Of the worker's only pod, its first container.
pub(super) async fn figure(world: &World, pointer: &str) -> u64 {
    let path = "/api/v1/nodes/one/proxy/stats/summary";
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let summary: Value = world.client.request(request).await.unwrap();
    summary["pods"][0]["containers"][0]
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_at_the_limit_of_handles_is_in_status_event_and_stats() {
    let world = World::start().await;
    let _one = world.worker("one").await;
    let attack = wat::parse_str(attacks::ten_million_pollables()).unwrap();
    world.push("attack", attack).await;
    let spec =
        json!({"restartPolicy": "Never", "containers": [{"name": "app", "image": "attack"}]});
    world.create("attack", spec).await;
    let message = |pod: &k8s_openapi::api::core::v1::Pod| {
        let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        status.state.as_ref()?.terminated.as_ref()?.message.clone()
    };
    let pod = world.until("attack", |pod| message(pod).is_some()).await;
    let message = message(&pod).unwrap();
    assert!(message.contains("limit of 20000 host objects"), "{message}");
    let words = "container `app`: 1 ended with too many host objects or handles (20000 may be held";
    world.event("LimitReached", words).await;
    // What is over has no figures any more; a handler goes on.
    world.delete("attack").await;
    world.until_gone("attack").await;
    let attack = handler("(loop $l (drop (call $fields)) (br $l))");
    world.push("web", wat::parse_str(attack).unwrap()).await;
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [{
        "name": "app", "image": "web", "ports": [{"containerPort": 8080}]}]});
    world.create("web", spec).await;
    let pod = world.until("web", is_ready).await;
    assert_eq!(world.get(&pod, 8080, "/").await.0, 502);
    assert_eq!(figure(&world, "/handles/refused").await, 1);
    assert_eq!(figure(&world, "/hostCalls/refused").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_beside_a_container_takes_is_in_the_containers_figures() {
    let world = World::start().await;
    let _one = world.worker("one").await;
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [{
        "name": "app", "image": "toolbox", "command": ["sleep", "infinity"],
        "resources": {"limits": {"memory": "16Mi"}}}]});
    world.create("p", spec).await;
    world.until("p", |pod| phase(pod) == "Running").await;
    let before = figure(&world, "/cpu/usageCoreNanoSeconds").await;
    let query = [
        ("command", "tee"),
        ("command", "/tmp/hog.wasm"),
        ("stdin", "true"),
    ];
    let mut remote = Remote::open(&world, "p", "exec", &query).await.unwrap();
    remote.send_bytes(&wat::parse_str(core(HOG)).unwrap()).await;
    remote.end_input().await;
    assert_eq!(remote.finish().await.code(), 0);
    let done = exec(&world, "p", &["/tmp/hog.wasm"]).await;
    assert_eq!(done.code(), 137, "{done:?}");
    let words = "container `app`: 1 growths of memory refused";
    world.event("LimitReached", words).await;
    assert_eq!(figure(&world, "/memory/refused").await, 1);
    assert!(figure(&world, "/cpu/usageCoreNanoSeconds").await > before);
}
