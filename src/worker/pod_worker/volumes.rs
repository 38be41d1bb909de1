//! The pod's sandbox and its volumes: made once, and kept like the objects they come from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;

use super::{Done, PodWorker, volume_specs};
use crate::api::storage;
use crate::errors::chain;
use crate::runtime::PodSandbox;
use crate::runtime::spec::{PodSandboxSpec, ProjectedFile};
use crate::worker::claims::{self, Claims};
use crate::worker::context::Context;
use crate::worker::fields::Subject;
use crate::worker::lifecycle::{Event, Stage};
use crate::worker::object_changes::Following;
use crate::worker::objects::{self, Objects, References};
use crate::worker::{specs, tokens};

/// Between two words about the same pod's limits.
const WORD: Duration = Duration::from_secs(30);

/// A sandbox as it was made, and the files in its volumes.
pub(super) struct Sandbox {
    sandbox: Arc<PodSandbox>,
    files: Files,
}

type Files = Vec<(String, Vec<ProjectedFile>)>;

/// Why a pod's volumes cannot be filled now.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Object(#[from] objects::Error),
    #[error(transparent)]
    Token(#[from] tokens::Error),
}

/// What the pod's volumes show: objects of its namespace, and tokens of its own.
async fn fetch(
    context: &Context,
    pod: &Pod,
    namespace: &str,
    references: &References,
) -> Result<Objects, FetchError> {
    let mut objects = context.objects.get(namespace, references).await?;
    objects.tokens = context.tokens.get(pod).await?;
    Ok(objects)
}

impl PodWorker {
    /// Makes the sandbox at once if nothing has to be waited for.
    pub(super) fn prepare(&mut self) {
        let references = volume_specs::references(&self.pod);
        let has_claims = storage::claims_of(&self.pod).next().is_some();
        let has_tokens = !tokens::references(&self.pod).is_empty();
        let needs_nothing = references.is_empty() && !has_claims && !has_tokens;
        if needs_nothing && self.context.addresses.is_ready() {
            return self.create_sandbox(Ok((Objects::default(), Claims::new())));
        }
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        let namespace = self.id.namespace.clone();
        // Followed before they are fetched, so that no change falls in between.
        if self.following.is_none() && !references.is_empty() {
            let following = context
                .object_changes
                .follow(&namespace, references.clone());
            self.following = Some(following);
        }
        let preparing = async move {
            context.addresses.ready().await;
            let objects = match fetch(&context, &pod, &namespace, &references).await {
                Ok(objects) => objects,
                Err(error) => return Done::Prepared(Err(chain(&error).to_string())),
            };
            let (client, runtime) = (&context.client, &context.runtime);
            let claims = claims::resolve(client, runtime, &context.places, &pod).await;
            let claims = claims.map_err(|error| chain(&error).to_string());
            Done::Prepared(claims.map(|claims| (objects, claims)))
        };
        self.work.push(preparing.boxed());
    }

    pub(super) fn create_sandbox(&mut self, found: Result<(Objects, Claims), String>) {
        // The pod may have been deleted while its objects were fetched.
        if !matches!(self.lifecycle.stage(), Stage::Preparing { .. }) {
            return;
        }
        let (spec, files) = match self.describe_sandbox(found) {
            Ok(described) => described,
            Err(failure) => return self.sandbox_made(Err(failure)),
        };
        let make = {
            let runtime = self.context.runtime.clone();
            let waits = spec.waits_for_disk();
            let make = move || {
                let made = runtime.create_sandbox(spec);
                made.map_err(|error| ("FailedCreatePodSandBox", chain(&error).to_string()))
            };
            if !waits {
                let made = make().map(|sandbox| Sandbox { sandbox, files });
                return self.sandbox_made(made);
            }
            tokio::task::spawn_blocking(make)
        };
        let making = async move {
            let ending = || ("FailedCreatePodSandBox", "the worker ends".to_owned());
            let made = make.await.map_err(|_| ending()).flatten();
            Done::Made(made.map(|sandbox| Sandbox { sandbox, files }))
        };
        self.work.push(making.boxed());
    }

    /// The pod has its sandbox from now on, or has none.
    pub(super) fn sandbox_made(&mut self, made: Result<Sandbox, (&'static str, String)>) {
        // It may have been deleted while a disk was waited for; the sandbox ends with `made`.
        if !matches!(self.lifecycle.stage(), Stage::Preparing { .. }) {
            return;
        }
        let event = match made {
            Ok(Sandbox { sandbox, files }) => {
                self.context.policies.attach(&self.pod, sandbox.net());
                self.sandbox = Some(sandbox);
                self.files = files;
                self.publish_view();
                if std::mem::take(&mut self.is_stale) {
                    self.refresh();
                }
                Event::SandboxReady
            }
            Err((reason, message)) => Event::SandboxFailed { reason, message },
        };
        self.queue.push_back(event);
    }

    fn describe_sandbox(
        &mut self,
        found: Result<(Objects, Claims), String>,
    ) -> Result<(PodSandboxSpec, Files), (&'static str, String)> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            ("FailedCreatePodSandBox", chain(error).to_string())
        };
        let (objects, claims) = found.map_err(|message| ("FailedMount", message))?;
        let allocated = self.context.addresses.allocate(&self.id.uid);
        let ip = match allocated {
            Some(allocated) => allocated.map_err(|error| failed(&error))?,
            None => {
                return Err((
                    "FailedCreatePodSandBox",
                    "the node has no podCIDR".to_owned(),
                ));
            }
        };
        let subject = Subject {
            pod: &self.pod,
            pod_ip: ip,
            host_ip: self.context.host_ip,
            allocatable: &self.context.allocatable,
        };
        let allowed = &self.context.places.allowed;
        let mount = |error: volume_specs::Error| ("FailedMount", chain(&error).to_string());
        let built = volume_specs::build(&subject, &objects, &claims, allowed).map_err(mount)?;
        let files = volume_specs::files(&subject, &objects).map_err(mount)?;
        self.ip = Some(ip);
        Ok((specs::sandbox(&self.pod, ip, built), files))
    }

    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty() && self.sandbox.is_some()
    }

    /// Compares the volumes with their objects, which are fetched again.
    pub(super) fn refresh(&mut self) {
        // What is being fetched now may be of before the change.
        if self.is_refreshing || self.sandbox.is_none() {
            self.is_stale = true;
            return;
        }
        if self.files.is_empty() {
            return;
        }
        let references = volume_specs::references(&self.pod);
        if references.is_empty() && tokens::references(&self.pod).is_empty() {
            return self.replace_files(Ok(Objects::default()));
        }
        self.is_refreshing = true;
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        let namespace = self.id.namespace.clone();
        let fetching =
            async move { Done::Refreshed(fetch(&context, &pod, &namespace, &references).await) };
        self.work.push(fetching.boxed());
    }

    pub(super) fn refreshed(&mut self, objects: Result<Objects, FetchError>) {
        self.is_refreshing = false;
        self.replace_files(objects);
        if std::mem::take(&mut self.is_stale) {
            self.refresh();
        }
    }

    /// Replaces the files of volumes whose objects changed; an object that went away changes
    /// nothing, as in Kubernetes.
    fn replace_files(&mut self, objects: Result<Objects, FetchError>) {
        let (Some(sandbox), Some(ip), Ok(objects)) = (self.sandbox(), self.ip, objects) else {
            return;
        };
        let subject = Subject {
            pod: &self.pod,
            pod_ip: ip,
            host_ip: self.context.host_ip,
            allocatable: &self.context.allocatable,
        };
        let Ok(latest) = volume_specs::files(&subject, &objects) else {
            return;
        };
        for (name, files) in &latest {
            let known = self.files.iter().any(|it| it.0 == *name && it.1 == *files);
            if known {
                continue;
            }
            if let Err(error) = sandbox.update_volume(name, files.clone()) {
                let message = format!("update volume `{name}`: {}", chain(&error));
                self.record(true, "FailedMount", message, None);
                return;
            }
        }
        self.files = latest;
    }
}

/// Resolves when an object that the pod shows has changed.
pub(super) async fn changed(following: &mut Option<Following>) {
    match following {
        Some(following) => following.changed().await,
        None => std::future::pending().await,
    }
}

/// Resolves when the pod's storage is full, at most once in a while: a guest may try for ever.
pub(super) async fn full(sandbox: Option<&Arc<PodSandbox>>, told: Option<Instant>) -> String {
    due(sandbox, told).await.storage_full().await
}

/// The same for every other limit.
pub(super) async fn limited(sandbox: Option<&Arc<PodSandbox>>, told: Option<Instant>) -> String {
    due(sandbox, told).await.limit_reached().await
}

async fn due(sandbox: Option<&Arc<PodSandbox>>, told: Option<Instant>) -> &Arc<PodSandbox> {
    let Some(sandbox) = sandbox else {
        return std::future::pending().await;
    };
    if let Some(told) = told {
        tokio::time::sleep_until((told + WORD).into()).await;
    }
    sandbox
}

/// Whether downward API volumes may show something else now.
pub(super) fn is_described_otherwise(before: &Pod, after: &Pod) -> bool {
    let (before, after) = (&before.metadata, &after.metadata);
    before.labels != after.labels || before.annotations != after.annotations
}
