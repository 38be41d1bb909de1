//! What operators are built of: `kube`'s controllers, finalizers, reflectors and discovery.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams,
    PropagationPolicy, WatchEvent, WatchParams,
};
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, Resource as _, ResourceExt as _};

use super::harness::{Cluster, WAIT};
use super::kube_client::{client, map};

const FINALIZER: &str = "example.com/copies";

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, future).await.unwrap()
}

/// Keeps a Secret beside each labelled ConfigMap, and tells of the end in another.
async fn reconcile(
    map: Arc<ConfigMap>,
    client: Arc<Client>,
) -> Result<Action, kube::runtime::finalizer::Error<kube::Error>> {
    let namespace = map.namespace().unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.as_ref().clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(client.as_ref().clone(), &namespace);
    let ours = PatchParams::apply("copier");
    finalizer(&maps, FINALIZER, map, async |event| match event {
        Event::Apply(map) => {
            let copy = Secret {
                metadata: ObjectMeta {
                    name: map.metadata.name.clone(),
                    owner_references: map.controller_owner_ref(&()).map(|it| vec![it]),
                    ..ObjectMeta::default()
                },
                string_data: map.data.clone(),
                ..Secret::default()
            };
            let name = map.name_any();
            secrets.patch(&name, &ours, &Patch::Apply(&copy)).await?;
            Ok(Action::requeue(Duration::from_mins(5)))
        }
        Event::Cleanup(map) => {
            let told = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(format!("{}-ended", map.name_any())),
                    ..ObjectMeta::default()
                },
                ..ConfigMap::default()
            };
            maps.create(&PostParams::default(), &told).await?;
            Ok(Action::await_change())
        }
    })
    .await
}

#[tokio::test]
async fn a_controller_owns_what_it_makes_and_cleans_up() {
    let cluster = Cluster::start().await;
    let client = client(&cluster).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let labelled = watcher::Config::default().labels("copied=yes");
    let controller = Controller::new(maps.clone(), labelled)
        .owns(secrets.clone(), watcher::Config::default())
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_secs(1)),
            Arc::new(client.clone()),
        )
        .for_each(|_| async {});
    let tasks = wasmorch::tasks::TaskGroup::new();
    tasks.spawn("controller", controller);

    let mut wanted = map("one");
    wanted.labels_mut().insert("copied".into(), "yes".into());
    let made = maps.create(&PostParams::default(), &wanted).await.unwrap();
    let uid = made.metadata.uid.unwrap();
    let has_value = |value: &'static [u8]| {
        move |secret: Option<&Secret>| {
            let data = secret.and_then(|secret| secret.data.as_ref());
            data.and_then(|data| data.get("k"))
                .is_some_and(|it| it.0 == value)
        }
    };
    let copied = await_condition(secrets.clone(), "one", has_value(b"v"));
    let copy = within(copied).await.unwrap().unwrap();
    let owner = &copy.owner_references()[0];
    assert_eq!(
        (owner.uid.as_str(), owner.controller),
        (uid.as_str(), Some(true))
    );

    // A change of the source, and the loss of what is owned, come to the controller.
    let patch = serde_json::json!({"data": {"k": "w"}});
    let merge = Patch::Merge(&patch);
    maps.patch("one", &PatchParams::default(), &merge)
        .await
        .unwrap();
    within(await_condition(secrets.clone(), "one", has_value(b"w")))
        .await
        .unwrap();
    let lost = copy.metadata.uid.unwrap();
    secrets
        .delete("one", &DeleteParams::default())
        .await
        .unwrap();
    let again = await_condition(secrets.clone(), "one", |secret: Option<&Secret>| {
        secret.is_some_and(|secret| secret.metadata.uid.as_ref() != Some(&lost))
    });
    within(again).await.unwrap();

    // In the foreground the object waits for the finalizer's work.
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    let deleted = maps.delete("one", &parameters).await.unwrap();
    let finalizers = deleted.left().unwrap().finalizers().to_vec();
    assert!(
        finalizers.iter().any(|it| it == FINALIZER),
        "{finalizers:?}"
    );
    within(await_condition(
        maps.clone(),
        "one",
        conditions::is_deleted(&uid),
    ))
    .await
    .unwrap();
    // Its owner reference does not block, so the Secret may outlive the object for a moment.
    let gone = |secret: Option<&Secret>| secret.is_none();
    within(await_condition(secrets, "one", gone)).await.unwrap();
    assert!(maps.get_opt("one-ended").await.unwrap().is_some());
    tasks.cancel();
}

#[tokio::test]
async fn a_reflector_holds_what_is_there() {
    let cluster = Cluster::start().await;
    let client = client(&cluster).await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &map(name))
            .await
            .unwrap();
    }
    for config in [
        watcher::Config::default().page_size(1),
        watcher::Config::default().streaming_lists(),
    ] {
        let (reader, writer) = reflector::store();
        // The cluster has one of its own.
        let is_ours = |map: &ConfigMap| map.name_any().len() == 1;
        let events = reflector(writer, watcher(maps.clone(), config));
        let mut changes = events.default_backoff().touched_objects().boxed();
        let follow = async { while changes.try_next().await.unwrap().is_some() {} };
        let check = async {
            reader.wait_until_ready().await.unwrap();
            assert_eq!(reader.state_filter(is_ours).len(), 3);
            maps.create(&PostParams::default(), &map("d"))
                .await
                .unwrap();
            let key = reflector::ObjectRef::new("d").within("default");
            while reader.get(&key).is_none() {
                tokio::task::yield_now().await;
            }
            maps.delete("d", &DeleteParams::default()).await.unwrap();
            while reader.get(&key).is_some() {
                tokio::task::yield_now().await;
            }
            assert!(reader.find(|map| map.name_any() == "b").is_some());
        };
        within(async {
            tokio::select! { () = follow => panic!("it ended"), () = check => {} }
        })
        .await;
    }
}

/// `sendInitialEvents`: what is there, the bookmark that ends it, then what happens.
#[tokio::test]
async fn a_streamed_list_ends_with_its_bookmark() {
    let cluster = Cluster::start().await;
    let client = client(&cluster).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(&PostParams::default(), &map("a"))
        .await
        .unwrap();
    let asked = WatchParams::default().initial_events();
    let mut events = maps.watch(&asked, "0").await.unwrap().boxed();
    let mut names = Vec::new();
    let bookmark = within(async {
        loop {
            match events.try_next().await.unwrap().unwrap() {
                WatchEvent::Added(map) => names.push(map.name_any()),
                WatchEvent::Bookmark(bookmark) => return bookmark,
                other => panic!("{other:?}"),
            }
        }
    });
    let bookmark = bookmark.await.metadata;
    assert!(names.contains(&"a".to_owned()), "{names:?}");
    assert_eq!(bookmark.annotations["k8s.io/initial-events-end"], "true");
    let listed = maps.list(&ListParams::default()).await.unwrap();
    // Others write meanwhile.
    let revision = |text: &str| text.parse::<u64>().unwrap();
    let listed = revision(&listed.metadata.resource_version.unwrap());
    assert!(listed >= revision(&bookmark.resource_version));

    // Of metadata alone, too.
    let config = watcher::Config::default().streaming_lists();
    let heads: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client, "default");
    let mut seen = watcher(heads, config).applied_objects().boxed();
    let first = within(seen.try_next()).await.unwrap().unwrap();
    assert_eq!(first.types.as_ref().unwrap().kind, "PartialObjectMetadata");
}

#[tokio::test]
async fn discovery_finds_the_kinds_both_ways() {
    let cluster = Cluster::start().await;
    let client = client(&cluster).await;
    let plain = Discovery::new(client.clone()).run().await.unwrap();
    let aggregated = Discovery::new(client.clone())
        .run_aggregated()
        .await
        .unwrap();
    let known = |discovery: &Discovery| {
        let mut known = Vec::new();
        for group in discovery.groups_alphabetical() {
            for (resource, can) in group.recommended_resources() {
                let is_everywhere = can.scope == Scope::Cluster;
                let mut subresources: Vec<_> = can
                    .subresources
                    .iter()
                    .map(|it| it.0.plural.clone())
                    .collect();
                subresources.sort();
                let mut verbs = can.operations.clone();
                verbs.sort();
                known.push((
                    resource.api_version,
                    resource.kind,
                    is_everywhere,
                    verbs,
                    subresources,
                ));
            }
        }
        known.sort();
        known
    };
    assert_eq!(known(&plain), known(&aggregated));
    for group in ["", "apps", "batch", "metrics.k8s.io", "wasmorch.dev"] {
        assert!(aggregated.has_group(group), "{group}");
    }
    let gvk = kube::api::GroupVersionKind::gvk("apps", "v1", "Deployment");
    let (resource, can) = aggregated.resolve_gvk(&gvk).unwrap();
    assert_eq!(resource.plural, "deployments");
    assert!(can.supports_operation(verbs::WATCH));
    assert!(can.subresources.iter().any(|(it, _)| it.plural == "scale"));
    let (pinned, _) = kube::discovery::pinned_kind(&client, &gvk).await.unwrap();
    assert_eq!(pinned, resource);
}

/// `entry`, `scale`, `status` and metadata: what else the crate's users ask for.
#[tokio::test]
async fn the_smaller_verbs_of_the_crate() {
    use k8s_openapi::api::apps::v1::Deployment;
    let cluster = Cluster::start().await;
    let client = client(&cluster).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let mut entry = maps.entry("e").await.unwrap().or_insert(|| map("e"));
    entry.commit(&PostParams::default()).await.unwrap();
    let entry = maps.entry("e").await.unwrap();
    let mut entry = entry
        .and_modify(|map| map.data = None)
        .or_insert(|| map("x"));
    entry.commit(&PostParams::default()).await.unwrap();
    let stale = entry.get().clone();
    maps.patch(
        "e",
        &PatchParams::default(),
        &Patch::Merge(serde_json::json!({"data": {"n": "1"}})),
    )
    .await
    .unwrap();
    let refused = maps.replace("e", &PostParams::default(), &stale).await;
    assert!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.code == 409),
        "{refused:?}"
    );
    let metadata = maps.get_metadata("e").await.unwrap();
    assert_eq!(metadata.name_any(), "e");
    let patch = serde_json::json!({"metadata": {"labels": {"l": "v"}}});
    let patched = maps
        .patch_metadata("e", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(patched.labels()["l"], "v");
    let found = maps
        .list_metadata(&ListParams::default().labels("l in (v,w)"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 1);

    let deployments: Api<Deployment> = Api::namespaced(client, "default");
    let deployment = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "d"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "d"}}, "template": {
            "metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "m"}]}}},
    }))
    .unwrap();
    deployments
        .create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    let mut scale = deployments.get_scale("d").await.unwrap();
    scale.spec.as_mut().unwrap().replicas = Some(2);
    scale.metadata.resource_version = None;
    let scaled = deployments
        .replace_scale("d", &PostParams::default(), &scale)
        .await;
    assert_eq!(scaled.unwrap().spec.unwrap().replicas, Some(2));
    let patch = serde_json::json!({"spec": {"replicas": 0}});
    let merge = Patch::Merge(&patch);
    let scaled = deployments
        .patch_scale("d", &PatchParams::default(), &merge)
        .await;
    assert_eq!(scaled.unwrap().spec.unwrap().replicas, Some(0));
    assert!(deployments.get_status("d").await.is_ok());
    deployments.restart("d").await.unwrap();
    let removed = deployments
        .delete_collection(
            &DeleteParams::default(),
            &ListParams::default().fields("metadata.name=d"),
        )
        .await
        .unwrap();
    assert!(removed.left().is_none_or(|list| list.items.len() == 1));
}
