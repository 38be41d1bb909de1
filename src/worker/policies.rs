//! Network policies, enforced: follows them and keeps the rules of this worker's pods as they say.
//!
//! Without a policy anywhere the worker follows policies and nothing else. With the first one it
//! follows pods and namespaces, too, for as long as there is one: a rule may name any of them.
//! What is followed is a copy that no error shrinks: with the control plane away, the rules stay as
//! they were.
//!
//! It fails closed: nobody starts a container before the policies have been seen once
//! ([`Policies::synced`]), and a pod has its rules before its first container starts
//! ([`Policies::attach`]).

mod peer_pod;
mod plan;
mod policy;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use self::peer_pod::PeerPod;
use self::plan::{View, plan};
use self::policy::Policy;
use crate::client::{self, Mirror, MirrorKey};
use crate::errors::chain;
use crate::runtime::net::PodNet;
use crate::tasks::TaskGroup;

/// Changes that come this close together are compiled together.
const COALESCE: Duration = Duration::from_millis(20);
/// In a large cluster compiling takes time; it may take one part in so many.
const SHARE: u32 = 4;

/// See the module.
#[derive(Default)]
pub struct Policies {
    state: Mutex<State>,
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    policies: HashMap<MirrorKey, Policy>,
    namespaces: Mirror<Namespace>,
    pods: Mirror<PeerPod>,
    /// By uid.
    locals: HashMap<String, Local>,
}

/// A pod of this worker.
struct Local {
    pod: Arc<PeerPod>,
    net: Weak<PodNet>,
}

type Watched<K> = Result<Event<K>, watcher::Error>;

type Followed<K> = Option<BoxStream<'static, Watched<K>>>;

impl Policies {
    /// Starts the watches.
    pub fn start(self: &Arc<Self>, client: Client, tasks: &TaskGroup) {
        let policies = Arc::clone(self);
        let cancelled = tasks.cancelled();
        tasks.spawn("network policies", async move {
            tokio::select! {
                () = policies.run(client) => {}
                () = cancelled.cancelled() => {}
            }
        });
    }

    /// Resolves when policies, and whom they name, have been listed once.
    pub async fn synced(&self) {
        // The sender is this value's own: it cannot be gone.
        let _ = self.synced.subscribe().wait_for(|it| *it).await;
    }

    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Gives a pod's network its rules, from now on.
    pub fn attach(&self, pod: &Pod, net: &Arc<PodNet>) -> Result<(), serde_json::Error> {
        let pod = Arc::new(PeerPod::of(pod)?);
        let mut state = self.lock();
        state.locals.retain(|_, local| local.net.strong_count() > 0);
        let rules = plan(&state.view(), &[&pod]).pop().flatten();
        net.set_rules(rules.map(Arc::new));
        let local = Local {
            net: Arc::downgrade(net),
            pod,
        };
        state.locals.insert(local.pod.uid().to_owned(), local);
        Ok(())
    }

    async fn run(&self, client: Client) {
        let all = Api::<NetworkPolicy>::all(client.clone());
        let mut policies = client::watch(all, Config::default()).boxed();
        let mut seen = Mirror::default();
        let mut pods: Followed<PeerPod> = None;
        let mut namespaces: Followed<Namespace> = None;
        let (mut is_dirty, mut pause) = (false, COALESCE);
        loop {
            tokio::select! {
                Some(event) = policies.next() => {
                    is_dirty |= self.lock().policies(&mut seen, event);
                    let is_wanted = !self.lock().policies.is_empty();
                    if is_wanted && pods.is_none() {
                        pods = Some(everything(&client));
                        namespaces = Some(everything(&client));
                    } else if !is_wanted && pods.is_some() {
                        (pods, namespaces) = (None, None);
                        self.lock().forget_peers();
                    }
                }
                Some(event) = next(&mut pods) => {
                    is_dirty |= follow(&mut self.lock().pods, event, PeerPod::is_same_peer);
                }
                Some(event) = next(&mut namespaces) => {
                    let is_same = |one: &Namespace, other: &Namespace| {
                        one.metadata.labels == other.metadata.labels
                    };
                    is_dirty |= follow(&mut self.lock().namespaces, event, is_same);
                }
                () = tokio::time::sleep(pause), if is_dirty => {
                    is_dirty = false;
                    pause = COALESCE.max(self.publish(seen.is_synced()) * SHARE);
                }
            }
        }
    }

    /// Compiles, if everything is known; says how long it took.
    fn publish(&self, knows_policies: bool) -> Duration {
        let began = Instant::now();
        let mut state = self.lock();
        let knows_peers = state.pods.is_synced() && state.namespaces.is_synced();
        if !knows_policies || !(knows_peers || state.policies.is_empty()) {
            return Duration::ZERO;
        }
        state.publish();
        drop(state);
        self.synced
            .send_if_modified(|known| !std::mem::replace(known, true));
        began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes an event; whether something is different now.
    fn policies(
        &mut self,
        seen: &mut Mirror<NetworkPolicy>,
        event: Watched<NetworkPolicy>,
    ) -> bool {
        let was_synced = seen.is_synced();
        let changes = match event {
            Ok(event) => seen.apply(event),
            Err(error) if was_synced => {
                tracing::debug!(error = %chain(&error), "watch network policies");
                return false;
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(%error, "list network policies; no pod starts before that");
                return false;
            }
        };
        let is_dirty = !changes.is_empty() || seen.is_synced() != was_synced;
        for (key, object) in changes {
            match object {
                Some(object) => self.policies.insert(key, Policy::of(&object)),
                None => self.policies.remove(&key),
            };
        }
        is_dirty
    }

    fn forget_peers(&mut self) {
        self.pods = Mirror::default();
        self.namespaces = Mirror::default();
    }

    fn view(&self) -> View<'_> {
        let namespaces = self.namespaces.objects().map(|it| &it.metadata);
        View {
            policies: self.policies.values().collect(),
            namespaces: namespaces
                .filter_map(|meta| Some((meta.name.as_deref()?, &meta.labels)))
                .collect(),
            pods: self.pods.objects().map(|pod| &**pod).collect(),
        }
    }

    fn publish(&mut self) {
        self.locals.retain(|_, local| local.net.strong_count() > 0);
        for local in self.locals.values_mut() {
            // Its labels may have changed since it came here.
            let meta = &local.pod.metadata;
            let name = meta.name.as_deref().unwrap_or_default();
            let latest = self.pods.get(local.pod.namespace(), name);
            if let Some(latest) = latest.filter(|it| it.uid() == local.pod.uid()) {
                local.pod = Arc::clone(latest);
            }
        }
        let locals: Vec<&Local> = self.locals.values().collect();
        let pods: Vec<&PeerPod> = locals.iter().map(|local| &*local.pod).collect();
        let planned = plan(&self.view(), &pods);
        for (local, rules) in locals.iter().zip(planned) {
            if let Some(net) = local.net.upgrade() {
                net.set_rules(rules.map(Arc::new));
            }
        }
    }
}

/// Takes an event; whether something is different now. An error changes nothing.
fn follow<K: kube::Resource>(
    mirror: &mut Mirror<K>,
    event: Watched<K>,
    is_same: impl Fn(&K, &K) -> bool,
) -> bool {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            tracing::debug!(error = %chain(&error), "watch whom network policies name");
            return false;
        }
    };
    let was_synced = mirror.is_synced();
    // Most changes of a pod are its status, which is nobody's peer.
    if let Event::Apply(object) = &event {
        let meta = object.meta();
        let name = meta.name.as_deref().unwrap_or_default();
        let known = mirror.get(meta.namespace.as_deref().unwrap_or_default(), name);
        if known.is_some_and(|known| is_same(known, object)) {
            return false;
        }
    }
    let changes = mirror.apply(event);
    !changes.is_empty() || mirror.is_synced() != was_synced
}

/// All objects of a kind.
fn everything<K>(client: &Client) -> BoxStream<'static, Watched<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    client::watch(Api::all(client.clone()), Config::default()).boxed()
}

async fn next<T>(stream: &mut Option<BoxStream<'static, T>>) -> Option<T> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}
