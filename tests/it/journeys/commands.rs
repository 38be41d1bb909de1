//! Looking into pods, with the own command line and with the real kubectl.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::with_hello;
use crate::cluster::{Cluster, Kubectl, until};

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

/// What comes from a pipe ends: the own command ends the program's input with it (`stdinOnce`),
/// kubectl leaves the container with its input open, as it does on any cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_debug_container_reads_from_a_pipe() {
    let cluster = with_hello(1).await;
    let pod = &*hello_pod(&cluster).await;
    let state = |name: &str| {
        let pod = cluster.wasmorch(&["get", "pod", pod, "-o", "json"]);
        let pod: Value = serde_json::from_str(&pod).unwrap();
        let statuses = pod["status"]["ephemeralContainerStatuses"].as_array();
        let mut statuses = statuses.cloned().unwrap_or_default().into_iter();
        statuses.find(|it| it["name"] == name).unwrap()["state"].clone()
    };
    let told = piped(
        cluster.command(),
        &["debug", pod, "-i", "-c", "own", "--", "cat"],
    );
    assert_eq!(told, (0, "piped\n".to_owned()));
    until("the end of its input to end it", async || {
        let state = state("own");
        (state["terminated"]["exitCode"] == 0).then_some(())
    })
    .await;
    if cluster.kubectl(&["version", "--client"]).is_none() {
        eprintln!("no kubectl here; its journey is not made");
        return;
    }
    let kubectl = cluster.kubectl_of(Kubectl::New).unwrap();
    let arguments = [
        "debug",
        pod,
        "-i",
        "-q",
        "-c",
        "theirs",
        "--image=toolbox",
        "--",
        "cat",
    ];
    let told = piped(kubectl, &arguments);
    assert_eq!(told, (0, "piped\n".to_owned()));
    let state = state("theirs");
    assert!(state["running"].is_object(), "{state}");
    let _ = cluster.stop();
}

/// A program's code and output when a line is piped into it.
fn piped(mut command: Command, arguments: &[&str]) -> (i32, String) {
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"piped\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), said)
}
