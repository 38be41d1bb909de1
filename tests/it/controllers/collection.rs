//! What goes when its owner or its namespace goes.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use serde_json::json;
use wasmorch::api::owner;
use wasmorch::registry::Propagation;

use super::{Cluster, NS, deployment};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_deployment_takes_everything_with_it() {
    for policy in [Propagation::Background, Propagation::Foreground] {
        let cluster = Cluster::new().await;
        cluster.create::<Deployment>(NS, deployment("web", 3)).await;
        cluster.rolled_out("web").await;
        cluster.delete::<Deployment>(NS, "web", policy).await;
        cluster
            .until::<Pod>(Some(NS), "no pods", <[_]>::is_empty)
            .await;
        cluster
            .until::<ReplicaSet>(Some(NS), "no ReplicaSets", <[_]>::is_empty)
            .await;
        cluster
            .until::<Deployment>(Some(NS), "no Deployments", <[_]>::is_empty)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_stay_and_are_adopted_again() {
    let cluster = Cluster::new().await;
    cluster.create::<Deployment>(NS, deployment("web", 2)).await;
    cluster.rolled_out("web").await;
    let before = cluster.replica_sets();
    cluster
        .delete::<Deployment>(NS, "web", Propagation::Orphan)
        .await;
    cluster
        .until::<Deployment>(Some(NS), "no Deployments", <[_]>::is_empty)
        .await;
    let orphaned = |sets: &[std::sync::Arc<ReplicaSet>]| {
        sets.len() == 1 && owner::controller_of(&sets[0].metadata).is_none()
    };
    cluster
        .until::<ReplicaSet>(Some(NS), "an orphan", orphaned)
        .await;

    cluster.create::<Deployment>(NS, deployment("web", 2)).await;
    cluster.rolled_out("web").await;
    let after = cluster.replica_sets();
    assert_eq!(after.len(), 1);
    assert_eq!(
        after[0].metadata.uid, before[0].metadata.uid,
        "adopted, not made anew"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_whose_owner_never_was_is_collected() {
    let cluster = Cluster::empty().await;
    let owned_by = |name: &str, uid: &str| {
        json!({"metadata": {"name": name, "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]}})
    };
    let owner = cluster
        .create::<ConfigMap>(NS, json!({"metadata": {"name": "owner"}}))
        .await;
    cluster
        .create::<ConfigMap>(NS, owned_by("kept", owner.metadata.uid.as_ref().unwrap()))
        .await;
    cluster
        .create::<ConfigMap>(NS, owned_by("lost", "no-such-uid"))
        .await;
    let has = |maps: &[std::sync::Arc<ConfigMap>], name: &str| {
        maps.iter()
            .any(|map| map.metadata.name.as_deref() == Some(name))
    };
    cluster
        .until::<ConfigMap>(Some(NS), "the lost to go", |maps| !has(maps, "lost"))
        .await;
    assert!(has(
        &cluster.api::<ConfigMap>().list(Some(NS)).unwrap(),
        "kept"
    ));
    cluster
        .delete::<ConfigMap>(NS, "owner", Propagation::Background)
        .await;
    cluster
        .until::<ConfigMap>(Some(NS), "the kept to follow", |maps| !has(maps, "kept"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_born_with_an_account_and_goes_with_its_contents() {
    let cluster = Cluster::new().await;
    cluster
        .create::<Namespace>("", json!({"metadata": {"name": "team"}}))
        .await;
    cluster
        .until::<ServiceAccount>(Some("team"), "the default account", |all| all.len() == 1)
        .await;
    cluster
        .until::<ConfigMap>(Some("team"), "the root certificate", |all| all.len() == 1)
        .await;
    cluster
        .create::<Deployment>("team", deployment("web", 3))
        .await;
    cluster
        .until::<Pod>(Some("team"), "pods", |pods| super::ready(pods) == 3)
        .await;
    let keep = json!({"metadata": {"name": "keep", "finalizers": ["example.com/keep"]}});
    cluster.create::<ConfigMap>("team", keep).await;

    cluster
        .delete::<Namespace>("", "team", Propagation::Background)
        .await;
    cluster
        .until::<Pod>(Some("team"), "no pods", <[_]>::is_empty)
        .await;
    let told = |all: &[std::sync::Arc<Namespace>]| {
        all.iter().any(|namespace| {
            let status = namespace.status.clone().unwrap_or_default();
            let mut conditions = status.conditions.into_iter().flatten();
            conditions.any(|c| c.type_ == "NamespaceFinalizersRemaining" && c.status == "True")
        })
    };
    cluster
        .until::<Namespace>(None, "the reason for waiting", told)
        .await;
    let api = cluster.api::<ConfigMap>();
    let mut kept = api.get("team", "keep").unwrap().as_ref().clone();
    kept.metadata.finalizers = None;
    api.update("team", &kept).await.unwrap();
    let gone = |all: &[std::sync::Arc<Namespace>]| {
        !all.iter()
            .any(|namespace| namespace.metadata.name.as_deref() == Some("team"))
    };
    cluster
        .until::<Namespace>(None, "the namespace to go", gone)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_of_the_system_comes_again() {
    let cluster = Cluster::empty().await;
    let namespaces = cluster.api::<Namespace>();
    let before = namespaces.get("", "kube-node-lease").unwrap();
    cluster
        .delete::<Namespace>("", "kube-node-lease", Propagation::Background)
        .await;
    cluster
        .until::<Namespace>(None, "another kube-node-lease", |all| {
            all.iter().any(|it| {
                it.metadata.name == before.metadata.name && it.metadata.uid != before.metadata.uid
            })
        })
        .await;
}
