//! Names, conflicts, retries, batches.

use std::collections::BTreeSet;

use serde_json::json;
use wasmorch::registry::{
    Caller, DeleteOptions, Error, FieldValidation, ListOptions, Patch, WriteOptions, decode,
};

use super::{Fixture, NS, complaints, config_map, pod};

#[tokio::test]
async fn generated_names_are_new_each_time() {
    let fixture = Fixture::new().await;
    let mut names = BTreeSet::new();
    for _ in 0..20 {
        let object = json!({"metadata": {"generateName": "job-"}});
        let created = fixture.created("configmaps", object).await;
        names.insert(created["metadata"]["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(names.len(), 20);
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("job-") && name.len() == 9)
    );
}

#[tokio::test]
async fn several_are_created_or_none() {
    let fixture = Fixture::new().await;
    fixture.created("configmaps", config_map("b")).await;
    let row = fixture.row("configmaps");
    let batch = |names: &[&str]| {
        let one = |name: &&str| (row, NS.map(str::to_owned), config_map(name));
        names.iter().map(one).collect::<Vec<_>>()
    };
    let options = WriteOptions::default();
    let create = |names: &'static [&'static str]| {
        fixture
            .registry
            .create_all(batch(names), &options, &fixture.caller)
    };
    let refused = create(&["a", "b"]).await.map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "configmaps \"b\" already exists");
    assert_eq!(fixture.get("configmaps", "a"), None);
    assert_eq!(create(&["a", "c"]).await.unwrap().len(), 2);
    assert!(fixture.get("configmaps", "c").is_some());
}

#[tokio::test]
async fn writers_without_a_revision_never_lose_each_others_changes() {
    let fixture = Fixture::new().await;
    fixture.created("configmaps", config_map("shared")).await;
    let row = fixture.row("configmaps");
    let options = WriteOptions::default();
    let patches = (0..30).map(|index| {
        let patch = Patch::Merge(json!({"data": {format!("k{index}"): "x"}}));
        fixture
            .registry
            .patch(row, NS, "shared", None, patch, &options, &fixture.caller)
    });
    for result in futures::future::join_all(patches).await {
        result.unwrap();
    }
    let found = fixture.get("configmaps", "shared").unwrap();
    assert_eq!(found["data"].as_object().unwrap().len(), 31);
}

#[tokio::test]
async fn of_writers_with_a_revision_one_wins() {
    let fixture = Fixture::new().await;
    let created = fixture.created("configmaps", config_map("shared")).await;
    let updates = (0..10).map(|index| {
        let mut object = created.clone();
        object["data"]["key"] = json!(index.to_string());
        fixture.update("configmaps", None, object)
    });
    let results = futures::future::join_all(updates).await;
    let won = results.iter().filter(|result| result.is_ok()).count();
    let lost = |result: &&Result<_, Error>| matches!(result, Err(Error::Conflict { .. }));
    assert_eq!((won, results.iter().filter(lost).count()), (1, 9));
}

#[tokio::test]
async fn duplicate_fields_are_refused_with_the_unknown_ones() {
    let fixture = Fixture::new().await;
    let text = br#"{"metadata": {"name": "a"}, "data": {"k": "1", "k": "2"}, "colour": 1}"#;
    let parsed = decode::parse_json(text).unwrap();
    let mut options = WriteOptions {
        field_validation: FieldValidation::Strict,
        duplicate_fields: parsed.duplicates,
        ..WriteOptions::default()
    };
    let row = fixture.row("configmaps");
    let create = fixture
        .registry
        .create(row, NS, parsed.value.clone(), &options, &fixture.caller)
        .await;
    assert_eq!(
        create.map(drop).unwrap_err().to_string(),
        "strict decoding error: duplicate field \"data.k\", unknown field \"colour\""
    );
    options.field_validation = FieldValidation::Ignore;
    let created = fixture
        .registry
        .create(row, NS, parsed.value, &options, &fixture.caller)
        .await
        .unwrap();
    assert_eq!(created.object.object["data"], json!({"k": "2"}));
    assert!(created.warnings.is_empty());
}

#[tokio::test]
async fn a_terminating_namespace_takes_nothing_and_some_never_go() {
    let fixture = Fixture::new().await;
    let namespaces = fixture.row("namespaces");
    fixture
        .created("namespaces", json!({"metadata": {"name": "old"}}))
        .await;
    let delete = |name: &'static str| {
        static OPTIONS: std::sync::LazyLock<DeleteOptions> =
            std::sync::LazyLock::new(DeleteOptions::default);
        fixture
            .registry
            .delete(namespaces, None, name, &OPTIONS, &fixture.caller)
    };
    delete("old").await.unwrap();
    let object = fixture.registry.get(namespaces, None, "old").unwrap();
    assert_eq!(object.object["status"]["phase"], "Terminating");
    let options = WriteOptions::default();
    let row = fixture.row("configmaps");
    let refused = fixture
        .registry
        .create(row, Some("old"), config_map("a"), &options, &fixture.caller)
        .await
        .map(drop);
    assert!(matches!(
        refused,
        Err(Error::Forbidden {
            cause: Some("NamespaceTerminating"),
            ..
        })
    ));
    for name in ["default", "kube-system", "kube-public"] {
        assert!(
            matches!(delete(name).await, Err(Error::Forbidden { .. })),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_worker_cannot_write_about_another() {
    let fixture = Fixture::new().await;
    let worker = Caller {
        user: "system:node:dev-1".to_owned(),
        groups: vec!["system:nodes".to_owned()],
        ..Caller::default()
    };
    let options = WriteOptions::default();
    let create = async |plural: &str, name: &str| {
        let object = json!({"metadata": {"name": name}});
        let row = fixture.row(plural);
        fixture
            .registry
            .create(row, NS, object, &options, &worker)
            .await
            .map(drop)
    };
    assert!(create("nodes", "dev-1").await.is_ok());
    assert!(matches!(
        create("nodes", "dev-2").await,
        Err(Error::Forbidden { .. })
    ));
    assert!(matches!(
        create("secrets", "dev-1").await,
        Err(Error::Forbidden { .. })
    ));
}

#[tokio::test]
async fn an_object_may_not_grow_a_finalizer_while_it_goes() {
    let fixture = Fixture::new().await;
    let mut object = config_map("held");
    object["metadata"]["finalizers"] = json!(["a.example/one"]);
    fixture.created("configmaps", object).await;
    let row = fixture.row("configmaps");
    let options = DeleteOptions::default();
    fixture
        .registry
        .delete(row, NS, "held", &options, &fixture.caller)
        .await
        .unwrap();
    let mut held = fixture.get("configmaps", "held").unwrap();
    held["metadata"]["finalizers"] = json!(["a.example/one", "b.example/two"]);
    let refused = complaints(fixture.update("configmaps", None, held.clone()).await);
    assert!(
        refused[0].starts_with("metadata.finalizers: Forbidden"),
        "{refused:?}"
    );
    held["metadata"]["finalizers"] = json!([]);
    fixture.update("configmaps", None, held).await.unwrap();
    assert_eq!(fixture.get("configmaps", "held"), None);
}

#[tokio::test]
async fn secrets_keep_text_as_bytes_and_frozen_data_stays() {
    let fixture = Fixture::new().await;
    let object = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}, "immutable": true});
    let mut secret = fixture.created("secrets", object).await;
    assert_eq!(secret["data"], json!({"k": "dg=="}));
    assert!(secret.get("stringData").is_none());
    secret["data"]["k"] = json!("eA==");
    let refused = complaints(fixture.update("secrets", None, secret).await);
    assert_eq!(
        refused,
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
}

#[tokio::test]
async fn events_of_both_groups_are_the_same_objects() {
    let fixture = Fixture::new().await;
    let new = fixture
        .registry
        .find("events.k8s.io", "v1", "events")
        .unwrap();
    let old = fixture.registry.find("", "v1", "events").unwrap();
    let object = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "web"}, "note": "hello", "reportingController": "kubelet"});
    let options = WriteOptions::default();
    let create = fixture
        .registry
        .create(new, NS, object, &options, &fixture.caller);
    let created = create.await.unwrap();
    assert_eq!(created.object.object["note"], "hello");
    let stored = fixture.registry.get(old, NS, "e").unwrap();
    assert_eq!(stored.object["message"], "hello");
    assert_eq!(stored.object["involvedObject"]["name"], "web");
    let patch = Patch::Merge(json!({"note": "bye"}));
    let patched = fixture
        .registry
        .patch(new, NS, "e", None, patch, &options, &fixture.caller);
    assert_eq!(patched.await.unwrap().object.object["note"], "bye");
    let selected = ListOptions {
        field_selector: Some("regarding.name=web".to_owned()),
        ..ListOptions::default()
    };
    let list = fixture.registry.list(new, NS, &selected).await.unwrap();
    assert_eq!(list.items[0].object["apiVersion"], "events.k8s.io/v1");
}

#[tokio::test]
async fn images_are_pinned_to_what_their_tag_means_now() {
    let fixture = Fixture::new().await;
    let digest = format!("sha256:{}", "a".repeat(64));
    let module = json!({"metadata": {"name": "hello"}, "spec": {"tags": {"v2": digest},
        "versions": [{"digest": digest, "size": 8, "format": "Component", "role": "Handler"}]}});
    fixture.created("modules", module).await;
    let mut object = pod("web");
    object["spec"]["containers"] = json!([
        {"name": "known", "image": "hello:v2"}, {"name": "untagged", "image": "hello"}, {"name": "absent", "image": "nothing:v1"}]);
    let created = fixture.created("pods", object).await;
    let images: Vec<&str> = created["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["image"].as_str().unwrap())
        .collect();
    let pinned = format!("hello:v2@{digest}");
    assert_eq!(images, [&pinned, "hello", "nothing:v1"]);
    // A container for debugging is as good a user of its module.
    let mut debugged = created;
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "hello:v2"}]);
    let part = Some("ephemeralcontainers");
    let debugged = fixture.update("pods", part, debugged).await.unwrap();
    assert_eq!(debugged["spec"]["ephemeralContainers"][0]["image"], pinned);
}

#[tokio::test]
async fn a_patch_without_a_revision_means_whatever_is_there() {
    let fixture = Fixture::new().await;
    fixture.created("configmaps", config_map("a")).await;
    let patch = async |patch: Patch| {
        let (row, options) = (fixture.row("configmaps"), WriteOptions::default());
        let caller = &fixture.caller;
        let written = fixture
            .registry
            .patch(row, NS, "a", None, patch, &options, caller);
        written.await.unwrap().object.object["data"]["k"].clone()
    };
    let merge = json!({"metadata": {"resourceVersion": null}, "data": {"k": "1"}});
    assert_eq!(patch(Patch::Merge(merge)).await, "1");
    let json = json!([{"op": "remove", "path": "/metadata/resourceVersion"},
        {"op": "replace", "path": "/data/k", "value": "2"}]);
    assert_eq!(patch(Patch::Json(json)).await, "2");
}

#[tokio::test]
async fn a_priority_class_becomes_the_default_only_if_none_is() {
    let fixture = Fixture::new().await;
    let class = |name: &str, is_default: bool| json!({"metadata": {"name": name}, "value": 5, "globalDefault": is_default});
    let one = fixture.created("priorityclasses", class("one", true)).await;
    let mut two = fixture
        .created("priorityclasses", class("two", false))
        .await;
    // The one that is may be written again.
    fixture.update("priorityclasses", None, one).await.unwrap();
    two["globalDefault"] = true.into();
    let refused = fixture
        .update("priorityclasses", None, two)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("Only one default can exist"),
        "{refused}"
    );
}

#[tokio::test]
async fn who_wrote_what_is_not_made_up_without_end() {
    let fixture = Fixture::new().await;
    let mut made = fixture.created("configmaps", config_map("a")).await;
    let entries = |count: usize| -> Vec<serde_json::Value> {
        let entry = |number| {
            json!({"manager": format!("m{number}"), "operation": "Update", "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:k": {}}}})
        };
        (0..count).map(entry).collect()
    };
    made["metadata"]["managedFields"] = json!(entries(111));
    let refused = fixture.update("configmaps", None, made.clone()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("at most 110 items"), "{refused}");
    made["metadata"]["managedFields"] = json!(entries(110));
    let written = fixture.update("configmaps", None, made).await.unwrap();
    let kept = written["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(kept.len(), 10);
}
