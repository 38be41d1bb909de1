//! Making pods from a template and removing them, for every workload controller alike.
//!
//! Creation goes in slow-start batches of 1, 2, 4, … pods: if the first is refused (quota, a wrong
//! template), one request was wasted and not a thousand. The pods of one batch are asked for at
//! the same time, so that the store commits them together.

use std::future::Future;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::events::{Notice, Recorder};
use crate::api::owner;
use crate::errors;
use crate::registry;
use crate::registry::{Api, ApiKind, DeleteOptions};

/// No batch is larger; a larger one would hold the writer too long at a time.
const LARGEST_BATCH: usize = 512;

/// The pod that `owner` makes of its template.
pub(super) fn from_template<O: ApiKind>(template: &PodTemplateSpec, owner: &ObjectMeta) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name.as_deref().unwrap_or_default())),
            namespace: owner.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner::controller_reference::<O>(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// What came of a series of writes: how many succeeded, and the first failure.
pub(super) struct Series<T> {
    pub(super) done: Vec<T>,
    pub(super) failed: Option<registry::Error>,
}

impl Series<Arc<Pod>> {
    /// Tells of the pods that were made, and why no more were; returns that.
    pub(super) fn tell_created<O: ApiKind>(
        self,
        recorder: &Recorder,
        owner: &O,
    ) -> Option<registry::Error> {
        for pod in self.done {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Created pod: {name}");
            recorder.event(owner, Notice::normal("SuccessfulCreate", message));
        }
        if let Some(error) = &self.failed {
            let message = format!("Error creating: {}", errors::chain(error));
            recorder.event(owner, Notice::warning("FailedCreate", message));
        }
        self.failed
    }
}

impl Series<usize> {
    /// Tells which of `victims` were deleted, and why no more were; returns that.
    pub(super) fn tell_deleted<O: ApiKind>(
        self,
        recorder: &Recorder,
        owner: &O,
        victims: &[&Pod],
    ) -> Option<registry::Error> {
        for pod in self.done.into_iter().filter_map(|index| victims.get(index)) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Deleted pod: {name}");
            recorder.event(owner, Notice::normal("SuccessfulDelete", message));
        }
        if let Some(error) = &self.failed {
            let message = format!("Error deleting: {}", errors::chain(error));
            recorder.event(owner, Notice::warning("FailedDelete", message));
        }
        self.failed
    }
}

/// Calls `create` up to `count` times in batches of 1, 2, 4, …; stops after a batch with a failure.
pub(super) async fn slow_start<T, F, Fut>(count: usize, create: F) -> Series<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, registry::Error>>,
{
    let mut series = Series {
        done: Vec::with_capacity(count),
        failed: None,
    };
    let mut batch = 1;
    while series.done.len() < count && series.failed.is_none() {
        let size = batch.min(count - series.done.len());
        for result in join_all((0..size).map(|_| create())).await {
            match result {
                Ok(made) => series.done.push(made),
                Err(error) => {
                    series.failed.get_or_insert(error);
                }
            }
        }
        batch = (batch * 2).min(LARGEST_BATCH);
    }
    series
}

/// Asks for the deletion of pods, each with a precondition on its uid; one that is gone already is
/// as good as deleted.
pub(super) async fn delete_all(api: &Api<Pod>, namespace: &str, pods: &[&Pod]) -> Series<usize> {
    let requests = pods.iter().map(|pod| {
        let options = DeleteOptions {
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        async move { api.delete(namespace, &name, &options).await }
    });
    let mut series = Series {
        done: Vec::with_capacity(pods.len()),
        failed: None,
    };
    for (index, result) in join_all(requests).await.into_iter().enumerate() {
        match result {
            Ok(()) => series.done.push(index),
            Err(registry::Error::NotFound { .. } | registry::Error::Conflict { .. }) => {}
            Err(error) => {
                series.failed.get_or_insert(error);
            }
        }
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    async fn attempts(count: usize, capacity: usize) -> (usize, usize) {
        let tried = Cell::new(0);
        let series = slow_start(count, || {
            tried.set(tried.get() + 1);
            let accepted = tried.get() <= capacity;
            async move {
                if accepted {
                    Ok(())
                } else {
                    Err(registry::Error::BadRequest("quota".into()))
                }
            }
        })
        .await;
        (series.done.len(), tried.get())
    }

    #[tokio::test]
    async fn a_refused_template_costs_one_attempt_and_a_good_one_is_created_whole() {
        assert_eq!(attempts(1000, 0).await, (0, 1));
        assert_eq!(attempts(1000, usize::MAX).await, (1000, 1000));
        assert_eq!(attempts(0, usize::MAX).await, (0, 0));
        let (made, tried) = attempts(1000, 10).await;
        assert_eq!((made, tried), (10, 15));
    }
}
