//! Storage as pods see it: claims that outlive pods and workers, directories of the host, and files
//! that follow their objects.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ConfigMap, Event, PersistentVolume, PersistentVolumeClaim, Pod, Secret,
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Resource};
use serde_json::{Value, json};

use super::file_guest::{appends, awaits};
use super::harness::{World, container, phase, within};
use crate::runtime_pods::proposals::counting;

/// A pod that runs once, with one volume on `/data`.
fn once(image: &str, volume: &Value) -> Value {
    let mut main = container(image);
    main["volumeMounts"] = json!([{"name": "v", "mountPath": "/data"}]);
    let mut volume = volume.clone();
    volume["name"] = "v".into();
    json!({"restartPolicy": "Never", "containers": [main], "volumes": [volume]})
}

fn claim_volume(name: &str) -> Value {
    json!({"persistentVolumeClaim": {"claimName": name}})
}

fn exit_code(pod: &Pod) -> Option<i32> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let state = statuses.first()?.state.as_ref()?;
    Some(state.terminated.as_ref()?.exit_code)
}

async fn put<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

impl World {
    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::default_namespaced(self.client.clone())
    }

    async fn claim(&self, name: &str, size: &str) {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
        put(&self.claims(), claim).await;
    }

    /// Waits for an event of that reason with these words.
    pub(super) async fn event(&self, reason: &str, words: &str) {
        let events: Api<Event> = Api::default_namespaced(self.client.clone());
        let is_meant = |event: &Event| {
            let message = event.message.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some(reason) && message.contains(words)
        };
        let waiting = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                let found = events.list(&ListParams::default()).await.unwrap();
                if found.items.iter().any(is_meant) {
                    break;
                }
            }
        };
        within(waiting).await;
    }

    /// Runs a program once and tells its exit code and its node.
    async fn run(&self, name: &str, image: &str, volume: &Value) -> (i32, String) {
        self.create(name, once(image, volume)).await;
        let pod = self.until(name, |pod| exit_code(pod).is_some()).await;
        let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap();
        (exit_code(&pod).unwrap(), node)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_outlives_pods_and_workers() {
    let world = World::start().await;
    let one = world.worker("one").await;
    let _two = world.worker("two").await;
    world.push("writer", appends("/data/log", "x")).await;
    world.push("reader", awaits("/data/log", "xx")).await;
    world.claim("data", "1Mi").await;
    let volume = claim_volume("data");

    let (code, node) = world.run("w1", "writer", &volume).await;
    assert_eq!(code, 0);
    let claim = world.claims().get("data").await.unwrap();
    assert_eq!(claim.status.unwrap().phase.as_deref(), Some("Bound"));
    assert_eq!(
        claim.spec.as_ref().unwrap().storage_class_name.as_deref(),
        Some("local")
    );
    let name = claim.spec.unwrap().volume_name.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    let bound = volumes.get(&name).await.unwrap();
    assert_eq!(wasmorch::api::storage::node_of(&bound), Some(node.as_str()));
    let directory = world
        .directory
        .path()
        .join(&node)
        .join("volumes")
        .join(&name);
    assert!(directory.join("log").exists());

    // Whoever uses the claim goes where the volume is.
    for (pod, image) in [("w2", "writer"), ("r1", "reader"), ("r2", "reader")] {
        assert_eq!(
            world.run(pod, image, &volume).await,
            (0, node.clone()),
            "{pod}"
        );
    }
    let _one = if node == "one" {
        one.stop().await;
        world.worker("one").await
    } else {
        one
    };
    assert_eq!(world.run("r3", "reader", &volume).await, (0, node));

    // The claim's end is the directory's, once the pods have gone.
    let params = DeleteParams::default();
    world.claims().delete("data", &params).await.unwrap();
    let gone = |volume: Option<&PersistentVolume>| volume.is_none();
    within(Box::pin(await_condition(volumes, &name, gone)))
        .await
        .unwrap();
    assert!(!directory.exists());
    let left = world.claims().list(&ListParams::default()).await.unwrap();
    assert!(left.items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_on_a_claim_outlives_its_pods() {
    let world = World::start().await;
    let _one = world.worker("one").await;
    world.claim("data", "1Mi").await;
    for (pod, expected) in [("first", 5), ("second", 10)] {
        let wasm = wat::parse_str(counting(expected)).unwrap();
        world.push(pod, wasm).await;
        let mut spec = once(pod, &claim_volume("data"));
        spec["containers"][0]["env"] = json!([{"name": "GREETING", "value": "hi"}]);
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod,
            "annotations": {"wasmorch.dev/keyvalue-volume": "v"}}, "spec": spec});
        put(&world.pods(), object).await;
        let ended = world.until(pod, |pod| exit_code(pod).is_some()).await;
        assert_eq!(exit_code(&ended), Some(0), "{ended:?}");
        world.delete(pod).await;
        world.until_gone(pod).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_has_its_size_and_one_node_for_all_who_come_at_once() {
    let world = World::start().await;
    let _one = world.worker("one").await;
    let _two = world.worker("two").await;
    world.push("writer", appends("/data/log", "hello")).await;
    world.claim("tiny", "6").await;
    let volume = claim_volume("tiny");
    for name in ["p1", "p2", "p3"] {
        world.create(name, once("writer", &volume)).await;
    }
    let (mut codes, mut nodes) = (Vec::new(), Vec::new());
    for name in ["p1", "p2", "p3"] {
        let pod = world.until(name, |pod| exit_code(pod).is_some()).await;
        codes.push(exit_code(&pod).unwrap());
        nodes.push(pod.spec.unwrap().node_name.unwrap());
    }
    nodes.dedup();
    assert_eq!(nodes.len(), 1, "a directory is on one node");
    // Five bytes, then the one that is left, then none: ENOSPC is 51.
    codes.sort_unstable();
    assert_eq!(codes, [0, 0, 151]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_its_claim_and_a_retained_volume_for_its_operator() {
    let world = World::start().await;
    let host = tempfile::tempdir().unwrap();
    let mut config = world.config("one");
    config.allowed_host_paths = vec![host.path().to_owned()];
    let _one = world.worker_with(config).await;
    world.push("writer", appends("/data/log", "x")).await;
    world
        .create("early", once("writer", &claim_volume("by-hand")))
        .await;
    let is_told = |pod: &Pod| {
        let conditions = pod
            .status
            .iter()
            .flat_map(|it| it.conditions.iter().flatten());
        let mut messages = conditions.filter_map(|it| it.message.as_deref());
        messages.any(|text| text.contains("persistentvolumeclaim \"by-hand\" not found"))
    };
    world.until("early", is_told).await;
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    put(
        &volumes,
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "mine"}, "spec": {
            "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "hostPath": {"path": host.path().join("mine").to_str(), "type": "DirectoryOrCreate"}}}),
    )
    .await;
    put(
        &world.claims(),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "by-hand"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Mi"}}}}),
    )
    .await;
    world.until("early", |pod| phase(pod) == "Succeeded").await;
    assert!(host.path().join("mine/log").exists());
    world.delete("early").await;
    let params = DeleteParams::default();
    world.claims().delete("by-hand", &params).await.unwrap();
    let is_released = |volume: Option<&PersistentVolume>| {
        let status = volume.and_then(|volume| volume.status.as_ref());
        status.and_then(|status| status.phase.as_deref()) == Some("Released")
    };
    within(Box::pin(await_condition(volumes, "mine", is_released)))
        .await
        .unwrap();
    assert!(host.path().join("mine/log").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_the_host_where_the_operator_allows_it() {
    let world = World::start().await;
    let host = tempfile::tempdir().unwrap();
    let mut config = world.config("one");
    config.allowed_host_paths = vec![host.path().to_owned()];
    let _one = world.worker_with(config).await;
    world
        .push("writer", appends("/data/log", "by the guest"))
        .await;
    let path = host.path().join("made");
    let allowed = json!({"hostPath": {"path": path.to_str(), "type": "DirectoryOrCreate"}});
    assert_eq!(world.run("good", "writer", &allowed).await.0, 0);
    let written = std::fs::read_to_string(path.join("log")).unwrap();
    assert_eq!(written, "by the guest");

    let refused = json!({"hostPath": {"path": "/etc"}});
    world.create("bad", once("writer", &refused)).await;
    let pod = world
        .until("bad", |pod| {
            pod.status.as_ref().is_some_and(|it| it.message.is_some())
        })
        .await;
    let message = pod.status.unwrap().message.unwrap();
    assert!(message.contains("--allow-host-path"), "{message}");
    world.event("FailedMount", "--allow-host-path").await;
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        let contents = contents.as_bytes();
        archive.append_data(&mut header, path, contents).unwrap();
    }
    archive.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_brings_its_files() {
    let world = World::start().await;
    let _one = world.worker("one").await;
    let files = archive(&[("etc/greeting", "hello"), ("usr/share/empty", "")]);
    let reader = awaits("/etc/greeting", "hello");
    let (status, body) = world
        .push_with_files("reader", reader.clone(), files.clone())
        .await;
    assert_eq!(status, 201, "{body}");
    let module: Value = serde_json::from_str(&body).unwrap();
    let version = &module["spec"]["versions"][0];
    assert_eq!(version["files"], json!({"entries": 2, "size": 5}));
    // The same again is the same digest; other files are another.
    let (_, again) = world.push_with_files("reader", reader.clone(), files).await;
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["spec"]["versions"].as_array().unwrap().len(), 1);

    // What a container writes over them is its own, also when it starts again.
    let (status, body) = world
        .push_with_files(
            "writer",
            appends("/etc/greeting", "!"),
            archive(&[("etc/greeting", "hello")]),
        )
        .await;
    assert_eq!(status, 201, "{body}");
    let empty = json!({"emptyDir": {}});
    for (pod, image) in [("w1", "writer"), ("r1", "reader"), ("r2", "reader")] {
        assert_eq!(world.run(pod, image, &empty).await.0, 0, "{pod}");
    }
    let mut spec = once("writer", &empty);
    spec["containers"][0]["securityContext"] = json!({"readOnlyRootFilesystem": true});
    world.create("read-only", spec).await;
    let pod = world
        .until("read-only", |pod| exit_code(pod).is_some())
        .await;
    assert_eq!(exit_code(&pod), Some(169), "EROFS is 69");

    let (status, body) = world
        .push_with_files("bad", reader, archive(&[("run/x", "")]))
        .await;
    assert_eq!(status, 422, "{body}");
    assert!(
        body.contains("W0112") && body.contains("belong to the pod"),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn full_storage_is_an_error_to_the_guest_and_an_event_to_the_user() {
    let world = World::start().await;
    let _one = world.worker("one").await;
    world
        .push("writer", appends("/data/log", &"x".repeat(100)))
        .await;
    let limits = json!({"limits": {"ephemeral-storage": "10", "memory": "64Mi"}});
    for (name, medium, code) in [("disk", "", 151), ("memory", "Memory", 0)] {
        let mut spec = once("writer", &json!({"emptyDir": {"medium": medium}}));
        spec["containers"][0]["resources"] = limits.clone();
        world.create(name, spec).await;
        let pod = world.until(name, |pod| exit_code(pod).is_some()).await;
        assert_eq!(exit_code(&pod), Some(code), "{name}");
    }
    world.event("StorageFull", "of 10 B").await;
}

/// The refresh tick is an hour away: what the guests see, the watches brought.
#[tokio::test(flavor = "multi_thread")]
async fn running_guests_see_what_changes() {
    let world = World::start().await;
    let mut config = world.config("one");
    config.volume_refresh = Duration::from_hours(1);
    let _one = world.worker_with(config).await;
    world.push("awaits", awaits("/data/key", "two")).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(world.client.clone());
    let (meta, data) = (json!({"name": "object"}), json!({"key": "one"}));
    put(
        &maps,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}),
    )
    .await;
    put(
        &secrets,
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}),
    )
    .await;
    let label = json!({"downwardAPI": {"items": [{"path": "key", "fieldRef": {"fieldPath": "metadata.labels['key']"}}]}});
    let projected = json!({"projected": {"sources": [{"configMap": {"name": "object", "items": [{"key": "key", "path": "key"}]}}, label]}});
    let volumes = [
        ("map", json!({"configMap": {"name": "object"}})),
        ("secret", json!({"secret": {"secretName": "object"}})),
        ("label", label),
        (
            "late",
            json!({"configMap": {"name": "late", "optional": true}}),
        ),
        ("projected", projected),
    ];
    for (name, volume) in &volumes {
        let mut spec = once("awaits", volume);
        if *name == "late" {
            // A file that is not there yet is an error to this guest; it is started until it is.
            spec["restartPolicy"] = "OnFailure".into();
        }
        world.create(name, spec).await;
    }
    for name in ["map", "secret", "label", "projected"] {
        world.until(name, |pod| phase(pod) == "Running").await;
    }
    let params = PatchParams::default();
    let change = json!({"data": {"key": "two"}});
    maps.patch("object", &params, &Patch::Merge(&change))
        .await
        .unwrap();
    let change = json!({"stringData": {"key": "two"}});
    secrets
        .patch("object", &params, &Patch::Merge(&change))
        .await
        .unwrap();
    let change = json!({"metadata": {"labels": {"key": "two"}}});
    for name in ["label", "projected"] {
        world
            .pods()
            .patch(name, &params, &Patch::Merge(&change))
            .await
            .unwrap();
    }
    put(&maps, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"key": "two"}})).await;
    for (name, _) in &volumes {
        world.until(name, |pod| phase(pod) == "Succeeded").await;
    }
}
