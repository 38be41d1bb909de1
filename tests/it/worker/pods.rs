//! Pods from creation to their end.

use kube::api::LogParams;
use serde_json::json;

use super::harness::{World, container, is_ready, phase, prints_and_exits, restarts};

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_becomes_ready_answers_and_goes() {
    let world = World::start().await;
    let _worker = world.worker("one").await;
    world.push_hello().await;
    let spec = json!({"containers": [{"name": "main", "image": "hello", "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
        "env": [{"name": "MESSAGE", "value": "good morning"}]}]});
    world.create("web", spec).await;
    let pod = world.until("web", is_ready).await;
    assert_eq!(phase(&pod), "Running");
    let status = pod.status.clone().unwrap();
    assert!(status.pod_ip.unwrap().starts_with("10."));
    let (code, body) = world.get(&pod, 8080, "/").await;
    assert_eq!(code, 200, "{body}");
    assert!(body.contains("good morning"), "{body}");
    world.delete("web").await;
    world.until_gone("web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_succeeds_and_its_log_is_read_through_the_api() {
    let world = World::start().await;
    let _worker = world.worker("one").await;
    world.push("job", prints_and_exits(0)).await;
    world
        .create(
            "job",
            json!({"restartPolicy": "Never", "containers": [container("job")]}),
        )
        .await;
    world.until("job", |pod| phase(pod) == "Succeeded").await;
    let text = world
        .pods()
        .logs("job", &LogParams::default())
        .await
        .unwrap();
    assert_eq!(text, "hello\n");
    let written = world.pods().get("job").await.unwrap();
    let writers = written.metadata.managed_fields.unwrap_or_default();
    let mut status = writers
        .iter()
        .filter(|it| it.subresource.as_deref() == Some("status"));
    assert!(
        status.any(|it| it.manager.as_deref() == Some("kubelet")),
        "{writers:?}"
    );
    world.delete("job").await;
    world.until_gone("job").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_command_is_restarted_or_fails_by_policy() {
    let world = World::start().await;
    let _worker = world.worker("one").await;
    world.push("bad", prints_and_exits(3)).await;
    world
        .create(
            "never",
            json!({"restartPolicy": "Never", "containers": [container("bad")]}),
        )
        .await;
    world
        .create("always", json!({"containers": [container("bad")]}))
        .await;
    let failed = world.until("never", |pod| phase(pod) == "Failed").await;
    let statuses = failed.status.unwrap().container_statuses.unwrap();
    let ended = statuses[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(
        (ended.exit_code, ended.reason.as_deref()),
        (3, Some("Error"))
    );
    let looping = world
        .until("always", |pod| {
            super::harness::waiting(pod) == "CrashLoopBackOff"
        })
        .await;
    assert_eq!(restarts(&looping), 1);
    let mut asked = LogParams {
        timestamps: true,
        ..LogParams::default()
    };
    let current = world.pods().logs("always", &asked).await.unwrap();
    asked.previous = true;
    let previous = world.pods().logs("always", &asked).await.unwrap();
    assert!(previous.ends_with(" hello\n"), "{previous}");
    assert_eq!(previous, current, "between runs both are the last one's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_has_not_started_says_why_it_has_no_log() {
    let world = World::start().await;
    let _worker = world.worker("one").await;
    world
        .create("waits", json!({"containers": [container("nowhere")]}))
        .await;
    world
        .until("waits", |pod| {
            super::harness::waiting(pod).contains("ImagePull")
        })
        .await;
    let refused = world.pods().logs("waits", &LogParams::default()).await;
    let kube::Error::Api(status) = refused.unwrap_err() else {
        panic!("no status");
    };
    assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
    let text = "in pod \"waits\" is waiting to start: ";
    assert!(status.message.contains(text), "{}", status.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_go_first() {
    let world = World::start().await;
    let _worker = world.worker("one").await;
    world.push_hello().await;
    world.push("job", prints_and_exits(0)).await;
    let spec = json!({"initContainers": [{"name": "first", "image": "job"}], "containers": [container("hello")]});
    world.create("web", spec).await;
    let pod = world.until("web", is_ready).await;
    let init = pod.status.unwrap().init_container_statuses.unwrap();
    let ended = init[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(ended.reason.as_deref(), Some("Completed"));
}
