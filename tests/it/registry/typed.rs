//! The typed client: the same verbs on Rust types.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use wasmorch::api::module::Module;
use wasmorch::api::selector::Labels;
use wasmorch::registry::{DeleteOptions, Error, Patch, TypedEvent};

use super::{Fixture, PATIENCE};

#[tokio::test]
async fn reads_share_and_writes_are_checked() {
    let fixture = Fixture::new().await;
    let api = fixture.registry.api::<ConfigMap>(fixture.caller.clone());
    let mut stream = api.watch(Some("default")).await.unwrap();
    let object: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "a", "labels": {"app": "web"}}}))
            .unwrap();
    let created = api.create("default", &object).await.unwrap();
    assert!(Arc::ptr_eq(&created, &api.get("default", "a").unwrap()));
    assert!(api.try_get("default", "b").unwrap().is_none());
    assert!(matches!(
        api.get("default", "b"),
        Err(Error::NotFound { .. })
    ));
    let labels = Labels::from_map(&BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    assert_eq!(api.list_selected(None, &labels).unwrap().len(), 1);
    assert_eq!(api.list(Some("kube-system")).unwrap().len(), 0);

    let mut wanted = (*created).clone();
    wanted.data = Some(BTreeMap::from([("k".to_owned(), "v".to_owned())]));
    api.update("default", &wanted).await.unwrap();
    assert!(matches!(
        api.update("default", &wanted).await,
        Err(Error::Conflict { .. })
    ));
    let patch = Patch::Merge(json!({"data": {"k": null}}));
    let patched = api.patch("default", "a", None, patch).await.unwrap();
    assert_eq!(patched.data, Some(BTreeMap::new()));
    api.delete("default", "a", &DeleteOptions::default())
        .await
        .unwrap();

    let mut words = Vec::new();
    for _ in 0..4 {
        let event = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap();
        words.push(match event.unwrap().unwrap() {
            TypedEvent::Added(_) => "added",
            TypedEvent::Modified(_) => "modified",
            TypedEvent::Deleted(_) => "deleted",
            TypedEvent::Bookmark(_) => "bookmark",
        });
    }
    assert_eq!(words, ["added", "modified", "modified", "deleted"]);
}

#[tokio::test]
async fn own_kinds_are_kinds() {
    let fixture = Fixture::new().await;
    let api = fixture.registry.api::<Module>(fixture.caller.clone());
    let mut module = Module::default();
    module.metadata.name = Some("hello".to_owned());
    let created = api.create("default", &module).await.unwrap();
    assert_eq!(created.metadata.generation, Some(1));
    let stored = fixture.get("modules", "hello").unwrap();
    assert_eq!(stored["apiVersion"], "wasmorch.dev/v1");
    assert_eq!(stored["kind"], "Module");
}
