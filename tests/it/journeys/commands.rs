//! Looking into pods, with the own command line and with the real kubectl.

use serde_json::Value;

use super::with_hello;
use crate::cluster::{Cluster, until};

/// A pod of the Deployment that `with_hello` makes.
async fn hello_pod(cluster: &Cluster) -> String {
    let pods = cluster.pods("app=hello").await;
    pods[0].metadata.name.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_beside_a_handler() {
    let cluster = with_hello(1).await;
    let pod = &*hello_pod(&cluster).await;
    let told = cluster.wasmorch(&["exec", "deploy/hello", "--", "http", "localhost:8080/"]);
    assert!(told.contains(pod), "{told}");
    let told = cluster.wasmorch(&["debug", pod, "-c", "looker", "--", "netstat"]);
    assert!(told.contains(":8080"), "{told}");
    let described: Value =
        serde_json::from_str(&cluster.wasmorch(&["get", "pod", pod, "-o", "json"])).unwrap();
    let status = &described["status"]["ephemeralContainerStatuses"][0];
    assert_eq!(status["state"]["terminated"]["exitCode"], 0, "{status}");
    let _ = cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_execs_attaches_and_debugs() {
    let cluster = with_hello(1).await;
    let pod = &*hello_pod(&cluster).await;
    let script = "echo kept > /tmp/x; cat /tmp/x";
    let Some(told) = cluster.kubectl(&["exec", pod, "--", "sh", "-c", script]) else {
        eprintln!("no kubectl here; its journey is not made");
        return;
    };
    assert_eq!(told, "kept\n");
    let failed = cluster.try_kubectl(&["exec", pod, "--", "sh", "-c", "echo no; exit 3"]);
    assert_eq!(failed.unwrap().status.code(), Some(3));
    let failed = cluster.try_kubectl(&["exec", pod, "-c", "none", "--", "true"]);
    let told = String::from_utf8_lossy(&failed.unwrap().stderr).into_owned();
    assert!(told.contains("none"), "{told}");
    let debug = ["debug", pod, "--image=toolbox", "-c", "looker", "-q", "--"];
    let look = ["http", "localhost:8080/"];
    cluster.kubectl(&[&debug[..], &look[..]].concat()).unwrap();
    until("the debug container to have looked", async || {
        let log = cluster.try_kubectl(&["logs", pod, "-c", "looker"])?;
        String::from_utf8_lossy(&log.stdout)
            .contains(pod)
            .then_some(())
    })
    .await;
    let attached = [
        "debug",
        pod,
        "--image=toolbox",
        "-c",
        "second",
        "-i",
        "-q",
        "--",
    ];
    let told = cluster.try_kubectl(&[&attached[..], &["sh", "-c", "echo seen; cat"]].concat());
    let told = told.unwrap();
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr)
    );
    assert!(!told.to_lowercase().contains("error"), "{told}");
    let _ = cluster.stop();
}
