//! Everyday use of the real kubectl, an old one and a new one, as `tests/kubectl/*.cases` tell it.
//!
//! The cases are run by `tests/kubectl/run`, which also passes them on any cluster by hand; here each
//! kubectl gets a cluster of its own.

use std::path::Path;
use std::process::Command;

use crate::cluster::{Cluster, Kubectl};

#[tokio::test(flavor = "multi_thread")]
async fn everyday_of_a_new_kubectl() {
    everyday(Kubectl::New).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everyday_of_an_old_kubectl() {
    everyday(Kubectl::Old).await;
}

async fn everyday(version: Kubectl) {
    let cluster = Cluster::start(&[]).await;
    let Some(kubectl) = cluster.kubectl_of(version) else {
        eprintln!("no such kubectl here; its everyday is not tried");
        return;
    };
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl/run");
    let passed = Command::new(runner)
        .arg(kubectl.get_program())
        .arg(cluster.root().join("kubeconfig"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&passed.stdout);
    let wrong = String::from_utf8_lossy(&passed.stderr);
    assert!(passed.status.success(), "{said}{wrong}");
    let _ = cluster.stop();
}
