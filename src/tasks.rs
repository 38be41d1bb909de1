//! Owned tasks: who started it, what stops it, what a panic means.
//!
//! A detached task is invisible: its panic vanishes, its shutdown never comes. So `tokio::spawn` is
//! a disallowed method and every task is spawned through a [`TaskGroup`]. Groups form a tree:
//! cancelling a group cancels its children, [`TaskGroup::shutdown`] waits for all with a deadline.
//!
//! A panic in a task spawned with [`TaskGroup::spawn`] is logged and cancels the **root** of the
//! tree: the process drains and exits rather than limp on without one of its organs. A task that
//! serves one client, one pod or one request is spawned with [`TaskGroup::spawn_contained`]: its
//! panic is logged and ends that task alone.

mod accept;
mod executor;
mod first_request;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

pub use executor::Executor;
pub use first_request::FirstRequest;

/// A set of tasks with one cancellation token; cheap to clone, clones are the same group.
#[derive(Clone, Debug)]
pub struct TaskGroup {
    tracker: TaskTracker,
    cancelled: CancellationToken,
    root: CancellationToken,
}

impl Default for TaskGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl TaskGroup {
    /// A new root group.
    pub fn new() -> Self {
        let cancelled = CancellationToken::new();
        Self {
            tracker: TaskTracker::new(),
            root: cancelled.clone(),
            cancelled,
        }
    }

    /// A group inside this one: cancelled with it, and waited for by it only if its own
    /// [`TaskGroup::shutdown`] is awaited.
    pub fn child(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            cancelled: self.cancelled.child_token(),
            root: self.root.clone(),
        }
    }

    /// Resolves when the group is cancelled; tasks select on it to end in good order.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancelled.clone()
    }

    /// Asks every task of this group and its children to end.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Spawns an organ of the process: its panic cancels the root group.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let root = self.root.clone();
        // Not an `async` block, which would hold the task twice: as it came, and as it is polled.
        let task = AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            if ended.is_err() {
                tracing::error!(task = name, "task panicked; shutting the process down");
                root.cancel();
            }
        });
        self.launch(name, task)
    }

    /// Spawns a task that serves one client, pod or request: its panic ends it alone.
    pub fn spawn_contained<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            if ended.is_err() {
                tracing::error!(task = name, "task panicked");
            }
        });
        self.launch(name, task)
    }

    /// Cancels the group and waits for its tasks, at most `deadline`; tells whether all ended.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.cancelled.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait())
            .await
            .is_ok()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    fn launch<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(
            self.tracker
                .track_future(task.instrument(tracing::debug_span!("task", name))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutdown_waits_for_tasks_that_listen() {
        let group = TaskGroup::new();
        let child = group.child();
        let token = child.cancelled();
        child.spawn("listener", async move { token.cancelled().await });
        group.cancel();
        assert!(child.shutdown(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_panicking_organ_stops_the_process_and_a_contained_task_does_not() {
        let group = TaskGroup::new();
        let contained = group.spawn_contained("request", async { panic!("bad request") });
        contained.await.unwrap();
        assert!(!group.cancelled().is_cancelled());
        let organ = group.child().spawn("organ", async { panic!("bug") });
        organ.await.unwrap();
        assert!(group.cancelled().is_cancelled());
    }
}
