//! From the watches to the scheduler: changes of pods and nodes through one bounded queue.
//!
//! Each time a watch is opened, the whole list goes first, so that what disappeared while nobody
//! watched is noticed. The changes that follow are those after the list: a version from before it
//! could show a pod that has a node meanwhile as one that still waits.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use tokio::sync::mpsc;

use crate::errors;
use crate::registry;
use crate::registry::{Api, ApiKind, Caller, Registry, TypedEvent};
use crate::tasks::TaskGroup;

/// What the scheduler must know.
pub(super) enum Change {
    Node(Arc<Node>),
    NodeGone(String),
    /// All there are.
    Nodes(Vec<Arc<Node>>),
    Pod(Arc<Pod>),
    /// By its uid.
    PodGone(String),
    /// All there are.
    Pods(Vec<Arc<Pod>>),
    /// Pods may ask for the labels of others' namespaces.
    Namespace(Arc<Namespace>),
    NamespaceGone(String),
    /// All there are.
    Namespaces(Vec<Arc<Namespace>>),
    /// A claim or a volume changed, which pods may have waited for.
    Storage,
}

/// How a kind's changes are told.
struct Words<K> {
    all: fn(Vec<Arc<K>>) -> Change,
    is: fn(Arc<K>) -> Change,
    gone: fn(Arc<K>) -> Change,
}

pub(super) fn start(registry: &Registry, changes: &mpsc::Sender<Change>, tasks: &TaskGroup) {
    let nodes = Words {
        all: Change::Nodes,
        is: Change::Node,
        gone: |node: Arc<Node>| Change::NodeGone(node.metadata.name.clone().unwrap_or_default()),
    };
    let namespaces = Words {
        all: Change::Namespaces,
        is: Change::Namespace,
        gone: |it: Arc<Namespace>| {
            Change::NamespaceGone(it.metadata.name.clone().unwrap_or_default())
        },
    };
    let pods = Words {
        all: Change::Pods,
        is: Change::Pod,
        gone: |pod: Arc<Pod>| Change::PodGone(pod.metadata.uid.clone().unwrap_or_default()),
    };
    spawn(
        registry,
        storage::<PersistentVolumeClaim>(),
        changes.clone(),
        tasks,
    );
    spawn(
        registry,
        storage::<PersistentVolume>(),
        changes.clone(),
        tasks,
    );
    spawn(registry, storage::<StorageClass>(), changes.clone(), tasks);
    spawn(registry, namespaces, changes.clone(), tasks);
    spawn(registry, nodes, changes.clone(), tasks);
    spawn(registry, pods, changes.clone(), tasks);
}

/// They are read when a pod needs them; here they only wake who waits.
fn storage<K>() -> Words<K> {
    Words {
        all: |_| Change::Storage,
        is: |_| Change::Storage,
        gone: |_| Change::Storage,
    }
}

fn spawn<K: ApiKind>(
    registry: &Registry,
    words: Words<K>,
    changes: mpsc::Sender<Change>,
    tasks: &TaskGroup,
) {
    let api: Api<K> = registry.api(Caller::system(super::COMPONENT));
    let cancelled = tasks.cancelled();
    tasks.spawn(K::KIND, async move {
        let follow = async {
            while let Err(error) = follow(&api, &words, &changes).await {
                tracing::warn!(kind = K::KIND, error = %errors::chain(&error), "watch again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = follow => {}
        }
    });
}

/// Ends well when the store closes or nobody listens.
async fn follow<K: ApiKind>(
    api: &Api<K>,
    words: &Words<K>,
    changes: &mpsc::Sender<Change>,
) -> Result<(), registry::Error> {
    let (all, mut stream) = api.list_and_watch(None).await?;
    let mut change = Some((words.all)(all));
    loop {
        if let Some(change) = change.take()
            && changes.send(change).await.is_err()
        {
            return Ok(());
        }
        let Some(event) = stream.next().await else {
            return Ok(());
        };
        let event = match event {
            // One unreadable object must not hide the others.
            Err(error @ registry::Error::Corrupt { .. }) => {
                tracing::error!(kind = K::KIND, error = %errors::chain(&error), "skipped");
                continue;
            }
            event => event?,
        };
        change = match event {
            TypedEvent::Added(object) | TypedEvent::Modified(object) => Some((words.is)(object)),
            TypedEvent::Deleted(object) => Some((words.gone)(object)),
            TypedEvent::Bookmark(_) => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Fixture;
    use serde_json::json;

    #[tokio::test]
    async fn what_follows_the_list_is_newer() {
        let fixture = Fixture::new().await;
        let nodes: Api<Node> = fixture.registry.api(Caller::system("test"));
        let node = |name: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
        };
        nodes.create("", &node("first")).await.unwrap();
        let words = Words {
            all: Change::Nodes,
            is: Change::Node,
            gone: |_| Change::Storage,
        };
        let (sender, mut changes) = mpsc::channel(1);
        let told = async {
            let Some(Change::Nodes(all)) = changes.recv().await else {
                panic!("the list comes first");
            };
            assert_eq!(all.len(), 1);
            nodes.create("", &node("second")).await.unwrap();
            let Some(Change::Node(next)) = changes.recv().await else {
                panic!("a node comes next");
            };
            next.metadata.name.clone()
        };
        tokio::select! {
            told = told => assert_eq!(told.as_deref(), Some("second")),
            ended = follow(&nodes, &words, &sender) => panic!("{ended:?}"),
        }
        fixture.stop().await;
    }
}
