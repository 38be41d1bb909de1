//! The `kube` crate's own way to pods: commands, attaching, forwarded ports, logs, evictions.

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess, EvictParams, LogParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::harness::{World, is_ready, phase, within};

/// All that a command says, and how it ends.
async fn outcome(mut process: AttachedProcess) -> (String, String, Status) {
    let (mut out, mut errors) = (String::new(), String::new());
    let status = process.take_status().unwrap();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let read_out = async {
        if let Some(mut stdout) = stdout {
            stdout.read_to_string(&mut out).await.unwrap();
        }
    };
    let read_errors = async {
        if let Some(mut stderr) = stderr {
            stderr.read_to_string(&mut errors).await.unwrap();
        }
    };
    let (status, ..) = within(async { tokio::join!(status, read_out, read_errors) }).await;
    within(process.join()).await.unwrap();
    (out, errors, status.expect("a status comes last"))
}

/// The code that a failure's status tells.
fn code(status: &Status) -> &str {
    assert_eq!(status.status.as_deref(), Some("Failure"));
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let causes = status.details.as_ref().unwrap().causes.as_ref().unwrap();
    assert_eq!(causes[0].reason.as_deref(), Some("ExitCode"));
    causes[0].message.as_deref().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_and_tell_how_they_ended() {
    let (world, worker) = World::with_hello().await;
    let pods = world.pods();

    let script = ["sh", "-c", "echo out; nothing-like-this; exit 3"];
    let plain = AttachParams::default();
    let process = pods.exec("p", script, &plain);
    let (out, errors, status) = outcome(within(process).await.unwrap()).await;
    assert_eq!((out.as_str(), code(&status)), ("out\n", "3"));
    assert!(errors.contains("nothing-like-this: not found"), "{errors}");
    let asked = AttachParams::default().container("main");
    let process = within(pods.exec("p", ["true"], &asked)).await.unwrap();
    let (_, _, status) = outcome(process).await;
    assert_eq!(status.status.as_deref(), Some("Success"));

    // The end of what is sent ends what reads it.
    let asked = AttachParams::default().stdin(true).stderr(false);
    let mut process = within(pods.exec("p", ["cat"], &asked)).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    let large = "0123456789abcde\n".repeat(20_000);
    let sent = large.clone();
    let sending = async {
        stdin.write_all(sent.as_bytes()).await.unwrap();
        stdin.shutdown().await.unwrap();
        drop(stdin);
    };
    let ((out, _, status), ()) = tokio::join!(outcome(process), sending);
    assert!(out == large, "{} of {} bytes", out.len(), large.len());
    assert_eq!(status.status.as_deref(), Some("Success"));

    // A terminal with a size; it has one stream.
    let mut process = within(pods.exec("p", ["sh"], &AttachParams::interactive_tty()))
        .await
        .unwrap();
    let size = kube::api::TerminalSize {
        height: 40,
        width: 120,
    };
    process.terminal_size().unwrap().try_send(size).unwrap();
    let mut stdin = process.stdin().unwrap();
    within(stdin.write_all(b"exit 4\r")).await.unwrap();
    let (out, _, status) = outcome(process).await;
    assert!(out.contains("exit 4"), "{out}");
    assert_eq!(code(&status), "4");

    let refused = pods.exec("none", ["true"], &plain);
    let refused = within(refused).await.err().unwrap().to_string();
    assert!(refused.contains("404"), "{refused}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_attached_to_and_its_log_is_followed() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    let cat = json!({"name": "main", "image": "toolbox", "command": ["cat"],
        "stdin": true, "stdinOnce": true});
    let spec = json!({"restartPolicy": "Never", "containers": [cat]});
    world.create("reads", spec).await;
    world.until("reads", is_ready).await;
    let pods = world.pods();
    let follow = LogParams {
        follow: true,
        timestamps: true,
        ..LogParams::default()
    };
    let log = within(pods.log_stream("reads", &follow)).await.unwrap();

    let asked = AttachParams::default().stdin(true);
    let mut process = within(pods.attach("reads", &asked)).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    within(stdin.write_all(b"one\ntwo\n")).await.unwrap();
    let mut echoed = [0; 8];
    let mut stdout = process.stdout().unwrap();
    within(stdout.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, b"one\ntwo\n");
    within(stdin.shutdown()).await.unwrap();
    drop(stdin);
    world.until("reads", |pod| phase(pod) == "Succeeded").await;

    // It ends with the container.
    let lines: Vec<String> = within(log.lines().try_collect()).await.unwrap();
    let lines: Vec<_> = lines.iter().map(|it| it.split_once(' ').unwrap()).collect();
    assert_eq!(
        lines.iter().map(|it| it.1).collect::<Vec<_>>(),
        ["one", "two"]
    );
    assert!(lines.iter().all(|it| it.0.ends_with('Z')), "{lines:?}");
    let last = LogParams {
        tail_lines: Some(1),
        ..LogParams::default()
    };
    assert_eq!(within(pods.logs("reads", &last)).await.unwrap(), "two\n");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded_and_refusals_are_told() {
    let (world, worker) = World::with_hello().await;
    let mut forwarder = within(world.pods().portforward("p", &[8080, 9]))
        .await
        .unwrap();
    let refused = forwarder.take_error(9).unwrap();
    let mut stream = forwarder.take_stream(8080).unwrap();
    let asked = b"GET / HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n";
    within(stream.write_all(asked)).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    let refused = within(refused).await.unwrap();
    assert!(refused.contains("error forwarding port 9"), "{refused}");
    drop(stream);
    drop(forwarder);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_obey_budgets() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    world.push_hello().await;
    let container = json!({"name": "main", "image": "hello", "ports": [{"containerPort": 8080}]});
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "labels": {"app": "p"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }))
    .unwrap();
    let (pods, post) = (world.pods(), PostParams::default());
    let uid = pods
        .create(&post, &pod)
        .await
        .unwrap()
        .metadata
        .uid
        .unwrap();
    world.until("p", is_ready).await;
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(world.client.clone());
    let budget = serde_json::from_value(json!({"metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}}}))
    .unwrap();
    budgets.create(&post, &budget).await.unwrap();
    let counted = await_condition(
        budgets.clone(),
        "b",
        |budget: Option<&PodDisruptionBudget>| {
            let status = budget.and_then(|budget| budget.status.as_ref());
            status.is_some_and(|status| status.current_healthy == 1)
        },
    );
    within(counted).await.unwrap();
    let refused = pods.evict("p", &EvictParams::default()).await;
    let Err(kube::Error::Api(status)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((status.code, &*status.reason), (429, "TooManyRequests"));
    budgets.delete("b", &Default::default()).await.unwrap();
    let evicted = pods.evict("p", &EvictParams::default()).await.unwrap();
    assert!(evicted.is_success(), "{evicted:?}");
    let gone = await_condition(pods, "p", conditions::is_deleted(&uid));
    Box::pin(within(gone)).await.unwrap();
    worker.stop().await;
}
