//! Many writers, many watchers, slow watchers.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use wasmorch::store::{Change, Error, ListQuery, Revision, Store};

use super::{close, object, open, pod, pods};

const WRITERS: u64 = 16;
const WRITES: u64 = 25;

async fn increment(store: &Store) -> Revision {
    loop {
        let current = store.get(&pod("counter")).unwrap();
        let value = current.object["spec"]["value"].as_u64().unwrap();
        let update = store.update(pod("counter"), Some(current.revision), object(value + 1));
        match update.await {
            Ok(stored) => return stored.revision,
            Err(Error::Conflict { current: now, .. }) => assert!(now > current.revision),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_update_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 10_000).await;
    store.create(pod("counter"), object(0)).await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            let mut revisions = Vec::new();
            for _ in 0..WRITES {
                let revision = increment(&store).await;
                assert!(store.revision() >= revision, "an answered write is visible");
                revisions.push(revision);
            }
            assert!(revisions.is_sorted());
            revisions
        });
    }
    let mut revisions: Vec<_> = writers.join_all().await.concat();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len() as u64, WRITERS * WRITES);
    let last = store.get(&pod("counter")).unwrap();
    assert_eq!(last.object["spec"]["value"], WRITERS * WRITES);
    close(store, tasks).await;
}

async fn follow(store: Store, namespace: Option<&str>, count: usize) -> Vec<Change> {
    let mut watch = store.watch("pods", namespace, Revision(1)).unwrap();
    let mut changes = Vec::new();
    while changes.len() < count {
        let change = watch.next().await.unwrap().unwrap();
        assert!(
            store.revision() >= change.revision,
            "a read is never behind a watch"
        );
        changes.push(change);
    }
    assert!(watch.progress() >= changes[count - 1].revision);
    changes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_sees_the_same_history() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 10_000).await;
    let total = (WRITERS * WRITES) as usize;
    let mut watchers = JoinSet::new();
    for _ in 0..8 {
        watchers.spawn(follow(store.clone(), Some("default"), total));
        watchers.spawn(follow(store.clone(), None, total));
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for write in 0..WRITES {
                let name = format!("{writer}-{write}");
                store.create(pod(&name), object(write)).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    // Late ones read the backlog of what the others saw live.
    watchers.spawn(follow(store.clone(), None, total));
    let streams = watchers.join_all().await;
    let revisions = |stream: &Vec<Change>| -> Vec<Revision> {
        stream.iter().map(|change| change.revision).collect()
    };
    let expected = revisions(&streams[0]);
    assert!(expected.is_sorted_by(|a, b| a < b));
    for stream in &streams {
        assert_eq!(revisions(stream), expected);
        let shared = stream.iter().zip(&streams[0]);
        assert!(
            shared
                .into_iter()
                .all(|(a, b)| Arc::ptr_eq(&a.object, &b.object))
        );
    }
    close(store, tasks).await;
}

#[tokio::test]
async fn a_slow_watcher_is_ended_and_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 200).await;
    store.create(pod("a"), object(0)).await.unwrap();
    let start = store.revision();
    let mut slow = store.watch("pods", None, start).unwrap();
    let mut quick = store.watch("pods", None, start).unwrap();
    for value in 0..1000 {
        let stored = store.update(pod("a"), None, object(value)).await.unwrap();
        let change = quick.next().await.unwrap().unwrap();
        assert_eq!(change.revision, stored.revision);
    }
    let mut seen = 0;
    let ended = loop {
        match slow.next().await {
            Some(Ok(_)) => seen += 1,
            Some(Err(error)) => break error,
            None => panic!("the watch ended without a reason"),
        }
    };
    assert!(matches!(ended, Error::Compacted { .. }));
    assert!(seen < 200, "the watcher pinned {seen} changes");
    assert!(slow.next().await.is_none());
    assert!(matches!(
        store.watch("pods", None, start),
        Err(Error::Compacted { .. })
    ));
    let old = ListQuery {
        at: Some(start),
        ..pods()
    };
    assert!(matches!(store.list(&old), Err(Error::Compacted { .. })));
    let future = Revision(store.revision().0 + 1);
    assert!(matches!(
        store.watch("pods", None, future),
        Err(Error::Compacted { .. })
    ));
    close(store, tasks).await;
}

/// A list is a snapshot: objects that are only ever written in pairs are found in pairs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_one_moment() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 10_000).await;
    let writer = store.clone();
    let writing = async move {
        for value in 0..100_u64 {
            let ops = ["left", "right"].map(|name| {
                let object = json!({"spec": {"value": value}});
                match value {
                    0 => wasmorch::store::Op::Create {
                        key: pod(name),
                        object,
                    },
                    _ => wasmorch::store::Op::Update {
                        key: pod(name),
                        expected: None,
                        object,
                    },
                }
            });
            writer.commit(ops.into()).await.unwrap();
        }
    };
    let reader = store.clone();
    let reading = async move {
        loop {
            let listing = reader.list(&pods()).unwrap();
            let values: Vec<_> = listing
                .items
                .iter()
                .map(|item| &item.object["spec"])
                .collect();
            if let [left, right] = values[..] {
                assert_eq!(left, right);
                if left["value"] == 99 {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    let both = async { tokio::join!(writing, reading) };
    tokio::time::timeout(Duration::from_mins(1), both)
        .await
        .unwrap();
    close(store, tasks).await;
}
