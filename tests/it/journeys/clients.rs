//! Client libraries that others wrote, each with a script that goes through what operators do.
//!
//! `WASMORCH_TEST_CLIENTS` is the directory that `tests/clients/fetch` prints.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::wait::{await_condition, conditions};

use super::with_hello;
use crate::cluster::{Cluster, PATIENCE};

/// A pod that says something each second.
const TALKER: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: talker }
spec:
  containers:
    - { name: main, image: toolbox, command: [sh, -c, "while true; do echo tick; sleep 1; done"] }
"#;

pub(super) fn clients() -> Option<PathBuf> {
    let found = std::env::var_os("WASMORCH_TEST_CLIENTS").map(PathBuf::from);
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "run tests/clients/fetch and name its directory in WASMORCH_TEST_CLIENTS"
    );
    if found.is_none() {
        eprintln!("WASMORCH_TEST_CLIENTS is not set; this client's journey is not made");
    }
    found
}

/// A cluster with a Deployment that serves and a pod that talks.
async fn peopled() -> Cluster {
    let cluster = with_hello(1).await;
    cluster.push("toolbox", "toolbox");
    cluster.apply(TALKER);
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let running = await_condition(pods, "talker", conditions::is_pod_running());
    let running = cluster.wait_within(PATIENCE, "talker", running);
    Box::pin(running).await.unwrap();
    cluster
}

/// Runs a script of `tests/clients`; its steps are what it prints.
fn run(cluster: &Cluster, program: &Path, script: &Path) -> String {
    let output = Command::new(program)
        .arg(script)
        .arg(cluster.root().join("kubeconfig"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "after {said}\n{errors}");
    said
}

pub(super) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_client() {
    let Some(clients) = clients() else { return };
    let cluster = Box::pin(peopled()).await;
    let python = clients.join("python/bin/python");
    let said = run(&cluster, &python, &script("python.py"));
    assert!(said.ends_with("done\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_javascript_client() {
    let Some(clients) = clients() else { return };
    let cluster = Box::pin(peopled()).await;
    // A module finds its packages beside itself.
    let place = cluster.root().join("javascript");
    std::fs::create_dir(&place).unwrap();
    std::fs::copy(script("javascript.mjs"), place.join("javascript.mjs")).unwrap();
    std::os::unix::fs::symlink(
        clients.join("javascript/node_modules"),
        place.join("node_modules"),
    )
    .unwrap();
    let script = place.join("javascript.mjs");
    let said = run(&cluster, Path::new("node"), &script);
    assert!(said.ends_with("done\n"), "{said}");
}
