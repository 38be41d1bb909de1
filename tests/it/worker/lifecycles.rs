//! What happens around a container's run: exec probes, hooks, sidecars, termination messages.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use serde_json::{Value, json};

use super::harness::{World, is_ready, phase};
use super::limits::figure;
use super::remote::exec;

fn terminated(pod: &Pod) -> Option<ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.first()?.state.as_ref()?.terminated.clone()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "cases read better without `&`"
)]
fn sleeping(more: Value) -> Value {
    let mut container =
        json!({"name": "main", "image": "toolbox", "command": ["sleep", "infinity"]});
    let more = more.as_object().unwrap().clone();
    container.as_object_mut().unwrap().extend(more);
    container
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_probes_ask_by_running_a_command() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    let container = sleeping(json!({
        "startupProbe": {"exec": {"command": ["test", "-f", "/tmp/started"]}, "failureThreshold": 100, "periodSeconds": 1},
        "readinessProbe": {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1},
        "lifecycle": {"postStart": {"exec": {"command": ["touch", "/tmp/started"]}}}}));
    world
        .create(
            "p",
            json!({"terminationGracePeriodSeconds": 1, "containers": [container]}),
        )
        .await;
    let started = |pod: &Pod| {
        let statuses = pod
            .status
            .as_ref()
            .and_then(|it| it.container_statuses.clone());
        statuses.is_some_and(|all| all[0].started == Some(true))
    };
    let pod = world.until("p", started).await;
    assert!(
        !is_ready(&pod),
        "the file that readiness asks for is not there"
    );
    assert_eq!(exec(&world, "p", &["touch", "/tmp/ready"]).await.code(), 0);
    world.until("p", is_ready).await;
    assert_eq!(exec(&world, "p", &["rm", "/tmp/ready"]).await.code(), 0);
    world.until("p", |pod| !is_ready(pod)).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_exec_liveness_probe_restarts_the_container() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    let container = sleeping(json!({
        "livenessProbe": {"exec": {"command": ["sh", "-c", "echo sick; exit 1"]}, "failureThreshold": 1, "periodSeconds": 1}}));
    world
        .create(
            "p",
            json!({"terminationGracePeriodSeconds": 2, "containers": [container]}),
        )
        .await;
    let pod = world
        .until("p", |pod| super::harness::restarts(pod) > 0)
        .await;
    let status = &pod.status.unwrap().container_statuses.unwrap()[0];
    let last = status.last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(
        last.exit_code, 143,
        "it was asked to stop and listened: {last:?}"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pre_stop_hook_runs_before_the_stop_request() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    // The deadline must not pass while the toolbox is compiled.
    let warm = json!({"name": "main", "image": "toolbox", "command": ["true"]});
    world
        .create(
            "warm",
            json!({"restartPolicy": "Never", "containers": [warm]}),
        )
        .await;
    world.until("warm", |pod| phase(pod) == "Succeeded").await;
    let hook = "test -f $WASMORCH_TERM_FILE && echo late || echo bye > /dev/termination-log";
    let container = sleeping(json!({
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", hook]}}}}));
    world
        .create(
            "p",
            json!({"activeDeadlineSeconds": 2, "terminationGracePeriodSeconds": 20, "containers": [container]}),
        )
        .await;
    let pod = world.until("p", |pod| phase(pod) == "Failed").await;
    let end = terminated(&pod).unwrap();
    assert_eq!(end.message.as_deref(), Some("bye"), "{end:?}");
    assert_eq!(end.exit_code, 143, "{end:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_post_start_hook_ends_the_container() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    let container = sleeping(json!({
        "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "exit 5"]}}}}));
    world
        .create(
            "p",
            json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container]}),
        )
        .await;
    let pod = world.until("p", |pod| phase(pod) == "Failed").await;
    assert_eq!(terminated(&pod).unwrap().exit_code, 143);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_may_be_requests() {
    let world = World::start().await;
    let worker = world.worker("one").await;
    world.push_hello().await;
    let hello = |lifecycle: Value| {
        let ports = json!([{"containerPort": 8080, "name": "web"}]);
        json!({"name": "main", "image": "hello", "ports": ports, "lifecycle": lifecycle})
    };
    let get = |path: &str| json!({"httpGet": {"path": path, "port": "web"}});
    let asked = hello(json!({"postStart": get("/env")}));
    world
        .create(
            "asked",
            json!({"terminationGracePeriodSeconds": 1, "containers": [asked]}),
        )
        .await;
    world.until("asked", is_ready).await;
    assert_eq!(figure(&world, "/requests/total").await, 1);
    assert_eq!(figure(&world, "/requests/failed").await, 0);
    world.delete("asked").await;
    world.until_gone("asked").await;

    let failing = hello(json!({"postStart": get("/fail")}));
    world
        .create(
            "failing",
            json!({"restartPolicy": "Never", "containers": [failing]}),
        )
        .await;
    world
        .until("failing", |pod| terminated(pod).is_some())
        .await;
    world.event("FailedPostStartHook", "").await;

    // A trap is in the log that the pod leaves.
    let stopped = hello(json!({"preStop": get("/trap")}));
    world
        .create(
            "stopped",
            json!({"activeDeadlineSeconds": 3, "containers": [stopped]}),
        )
        .await;
    world.until("stopped", |pod| phase(pod) == "Failed").await;
    let log = world.pods().logs("stopped", &Default::default()).await;
    let log = log.unwrap();
    assert!(log.contains("GET /trap failed"), "{log}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_end_in_time_after_the_deadline_is_told_by_its_name() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    let spin = r#"(module (memory (export "memory") 1)
        (func (export "_start") (loop $l (br $l))))"#;
    world.push("spin", wat::parse_str(spin).unwrap()).await;
    let spec = json!({"activeDeadlineSeconds": 3, "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": "spin"}]});
    world.create("p", spec).await;
    let is_over = |pod: &Pod| phase(pod) == "Failed" && terminated(pod).is_some();
    let pod = world.until("p", is_over).await;
    let end = terminated(&pod).unwrap();
    assert_eq!(
        (end.exit_code, end.reason.as_deref()),
        (137, Some("DeadlineExceeded")),
        "{end:?}"
    );
    let status = pod.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    let message = status.message.unwrap_or_default();
    assert!(message.contains("active on the node longer"), "{message}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_start_first_and_do_not_keep_a_pod_that_is_done() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    let order = |name: &str| format!("echo {name} >> /tmp/order; sleep infinity");
    let sidecar = |name: &str| {
        json!({"name": name, "image": "toolbox", "restartPolicy": "Always",
            "command": ["sh", "-c", order(name)],
            "startupProbe": {"exec": {"command": ["grep", name, "/tmp/order"]}, "periodSeconds": 1, "failureThreshold": 30}})
    };
    let main = json!({"name": "main", "image": "toolbox",
        "command": ["sh", "-c", "cat /tmp/order > /dev/termination-log"]});
    world
        .create(
            "p",
            json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 20,
                "initContainers": [sidecar("a"), sidecar("b")], "containers": [main]}),
        )
        .await;
    let pod = world.until("p", |pod| phase(pod) == "Succeeded").await;
    assert_eq!(terminated(&pod).unwrap().message.as_deref(), Some("a\nb"));
    let sidecars = pod.status.unwrap().init_container_statuses.unwrap();
    let ends: Vec<_> = sidecars
        .iter()
        .map(|status| status.state.clone().unwrap().terminated.unwrap())
        .collect();
    assert!(ends.iter().all(|end| end.exit_code == 143), "{ends:?}");
    assert!(
        ends[1].finished_at.as_ref().unwrap().0 <= ends[0].finished_at.as_ref().unwrap().0,
        "the last one stops first"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_it_ended_is_told_in_its_own_words() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    let trap = r#"(module $crate (memory (export "memory") 1)
        (func $inner unreachable) (func $outer call $inner)
        (func (export "_start") call $outer))"#;
    world.push("trap", wat::parse_str(trap).unwrap()).await;
    let division = r#"(module (memory (export "memory") 1)
        (func (export "_start") (drop (i32.div_u (i32.const 1) (i32.const 0)))))"#;
    world
        .push("division", wat::parse_str(division).unwrap())
        .await;
    let shell = |script: &str| json!({"image": "toolbox", "command": ["sh", "-c", script]});
    let cases = [
        (
            "file",
            shell("echo broken > /dev/termination-log; exit 3"),
            3,
            "broken",
        ),
        (
            "other",
            {
                let mut it = shell("echo elsewhere > /tmp/why; exit 1");
                it["terminationMessagePath"] = json!("/tmp/why");
                it
            },
            1,
            "elsewhere",
        ),
        (
            "log",
            {
                let mut it = shell("echo last words; exit 1");
                it["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
                it
            },
            1,
            "last words",
        ),
        ("silent", shell("echo last words; exit 1"), 1, ""),
        ("trap", json!({"image": "trap"}), 134, "inner"),
        (
            "division",
            json!({"image": "division"}),
            136,
            "divide by zero",
        ),
    ];
    for (name, container, _, _) in &cases {
        let mut container = container.clone();
        container["name"] = json!("main");
        let spec = json!({"restartPolicy": "Never", "containers": [container]});
        world.create(name, spec).await;
    }
    for (name, _, code, message) in cases {
        let pod = world.until(name, |pod| phase(pod) == "Failed").await;
        let end = terminated(&pod).unwrap();
        let told = end.message.clone().unwrap_or_default();
        assert_eq!(end.exit_code, code, "{name}: {end:?}");
        assert!(told.contains(message), "{name}: {told}");
        assert_eq!(told.is_empty(), message.is_empty(), "{name}: {told}");
    }
    let log = world
        .pods()
        .logs("trap", &Default::default())
        .await
        .unwrap();
    assert!(log.contains("inner") && log.contains("outer"), "{log}");
    worker.stop().await;
}
