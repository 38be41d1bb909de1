//! The `kube` crate over HTTPS with the kubeconfig that the server wrote.

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Config};

use super::harness::{Cluster, WAIT};

pub(super) async fn client(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.data().join("admin.kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

pub(super) fn map(name: &str) -> ConfigMap {
    serde_json::from_value(serde_json::json!({"metadata": {"name": name}, "data": {"k": "v"}}))
        .unwrap()
}

#[tokio::test]
async fn a_typed_client_speaks_tls_and_every_verb() {
    let cluster = Cluster::start().await;
    let client = client(&cluster).await;
    assert_eq!(client.apiserver_version().await.unwrap().minor, "34");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let made = maps
        .create(&PostParams::default(), &map("a"))
        .await
        .unwrap();
    assert!(made.metadata.uid.is_some());
    let patch = serde_json::json!({"data": {"l": "w"}});
    let patched = maps
        .patch("a", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(patched.data.unwrap().len(), 2);
    let strategic = maps
        .patch("a", &PatchParams::default(), &Patch::Strategic(&patch))
        .await;
    assert!(strategic.is_ok());
    let ours = PatchParams::apply("ours");
    let wanted = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"m": "x"}});
    let applied = maps
        .patch("b", &ours, &Patch::Apply(&wanted))
        .await
        .unwrap();
    let entry = &applied.metadata.managed_fields.unwrap()[0];
    assert_eq!(entry.manager.as_deref(), Some("ours"));
    assert_eq!(entry.operation.as_deref(), Some("Apply"));
    let wanted = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"m": "y"}});
    let theirs = PatchParams::apply("theirs");
    let refused = maps.patch("b", &theirs, &Patch::Apply(&wanted)).await;
    let Err(kube::Error::Api(status)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((status.code, &*status.reason), (409, "Conflict"));
    let cause = &status.details.as_ref().unwrap().causes[0];
    assert_eq!(cause.reason, "FieldManagerConflict");
    assert_eq!(cause.message, "conflict with \"ours\"");
    assert_eq!(cause.field, ".data.m");
    let forced = maps
        .patch("b", &theirs.force(), &Patch::Apply(&wanted))
        .await;
    assert_eq!(forced.unwrap().data.unwrap()["m"], "y");
    let listed = maps.list(&ListParams::default()).await.unwrap();
    assert!(
        listed
            .items
            .iter()
            .any(|item| item.metadata.name.as_deref() == Some("a"))
    );
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
    let namespaces: Api<Namespace> = Api::all(client);
    assert!(namespaces.get("default").await.is_ok());
}

/// A kind that is known only by its name, with a watch over its whole life.
#[tokio::test]
async fn a_dynamic_client_follows_a_custom_kind() {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
    use kube::runtime::wait::{await_condition, conditions};

    let cluster = Cluster::start().await;
    let client = client(&cluster).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}}}]},
    }))
    .unwrap();
    let post = PostParams::default();
    definitions.create(&post, &definition).await.unwrap();
    let established = await_condition(
        definitions.clone(),
        "widgets.example.com",
        conditions::is_crd_established(),
    );
    tokio::time::timeout(WAIT, established)
        .await
        .unwrap()
        .unwrap();
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(client, &kind);
    let mut events = watcher(widgets.clone(), watcher::Config::default()).boxed();
    while !matches!(
        events.try_next().await.unwrap(),
        Some(watcher::Event::InitDone)
    ) {}
    let made = DynamicObject::new("one", &kind).data(serde_json::json!({"spec": {"size": 1}}));
    widgets.create(&post, &made).await.unwrap();
    let patch = serde_json::json!({"spec": {"size": 2}});
    widgets
        .patch("one", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    widgets
        .delete("one", &DeleteParams::default())
        .await
        .unwrap();
    let last = tokio::time::timeout(WAIT, async {
        while let Some(event) = events.try_next().await.unwrap() {
            if let watcher::Event::Delete(object) = event {
                return object.data["spec"]["size"].clone();
            }
        }
        panic!("the watch ended");
    });
    assert_eq!(last.await.unwrap(), 2);
}

#[tokio::test]
async fn a_watcher_follows() {
    let cluster = Cluster::start().await;
    let client = client(&cluster).await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    for streaming in [false, true] {
        let config = if streaming {
            watcher::Config::default().streaming_lists()
        } else {
            watcher::Config::default()
        };
        let mut seen = watcher(maps.clone(), config).applied_objects().boxed();
        let name = format!("watched-{streaming}");
        maps.create(&PostParams::default(), &map(&name))
            .await
            .unwrap();
        let found = tokio::time::timeout(WAIT, async {
            while let Some(map) = seen.try_next().await.unwrap() {
                if map.metadata.name.as_deref() == Some(&name) {
                    return true;
                }
            }
            false
        });
        assert!(found.await.unwrap());
    }
}
