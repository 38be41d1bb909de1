//! From the watches to the scheduler: changes of pods and nodes through one bounded queue.
//!
//! Each time a watch is opened, the whole list goes first, so that what disappeared while nobody
//! watched is noticed. The list may be newer than the first changes that follow it; replaying
//! older versions is harmless, since the newer ones come after them.

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
    let mut stream = api.watch(None).await?;
    let mut change = Some((words.all)(api.list(None)?));
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
