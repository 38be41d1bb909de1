//! The store from outside: answers, order, watches, the past, and what a restart finds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod concurrency;
mod crash;
mod model;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use wasmorch::store::{ChangeKind, Config, Error, ListQuery, ObjectKey, Op, Revision, Store};
use wasmorch::tasks::TaskGroup;

const PATIENCE: Duration = Duration::from_mins(1);

async fn open(directory: &Path, history: usize) -> (Store, TaskGroup) {
    let tasks = TaskGroup::new();
    let store = Store::open(config(directory, history), &tasks)
        .await
        .unwrap();
    (store, tasks)
}

fn config(directory: &Path, history: usize) -> Config {
    Config {
        path: directory.join("wasmorch.db"),
        volatile: vec!["leases.coordination.k8s.io".to_owned()],
        history,
    }
}

async fn close(store: Store, tasks: TaskGroup) {
    drop(store);
    assert!(tasks.shutdown(PATIENCE).await);
}

fn pod(name: &str) -> ObjectKey {
    ObjectKey::new("pods", "default", name)
}

fn object(value: u64) -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"value": value}})
}

fn pods() -> ListQuery {
    ListQuery {
        resource: "pods".to_owned(),
        ..ListQuery::default()
    }
}

#[tokio::test]
async fn the_life_of_an_object() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 1000).await;
    let mut watch = store.watch("pods", None, store.revision()).unwrap();
    let created = store.create(pod("a"), object(1)).await.unwrap();
    assert_eq!(
        created.object["metadata"]["resourceVersion"],
        created.revision.0.to_string()
    );
    assert!(matches!(
        store.create(pod("a"), object(1)).await,
        Err(Error::AlreadyExists(_))
    ));
    let updated = store
        .update(pod("a"), Some(created.revision), object(2))
        .await
        .unwrap();
    assert!(matches!(
        store.update(pod("a"), Some(created.revision), object(3)).await,
        Err(Error::Conflict { current, .. }) if current == updated.revision
    ));
    assert_eq!(store.get(&pod("a")).unwrap().object["spec"]["value"], 2);
    let deleted = store.delete(pod("a"), None).await.unwrap();
    assert!(deleted.revision > updated.revision);
    assert!(store.get(&pod("a")).is_none());
    assert!(matches!(
        store.delete(pod("a"), None).await,
        Err(Error::NotFound(_))
    ));
    for (kind, revision) in [
        (ChangeKind::Created, created.revision),
        (ChangeKind::Updated, updated.revision),
        (ChangeKind::Deleted, deleted.revision),
    ] {
        let change = watch.next().await.unwrap().unwrap();
        assert_eq!((change.kind, change.revision), (kind, revision));
    }
    assert_eq!(watch.progress(), store.revision());
    close(store, tasks).await;
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_restart_finds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 1000).await;
    let first = store.create(pod("a"), object(1)).await.unwrap().revision;
    let lease = ObjectKey::new("leases.coordination.k8s.io", "default", "l");
    store.create(lease.clone(), object(1)).await.unwrap();
    store.update(pod("a"), None, object(2)).await.unwrap();
    store.create(pod("b"), object(1)).await.unwrap();
    store.delete(pod("a"), None).await.unwrap();
    let last = store
        .update(lease.clone(), None, object(2))
        .await
        .unwrap()
        .revision;
    close(store, tasks).await;

    let (store, tasks) = open(directory.path(), 1000).await;
    assert!(store.revision() >= last);
    assert!(store.get(&lease).is_none());
    assert!(store.get(&pod("a")).is_none());
    assert_eq!(store.count("pods"), 1);
    let mut watch = store.watch("pods", Some("default"), first).unwrap();
    let mut kinds = Vec::new();
    while let Some(change) = watch.try_next() {
        let change = change.unwrap();
        kinds.push((change.kind, change.object.key.name.to_string()));
    }
    assert_eq!(
        kinds,
        [
            (ChangeKind::Updated, "a".to_owned()),
            (ChangeKind::Created, "b".to_owned()),
            (ChangeKind::Deleted, "a".to_owned()),
        ]
    );
    let then = store
        .list(&ListQuery {
            at: Some(first),
            ..pods()
        })
        .unwrap();
    assert_eq!(then.items.len(), 1);
    assert_eq!(then.items[0].object["spec"]["value"], 1);
    assert!(matches!(
        store.watch("leases.coordination.k8s.io", None, first),
        Err(Error::Compacted { .. })
    ));
    close(store, tasks).await;
}

#[tokio::test]
async fn several_operations_are_one_write() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 1000).await;
    let before = store.revision();
    let create = |name: &str| Op::Create {
        key: pod(name),
        object: object(1),
    };
    let refused = store
        .commit(vec![create("a"), create("b"), create("a")])
        .await;
    assert!(matches!(refused, Err(Error::AlreadyExists(_))));
    assert_eq!(store.count("pods"), 0);
    assert_eq!(store.revision(), before);
    let delete = Op::Delete {
        key: pod("a"),
        expected: None,
    };
    let stored = store
        .commit(vec![create("a"), create("b"), delete])
        .await
        .unwrap();
    assert_eq!(stored.len(), 3);
    assert_eq!(store.revision(), Revision(before.0 + 3));
    assert_eq!(store.count("pods"), 1);
    close(store, tasks).await;
    let (store, tasks) = open(directory.path(), 1000).await;
    assert_eq!(store.count("pods"), 1);
    close(store, tasks).await;
}

#[tokio::test]
async fn a_second_server_is_refused_and_told_by_whom() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 1000).await;
    let second = Store::open(config(directory.path(), 1000), &TaskGroup::new()).await;
    match second {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, std::process::id()),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("two servers on one store"),
    }
    close(store, tasks).await;
    let (store, tasks) = open(directory.path(), 1000).await;
    close(store, tasks).await;
}

#[tokio::test]
async fn the_file_does_not_grow_with_the_number_of_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 200).await;
    let text = "x".repeat(2000);
    let large = || json!({"metadata": {}, "spec": {"text": text}});
    store.create(pod("a"), large()).await.unwrap();
    for _ in 0..50 {
        let update = || Op::Update {
            key: pod("a"),
            expected: None,
            object: large(),
        };
        let ops = std::iter::repeat_with(update).take(100).collect();
        store.commit(ops).await.unwrap();
    }
    let last = store.revision();
    close(store, tasks).await;
    let size = std::fs::metadata(directory.path().join("wasmorch.db"));
    let size = size.unwrap().len();
    assert!(
        size < 3 << 20,
        "5,000 changes of 2 kB, 200 kept: {size} bytes"
    );

    let (store, tasks) = open(directory.path(), 200).await;
    assert_eq!(store.get(&pod("a")).unwrap().revision, last);
    let recent = Revision(last.0 - 200);
    assert!(store.watch("pods", None, recent).is_ok());
    let old = Revision(last.0 - 4000);
    assert!(matches!(
        store.watch("pods", None, old),
        Err(Error::Compacted { .. })
    ));
    close(store, tasks).await;
}
