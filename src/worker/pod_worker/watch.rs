//! What is asked of a running container, and its end: probes, hooks, exit.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::{Done, PodWorker};
use crate::runtime::ContainerHandle;
use crate::runtime::spec::Exit;
use crate::worker::context::Context;
use crate::worker::lifecycle::Event;
use crate::worker::logs::{LogId, Query};
use crate::worker::plan::{Hook, HookKind};
use crate::worker::probe_run::{self, Asked};
use crate::worker::probes::Kind;

/// A hook is bounded by the pod's end, not by a time of its own; this one is for a lost answer.
const HOOK: Duration = Duration::from_hours(24);
/// What `FallbackToLogsOnError` takes, as in Kubernetes.
const LOG_LINES: usize = 80;
const LOG_BYTES: usize = 2048;

impl PodWorker {
    pub(super) fn probe(&mut self, container: usize, kind: Kind) {
        let plan = &self.lifecycle.plan().containers[container];
        let Some(spec) = plan.probes.get(kind).cloned() else {
            return;
        };
        let Some((asked, incarnation)) = self.asked(container) else {
            return;
        };
        let context = Arc::clone(&self.context);
        let asking = async move {
            let result = probe_run::ask(context, asked, spec.action, spec.timeout).await;
            Done::Event(Event::Probed {
                container,
                incarnation,
                kind,
                result,
            })
        };
        self.work.push(asking.boxed());
    }

    pub(super) fn hook(&mut self, container: usize, kind: HookKind) {
        let plan = &self.lifecycle.plan().containers[container];
        let Some(hook) = plan.hooks.get(kind).cloned() else {
            return;
        };
        let Some((asked, incarnation)) = self.asked(container) else {
            return;
        };
        let context = Arc::clone(&self.context);
        let hooking = async move {
            let result = match hook {
                Hook::Sleep(length) => {
                    tokio::time::sleep(length).await;
                    Ok(())
                }
                Hook::Ask(action) => probe_run::ask(context, asked, action, HOOK).await,
            };
            Done::Event(Event::Hooked {
                container,
                incarnation,
                kind,
                result,
            })
        };
        self.work.push(hooking.boxed());
    }

    fn asked(&self, container: usize) -> Option<(Asked, u32)> {
        let plan = &self.lifecycle.plan().containers[container];
        let running = self.lifecycle.containers()[container].running()?;
        let asked = Asked {
            sandbox: self.sandbox.clone()?,
            container: plan.name.clone(),
            image: plan.image.name.clone(),
        };
        Some((asked, running.incarnation))
    }

    /// Waits for the end of a container that was started.
    pub(super) fn handle(&mut self, container: usize, incarnation: u32, handle: ContainerHandle) {
        let waiting = handle.clone();
        self.handles[container] = Some(handle);
        let wants_logs = self.container(container).is_some_and(|spec| {
            spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
        });
        let fallback = wants_logs.then(|| (Arc::clone(&self.context), self.log_id(container)));
        let ending = async move {
            let mut exit = waiting.wait().await;
            if let Some((context, id)) = fallback {
                add_log(&context, &id, incarnation, &mut exit).await;
            }
            Done::Event(Event::Exited {
                container,
                incarnation,
                exit,
            })
        };
        self.work.push(ending.boxed());
    }

    pub(super) fn log_id(&self, container: usize) -> LogId {
        LogId {
            namespace: self.id.namespace.clone(),
            pod: self.id.name.clone(),
            uid: self.id.uid.clone(),
            container: self.lifecycle.plan().containers[container].name.clone(),
        }
    }
}

/// The end of the log becomes the message of a failure that left none.
async fn add_log(context: &Context, id: &LogId, incarnation: u32, exit: &mut Exit) {
    if exit.code == 0 || !exit.message.is_empty() {
        return;
    }
    let query = Query {
        tail_lines: Some(LOG_LINES),
        ..Query::default()
    };
    let mut reader = context.logs.read(id, incarnation, &query).await;
    let mut text = Vec::new();
    while let Some(Ok(chunk)) = reader.next().await {
        text.extend_from_slice(&chunk);
        let surplus = text.len().saturating_sub(LOG_BYTES);
        text.drain(..surplus);
    }
    exit.message = String::from_utf8_lossy(&text).into_owned();
}
