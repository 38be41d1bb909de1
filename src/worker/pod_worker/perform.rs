//! Effects into deeds.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::{Done, PodWorker};
use crate::backoff::Backoff;
use crate::errors::chain;
use crate::ids;
use crate::runtime::ContainerHandle;
use crate::worker::events::Record;
use crate::worker::images::Image;
use crate::worker::lifecycle::{Effect, Event, PullFailure};

const FINALIZE_RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
const FINALIZE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a draining pod looks whether requests are still in flight.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

impl PodWorker {
    pub(super) fn perform_all(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare => self.prepare(),
            Effect::Pull { container } => self.pull(container),
            Effect::Start {
                container,
                incarnation,
            } => self.start(container, incarnation),
            Effect::Stop { container } => self.with_handle(container, ContainerHandle::stop),
            Effect::Kill { container } => self.with_handle(container, ContainerHandle::kill),
            Effect::Probe { container, kind } => self.probe(container, kind),
            Effect::Hook { container, kind } => self.hook(container, kind),
            Effect::Refuse => {
                if let Some(sandbox) = &self.sandbox {
                    sandbox.refuse_outside();
                }
            }
            Effect::Drain { at_least, at_most } => self.drain(at_least, at_most),
            Effect::CloseSandbox => self.close(),
            Effect::Finalize => self.finalize(),
            Effect::Forget => self.is_forgotten = true,
            Effect::Record {
                is_warning,
                reason,
                message,
                container,
            } => self.record(is_warning, reason, message, container),
        }
    }

    fn with_handle(&self, container: usize, act: fn(&ContainerHandle)) {
        if let Some(Some(handle)) = self.handles.get(container) {
            act(handle);
        }
    }

    fn pull(&mut self, container: usize) {
        let plan = &self.lifecycle.plan().containers[container];
        let (image, policy) = (plan.image.clone(), plan.pull_policy);
        if let Some(image) = self.context.images.ready(&image) {
            return self.pulled(container, Ok(image));
        }
        self.record(
            false,
            "Pulling",
            format!("Pulling image \"{image}\""),
            Some(container),
        );
        let images = self.context.images.clone();
        let namespace = self.id.namespace.clone();
        let pulling = async move {
            let result = images.pull(&namespace, &image, policy).await;
            Done::Pulled { container, result }
        };
        self.work.push(pulling.boxed());
    }

    pub(super) fn pulled(&mut self, container: usize, result: Result<Image, PullFailure>) {
        let result = match result {
            Ok(image) => {
                let name = &self.lifecycle.plan().containers[container].image;
                let message = if image.was_fetched {
                    format!("Successfully pulled image \"{name}\" ({})", image.digest)
                } else {
                    format!("Container image \"{name}\" already present on machine")
                };
                self.record(false, "Pulled", message, Some(container));
                let id = image.id.clone();
                self.images[container] = Some(image);
                Ok(id)
            }
            Err(failure) => Err(failure),
        };
        self.queue.push_back(Event::Pulled { container, result });
    }

    /// Routers get their time; then it is over as soon as no request is in flight.
    fn drain(&mut self, at_least: Duration, at_most: Duration) {
        let handles: Vec<ContainerHandle> = self.handles.iter().flatten().cloned().collect();
        let draining = async move {
            tokio::time::sleep(at_least).await;
            let settling = async {
                while handles.iter().any(|handle| handle.stats().in_flight > 0) {
                    tokio::time::sleep(DRAIN_LOOK).await;
                }
            };
            let left = at_most.saturating_sub(at_least);
            // Requests that take longer get what is left of the grace period.
            let _ = tokio::time::timeout(left, settling).await;
            Done::Event(Event::Drained)
        };
        self.work.push(draining.boxed());
    }

    fn close(&mut self) {
        let Some(sandbox) = self.sandbox.take() else {
            return self.queue.push_back(Event::Closed);
        };
        self.publish_view();
        self.files.clear();
        self.images.fill(None);
        self.handles.fill(None);
        let closing = async move {
            sandbox.close().await;
            Done::Event(Event::Closed)
        };
        self.work.push(closing.boxed());
    }

    fn finalize(&mut self) {
        self.is_finalizing = true;
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &self.id.namespace);
        let id = self.id.clone();
        let deleting = async move {
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid: Some(id.uid.clone()),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            let mut failures = 0;
            loop {
                let deleting = api.delete(&id.name, &params);
                match tokio::time::timeout(FINALIZE_TIMEOUT, deleting).await {
                    Ok(Ok(_)) => break,
                    // Gone already, or another pod of the same name.
                    Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => break,
                    Ok(Err(error)) => {
                        tracing::debug!(pod = id.name, error = %chain(&error), "delete pod");
                    }
                    Err(_) => {}
                }
                failures += 1;
                let delay = FINALIZE_RETRY.delay_with_jitter(failures, ids::jitter());
                tokio::time::sleep(delay).await;
            }
            Done::Finalized
        };
        self.work.push(deleting.boxed());
    }

    pub(super) fn record(
        &self,
        is_warning: bool,
        reason: &'static str,
        message: String,
        container: Option<usize>,
    ) {
        let plan = self.lifecycle.plan();
        let field_path = container
            .and_then(|index| plan.containers.get(index))
            .map(|plan| {
                use crate::worker::restart::Role;
                match plan.role {
                    Role::Main => format!("spec.containers{{{}}}", plan.name),
                    Role::Init | Role::Sidecar => format!("spec.initContainers{{{}}}", plan.name),
                    Role::Ephemeral => format!("spec.ephemeralContainers{{{}}}", plan.name),
                }
            });
        self.context.events.record(Record {
            is_warning,
            reason,
            message,
            namespace: self.id.namespace.clone(),
            pod: self.id.name.clone(),
            uid: self.id.uid.clone(),
            field_path,
        });
    }

    pub(super) fn sandbox(&self) -> Option<Arc<crate::runtime::PodSandbox>> {
        self.sandbox.clone()
    }
}
