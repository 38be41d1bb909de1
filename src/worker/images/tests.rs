//! A loading belongs to the worker, not to the pod that asked first.

use super::*;
use crate::runtime::net::NoCluster;
use crate::runtime::{self, Compiler, Tuning};

/// A worker's images, and one that is fetched and not loaded.
fn images(directory: &std::path::Path, tasks: &TaskGroup) -> (Images, ImageRef) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = runtime::Config {
        cache_dir: directory.join("cache"),
        max_instances: 1,
        tasks: tasks.child(),
    };
    let tuning = Tuning {
        compiler: Compiler::InProcess,
        ..Tuning::default()
    };
    let runtime = Runtime::with_tuning(config, tuning, Arc::new(NoCluster)).unwrap();
    let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let client = Client::try_from(nowhere).unwrap();
    let images = Images::new(client, runtime, directory.join("images"), tasks.child()).unwrap();
    let wasm = b"\0asm\x01\0\0\0";
    let digest = Digest::of(wasm);
    std::fs::write(images.0.path(&digest), wasm).unwrap();
    let image = format!("empty@{digest}").parse().unwrap();
    (images, image)
}

#[tokio::test]
async fn a_loading_goes_on_when_the_pod_that_asked_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let tasks = TaskGroup::new();
    let (images, image) = images(directory.path(), &tasks);
    let asked = images.pull("default", &image, PullPolicy::IfNotPresent);
    assert!(asked.now_or_never().is_none(), "it is done at once");
    let loading = {
        let loaded = images.0.loaded.lock().unwrap();
        match loaded.values().next() {
            Some(Loaded::Loading(loading)) => loading.clone(),
            Some(Loaded::Ready(_)) | None => panic!("nothing is being loaded"),
        }
    };
    // Looked at and not waited for: whoever waits drives it.
    let ended = async {
        while loading.peek().is_none() {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(30);
    let ended = tokio::time::timeout(patience, ended).await;
    ended.expect("nobody drives the loading");
    assert!(tasks.shutdown(patience).await);
}
