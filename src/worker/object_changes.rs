//! Which ConfigMaps and Secrets have changed, for the pods whose volumes show them.
//!
//! One pair of watches per namespace that some pod here takes files from, of metadata only: the
//! contents are fetched (once, by `objects`) when an object that somebody shows has a new version.
//! The watches end with their last follower. The refresh tick stays: it makes up for whatever a watch
//! missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::objects::{Kind, ObjectCache, References};
use crate::client;
use crate::errors::chain;
use crate::tasks::TaskGroup;

/// The versions of a namespace's objects, as far as its watches have told.
type Versions = HashMap<(Kind, String), String>;

/// See the module.
pub struct ObjectChanges {
    client: Client,
    objects: ObjectCache,
    tasks: TaskGroup,
    namespaces: Mutex<HashMap<String, Weak<Feed>>>,
}

struct Feed {
    versions: watch::Receiver<Versions>,
    _stop: DropGuard,
}

/// One pod's interest in some objects.
pub struct Following {
    references: References,
    /// What was known of each when the pod last looked.
    seen: Versions,
    versions: watch::Receiver<Versions>,
    _feed: Arc<Feed>,
}

impl ObjectChanges {
    pub fn new(client: Client, objects: ObjectCache, tasks: TaskGroup) -> Self {
        Self {
            client,
            objects,
            tasks,
            namespaces: Mutex::default(),
        }
    }

    /// Follows `references` from now on.
    pub fn follow(&self, namespace: &str, references: References) -> Following {
        let feed = self.feed(namespace);
        let versions = feed.versions.clone();
        let mut following = Following {
            references,
            seen: Versions::new(),
            versions,
            _feed: feed,
        };
        following.look();
        following
    }

    fn feed(&self, namespace: &str) -> Arc<Feed> {
        let mut namespaces = self.lock();
        if let Some(feed) = namespaces.get(namespace).and_then(Weak::upgrade) {
            return feed;
        }
        namespaces.retain(|_, feed| feed.strong_count() > 0);
        let (sender, versions) = watch::channel(Versions::new());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (client, objects) = (self.client.clone(), self.objects.clone());
        let name = namespace.to_owned();
        let cancelled = self.tasks.cancelled();
        self.tasks.spawn("objects of volumes", async move {
            let follow = async {
                tokio::join!(
                    follow::<ConfigMap>(&client, Kind::ConfigMap, &name, &objects, &sender),
                    follow::<Secret>(&client, Kind::Secret, &name, &objects, &sender),
                )
            };
            tokio::select! {
                _ = follow => {}
                () = stopped.cancelled() => {}
                () = cancelled.cancelled() => {}
            }
        });
        let feed = Arc::new(Feed {
            versions,
            _stop: stop.drop_guard(),
        });
        namespaces.insert(namespace.to_owned(), Arc::downgrade(&feed));
        feed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weak<Feed>>> {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Following {
    /// Resolves when an object has changed since the last call. What the watches tell when they begin
    /// is news too, since the pod may have fetched an older version; it costs one comparison.
    pub async fn changed(&mut self) {
        loop {
            if self.versions.changed().await.is_err() {
                // The worker is ending.
                return std::future::pending().await;
            }
            if self.look() {
                return;
            }
        }
    }

    /// Takes the versions as they are; tells whether one of ours is new.
    fn look(&mut self) -> bool {
        let versions = self.versions.borrow_and_update();
        let mut is_new = false;
        for key in &self.references {
            let Some(version) = versions.get(key) else {
                continue;
            };
            let before = self.seen.insert(key.clone(), version.clone());
            is_new |= before.as_ref() != Some(version);
        }
        is_new
    }
}

async fn follow<K>(
    client: &Client,
    kind: Kind,
    namespace: &str,
    objects: &ObjectCache,
    versions: &watch::Sender<Versions>,
) where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Send
        + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client.clone(), namespace);
    let events = client::watch(api, watcher::Config::default());
    record(kind, namespace, events, objects, versions).await;
}

/// A deleted object keeps its version: its files stay as they are until there is another of the name.
async fn record<K: Resource<DynamicType = ()> + Clone>(
    kind: Kind,
    namespace: &str,
    events: impl Stream<Item = Result<Event<PartialObjectMeta<K>>, watcher::Error>> + Send,
    objects: &ObjectCache,
    versions: &watch::Sender<Versions>,
) {
    let mut events = Box::pin(events);
    while let Some(event) = events.next().await {
        let object = match event {
            Ok(Event::InitApply(object) | Event::Apply(object)) => object,
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => continue,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "watch {}s", kind.as_str());
                continue;
            }
        };
        let key = (kind, object.name_any());
        let version = object.resource_version().unwrap_or_default();
        if versions.borrow().get(&key) == Some(&version) {
            continue;
        }
        // An answer of before the change must serve nobody after it.
        objects.forget(kind, namespace, &key.1);
        versions.send_modify(|versions| {
            versions.insert(key, version);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_ones_own_objects_are_news() {
        let (sender, versions) = watch::channel(Versions::new());
        let stop = CancellationToken::new();
        let feed = Arc::new(Feed {
            versions: versions.clone(),
            _stop: stop.clone().drop_guard(),
        });
        let key = |name: &str| (Kind::ConfigMap, name.to_owned());
        let set = |name: &str, version: &str| {
            sender.send_modify(|all| {
                all.insert(key(name), version.to_owned());
            });
        };
        set("mine", "1");
        let mut following = Following {
            references: [key("mine"), key("later")].into(),
            seen: Versions::new(),
            versions,
            _feed: feed,
        };
        following.look();
        set("other", "2");
        assert!(futures::FutureExt::now_or_never(following.changed()).is_none());
        for (name, version) in [("mine", "3"), ("later", "4")] {
            set(name, version);
            assert!(
                futures::FutureExt::now_or_never(following.changed()).is_some(),
                "{name}"
            );
            assert!(futures::FutureExt::now_or_never(following.changed()).is_none());
        }
        drop(following);
        assert!(
            stop.is_cancelled(),
            "the watches end with their last follower"
        );
    }
}
