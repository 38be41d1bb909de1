//! From a pulled image to a running container: environment, spec, start.

use std::sync::Arc;

use futures::FutureExt as _;

use super::{Done, PodWorker};
use crate::errors::chain;
use crate::runtime::spec::ContainerSpec;
use crate::runtime::{self, Artifact, ContainerHandle, PodSandbox};
use crate::worker::env;
use crate::worker::exec::Tap;
use crate::worker::expand::Budget;
use crate::worker::fields::Subject;
use crate::worker::lifecycle::{Event, StartFailure};
use crate::worker::objects::{self, Objects, References};
use crate::worker::plan::{self, PodPlan};
use crate::worker::specs;

/// A container that is being started.
pub(super) struct Starting {
    container: usize,
    incarnation: u32,
    tap: Arc<Tap>,
}

type Prepared = (Starting, Arc<PodSandbox>, ContainerSpec, Arc<Artifact>);

impl PodWorker {
    /// Starts at once if nothing has to be fetched first.
    pub(super) fn start(&mut self, container: usize, incarnation: u32) {
        let mut references = References::new();
        if let Some(spec) = self.container(container) {
            env::references(&spec, &mut references);
        }
        let needs_services = self.wants_service_links() && !self.context.network.is_synced();
        let needs_policies = !self.context.policies.is_synced();
        if references.is_empty() && !needs_services && !needs_policies {
            return self.start_with(container, incarnation, Ok(Objects::default()));
        }
        let context = Arc::clone(&self.context);
        let namespace = self.id.namespace.clone();
        let fetching = async move {
            if needs_services {
                context.network.synced().await;
            }
            context.policies.synced().await;
            let objects = context.objects.get(&namespace, &references).await;
            Done::EnvReady {
                container,
                incarnation,
                objects,
            }
        };
        self.work.push(fetching.boxed());
    }

    pub(super) fn start_with(
        &mut self,
        container: usize,
        incarnation: u32,
        objects: Result<Objects, objects::Error>,
    ) {
        let prepared = objects
            .map_err(|error| StartFailure::Config(chain(&error).to_string()))
            .and_then(|objects| self.prepare_start(container, incarnation, &objects));
        let (starting, sandbox, spec, artifact) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return self.start_ended(container, incarnation, Err(failure)),
        };
        let log = Arc::clone(&starting.tap) as _;
        if !sandbox.waits_for_disk(&spec) {
            let result = sandbox.start(spec, artifact, log);
            return self.was_started(starting, result);
        }
        let start = sandbox.start_on_disk(spec, artifact, log);
        let running = async move {
            let result = start.await;
            Done::Started { starting, result }
        };
        self.work.push(running.boxed());
    }

    /// A container runs from now on, or does not.
    pub(super) fn was_started(
        &mut self,
        starting: Starting,
        result: Result<ContainerHandle, runtime::Error>,
    ) {
        let Starting {
            container,
            incarnation,
            tap,
        } = starting;
        let result = result.map_err(|error| {
            let message = chain(&error).to_string();
            match error {
                runtime::Error::Full(_) => StartFailure::Full(message),
                _ => StartFailure::Run(message),
            }
        });
        let result = result.map(|handle| {
            let name = &self.lifecycle.plan().containers[container].name;
            self.context.taps.put(&self.id.uid, name, tap);
            self.handle(container, incarnation, handle);
        });
        self.start_ended(container, incarnation, result);
    }

    fn start_ended(
        &mut self,
        container: usize,
        incarnation: u32,
        result: Result<(), StartFailure>,
    ) {
        if result.is_ok() {
            let name = &self.lifecycle.plan().containers[container].name;
            let (created, started) = (
                format!("Created container: {name}"),
                format!("Started container {name}"),
            );
            self.record(false, "Created", created, Some(container));
            self.record(false, "Started", started, Some(container));
        }
        self.queue.push_back(Event::Started {
            container,
            incarnation,
            result,
        });
    }

    /// Takes ephemeral containers in that the spec has now.
    pub(super) fn extend(&mut self) {
        let known = self.lifecycle.containers().len();
        let Some(spec) = self.pod.spec.as_ref().filter(|_| known > 0) else {
            return;
        };
        if plan::containers(spec).count() <= known {
            return;
        }
        match PodPlan::of(&self.pod) {
            Ok(plan) => {
                self.images.resize(plan.containers.len(), None);
                self.handles.resize(plan.containers.len(), None);
                self.queue.push_back(Event::Extended(Arc::new(plan)));
            }
            Err(error) => {
                let message = chain(&error).to_string();
                self.record(true, "UnsupportedPod", message, None);
            }
        }
    }

    fn prepare_start(
        &self,
        index: usize,
        incarnation: u32,
        objects: &Objects,
    ) -> Result<Prepared, StartFailure> {
        let config = |error: &(dyn std::error::Error + 'static)| {
            StartFailure::Config(chain(error).to_string())
        };
        let run = |text: &str| StartFailure::Run(text.to_owned());
        let container = self
            .container(index)
            .ok_or_else(|| run("no such container"))?;
        let sandbox = self
            .sandbox()
            .ok_or_else(|| run("the pod has no sandbox"))?;
        let image = self.images[index].clone().ok_or_else(|| run("no image"))?;
        let pod_ip = self.ip.ok_or_else(|| run("the pod has no address"))?;
        let subject = Subject {
            pod: &self.pod,
            pod_ip,
            host_ip: self.context.host_ip,
            allocatable: &self.context.allocatable,
        };
        let services = if self.wants_service_links() {
            self.context.network.service_links(&self.id.namespace)
        } else {
            Vec::new()
        };
        let mut budget = Budget::default();
        let mut env = env::build(&container, &subject, objects, &services, &mut budget)
            .map_err(|it| config(&it))?;
        let (name, value) = runtime::term_file_variable(&container.name);
        env.put(name, value);
        let module = &self.lifecycle.plan().containers[index].image.name;
        let spec = specs::container(&self.pod, &container, module, env, budget)
            .map_err(|it| config(&it))?;
        let log = self.context.logs.open(&self.log_id(index), incarnation);
        let starting = Starting {
            container: index,
            incarnation,
            tap: Tap::new(log),
        };
        Ok((starting, sandbox, spec, image.artifact))
    }

    fn wants_service_links(&self) -> bool {
        let spec = self.pod.spec.as_ref();
        spec.and_then(|spec| spec.enable_service_links) != Some(false)
    }
}
