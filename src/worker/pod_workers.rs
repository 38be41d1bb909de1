//! All pods of this worker: one task per uid, fed by one watch.
//!
//! The watch brings every pod that is bound to this node; each pod's task gets the latest version
//! through a `watch` channel, so a slow pod never holds up another one and never sees old news. A
//! complete list ends pods that are not in it; an interrupted list or an error ends nothing. Lists come
//! by the watch alone, so that none is older than what was seen before it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use super::checkpoint::Checkpoint;
use super::context::Context;
use super::lifecycle::{PodFailure, Saved, SavedContainer};
use super::pod_worker::{Desired, PodId, PodWorker};
use crate::api::pod::{Phase, phase};
use crate::client;
use crate::errors::chain;
use crate::tasks::TaskGroup;

/// See the module.
pub struct PodWorkers {
    context: Arc<Context>,
    node: String,
    tasks: TaskGroup,
    state: Mutex<State>,
    /// A wish for a new list is in the state.
    wished: Notify,
}

struct State {
    pods: HashMap<String, Entry>,
    /// The uid of the latest pod of a namespace and name.
    names: HashMap<(String, String), String>,
    /// Pods of before this process that have not been seen yet.
    checkpoints: HashMap<String, Checkpoint>,
    is_stopping: bool,
    /// Who waits for a list that begins from now on, and for the end of the pods that are not in it.
    catching_up: Vec<oneshot::Sender<Vec<JoinHandle<()>>>>,
}

struct Entry {
    id: PodId,
    desired: watch::Sender<Desired>,
    task: JoinHandle<()>,
}

const STOP_DEADLINE: Duration = Duration::from_secs(5);

impl PodWorkers {
    pub fn new(
        context: Arc<Context>,
        node: String,
        checkpoints: HashMap<String, Checkpoint>,
        tasks: TaskGroup,
    ) -> Self {
        Self {
            context,
            node,
            tasks,
            state: Mutex::new(State {
                pods: HashMap::new(),
                names: HashMap::new(),
                checkpoints,
                is_stopping: false,
                catching_up: Vec::new(),
            }),
            wished: Notify::new(),
        }
    }

    /// Follows the API until the group is cancelled.
    pub async fn run(&self, client: Client) {
        let api: Api<Pod> = Api::all(client);
        let config = watcher::Config::default().fields(&self.selector());
        let open = || client::watch(api.clone(), config.clone()).boxed();
        let mut events = open();
        let mut listed: Vec<Pod> = Vec::new();
        let mut waiting = Vec::new();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.wished.notified() => {
                    waiting.append(&mut self.lock().catching_up);
                    events = open();
                    continue;
                }
            };
            let Some(event) = event else { return };
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => listed.push(pod),
                Ok(Event::InitDone) => {
                    let mut ending = self.take_list(std::mem::take(&mut listed));
                    for caller in waiting.drain(..) {
                        // Nobody waits any more: the pods end all the same.
                        let _ = caller.send(std::mem::take(&mut ending));
                    }
                }
                Ok(Event::Apply(pod)) => self.observe(pod),
                Ok(Event::Delete(pod)) => {
                    let uid = pod.metadata.uid.unwrap_or_default();
                    drop(self.remove(&uid));
                }
                Err(error) => tracing::debug!(error = %chain(&error), "watch pods"),
            }
        }
    }

    /// Asks the API which pods are still ours, and waits until the others have stopped.
    pub async fn catch_up(&self) {
        let (caller, listed) = oneshot::channel();
        self.lock().catching_up.push(caller);
        self.wished.notify_one();
        // The watch ends with the process.
        let Ok(ending) = listed.await else { return };
        let ending = futures::future::join_all(ending);
        if tokio::time::timeout(STOP_DEADLINE, ending).await.is_err() {
            tracing::warn!("some pods that are not ours any more did not stop in time");
        }
    }

    /// Asks every pod's containers to stop and waits for them; nothing is deleted.
    pub async fn stop(&self) {
        let ending: Vec<JoinHandle<()>> = {
            let mut state = self.lock();
            state.is_stopping = true;
            state.names.clear();
            // Dropping the channel is the message.
            state.pods.drain().map(|(_, entry)| entry.task).collect()
        };
        futures::future::join_all(ending).await;
    }

    fn selector(&self) -> String {
        format!("spec.nodeName={}", self.node)
    }

    /// Takes a complete list; the tasks of pods that are not in it end, and are returned.
    fn take_list(&self, pods: Vec<Pod>) -> Vec<JoinHandle<()>> {
        let here: HashSet<String> = pods
            .iter()
            .filter_map(|pod| pod.metadata.uid.clone())
            .collect();
        let gone: Vec<String> = {
            let state = self.lock();
            let known = state.pods.keys().filter(|uid| !here.contains(*uid));
            known.cloned().collect()
        };
        let ending = gone.iter().filter_map(|uid| self.remove(uid)).collect();
        for pod in pods {
            self.observe(pod);
        }
        self.forget_unseen(&here);
        ending
    }

    /// What was left by pods that were deleted while this worker was away.
    fn forget_unseen(&self, here: &HashSet<String>) {
        let unseen: Vec<Checkpoint> = {
            let mut state = self.lock();
            let checkpoints = std::mem::take(&mut state.checkpoints);
            checkpoints.into_values().collect()
        };
        for checkpoint in unseen {
            self.context.checkpoints.remove(&checkpoint.uid);
            self.context.addresses.release(&checkpoint.uid);
        }
        self.context.logs.retain_pods(here.clone());
    }

    /// Takes a pod's latest version; starts a task for a new one.
    fn observe(&self, pod: Pod) {
        let id = PodId::of(&pod);
        let pod = Arc::new(pod);
        let mut state = self.lock();
        if state.is_stopping {
            return;
        }
        // The task of an earlier pod of the same name has to go.
        let name = (id.namespace.clone(), id.name.clone());
        let former = state.names.insert(name, id.uid.clone());
        if let Some(former) = former.filter(|uid| *uid != id.uid)
            && let Some(entry) = state.pods.get(&former)
        {
            entry
                .desired
                .send_modify(|desired| desired.is_removed = true);
        }
        if let Some(entry) = state.pods.get(&id.uid)
            && !entry.task.is_finished()
        {
            entry.desired.send_replace(Desired {
                pod,
                is_removed: false,
            });
            return;
        }
        let saved = match state.checkpoints.remove(&id.uid) {
            Some(checkpoint) => Some(newer(checkpoint.saved, saved_status(&pod))),
            None => saved_status(&pod),
        };
        let (sender, receiver) = watch::channel(Desired {
            pod: Arc::clone(&pod),
            is_removed: false,
        });
        let context = Arc::clone(&self.context);
        let task = self.tasks.spawn_contained("pod", async move {
            PodWorker::new(context, pod, saved.as_ref())
                .run(receiver)
                .await;
        });
        let entry = Entry {
            id: id.clone(),
            desired: sender,
            task,
        };
        state.pods.insert(id.uid, entry);
    }

    fn remove(&self, uid: &str) -> Option<JoinHandle<()>> {
        let mut state = self.lock();
        let entry = state.pods.remove(uid)?;
        let name = (entry.id.namespace, entry.id.name);
        if state.names.get(&name).is_some_and(|latest| latest == uid) {
            state.names.remove(&name);
        }
        let is_running = !entry.task.is_finished();
        entry
            .desired
            .send_modify(|desired| desired.is_removed = true);
        // The channel must outlive the message: the task holds the last value.
        let (task, desired) = (entry.task, entry.desired);
        is_running.then(|| {
            self.tasks.spawn_contained("pod removal", async move {
                // A pod's task that panicked has ended too.
                let _ = task.await;
                drop(desired);
            })
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pod's past as its status in the API tells it; `None` for a pod that no worker has touched.
fn saved_status(pod: &Pod) -> Option<Saved> {
    let status = pod.status.as_ref()?;
    let started_at = status.start_time.as_ref().map(|time| time.0)?;
    let init = status.init_container_statuses.iter().flatten();
    let containers = init.chain(status.container_statuses.iter().flatten());
    Some(Saved {
        is_finished: phase(pod).is_terminal(),
        started_at: Some(started_at),
        containers: containers.map(saved_container).collect(),
        failure: failure(pod),
    })
}

/// Why a pod that has failed did, where it was the pod as a whole.
fn failure(pod: &Pod) -> Option<PodFailure> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.clone()?;
    (phase(pod) == Phase::Failed).then(|| PodFailure {
        reason,
        message: status.message.clone().unwrap_or_default(),
    })
}

fn saved_container(status: &ContainerStatus) -> SavedContainer {
    let state = status.state.as_ref();
    let terminated = state.and_then(|state| state.terminated.as_ref());
    let running = state.and_then(|state| state.running.as_ref());
    let last = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let has_run = terminated.is_some() || running.is_some() || last.is_some();
    let restarts = u32::try_from(status.restart_count).unwrap_or_default();
    SavedContainer {
        name: status.name.clone(),
        starts: if has_run { restarts + 1 } else { 0 },
        is_done: terminated.is_some(),
        running_since: running
            .and_then(|it| it.started_at.as_ref())
            .map(|time| time.0),
        last: terminated
            .or(last)
            .map(|it| super::status::termination(it, restarts)),
        previous: None,
    }
}

/// The checkpoint knows more, but a count must never go down.
fn newer(checkpoint: Saved, status: Option<Saved>) -> Saved {
    let mut saved = checkpoint;
    for container in status.iter().flat_map(|status| &status.containers) {
        let mut known = saved.containers.iter_mut();
        match known.find(|known| known.name == container.name) {
            Some(known) => known.starts = known.starts.max(container.starts),
            None => saved.containers.push(container.clone()),
        }
    }
    if let Some(status) = status {
        saved.is_finished |= status.is_finished;
        saved.failure = saved.failure.or(status.failure);
    }
    saved
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "cases read better without `&`"
    )]
    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()
    }

    #[test]
    fn a_past_is_read_from_the_status() {
        assert_eq!(saved_status(&pod(json!({"phase": "Pending"}))), None);
        let saved = saved_status(&pod(json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [
            {"name": "m", "image": "m", "imageID": "", "ready": true, "restartCount": 3, "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}}},
            {"name": "w", "image": "w", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {}}}]})))
        .unwrap();
        assert!(!saved.is_finished);
        assert_eq!(
            (saved.containers[0].starts, saved.containers[1].starts),
            (4, 0)
        );
        assert!(saved.containers[0].running_since.is_some());
    }

    #[test]
    fn why_a_pod_failed_is_read_from_the_status() {
        let of = |phase: &str| {
            let status = json!({"phase": phase, "reason": "DeadlineExceeded", "message": "late", "startTime": "2026-01-01T00:00:00Z"});
            saved_status(&pod(status)).unwrap()
        };
        let told = of("Failed").failure.unwrap();
        assert_eq!(
            (&*told.reason, &*told.message),
            ("DeadlineExceeded", "late")
        );
        assert_eq!(of("Running").failure, None, "said of a pod that lives");
        let known = newer(Saved::default(), Some(of("Failed")));
        assert_eq!(known.failure, Some(told));
    }

    #[test]
    fn counts_never_go_down() {
        let container = |starts| SavedContainer {
            name: "m".into(),
            starts,
            ..SavedContainer::default()
        };
        let saved = |starts, is_finished| Saved {
            is_finished,
            started_at: None,
            containers: vec![container(starts)],
            failure: None,
        };
        let merged = newer(saved(2, false), Some(saved(5, true)));
        assert_eq!((merged.containers[0].starts, merged.is_finished), (5, true));
        assert_eq!(
            newer(saved(7, false), Some(saved(5, false))).containers[0].starts,
            7
        );
    }
}
