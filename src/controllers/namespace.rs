//! Namespaces: a deleted one goes when everything in it has gone.
//!
//! ```text
//!  Active ── delete ──► Terminating ── content asked to go, pass after pass ──► empty
//!                           ▲   │ something remains: say what, look again          │
//!                           └───┘                         `kubernetes` finalizer removed
//! ```
//!
//! The kinds come from the registry's table, so a kind that is added later is deleted too.
//! Admission refuses new objects in a terminating namespace, hence the content only shrinks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus, Pod};
use serde_json::Value;

use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing};
use crate::api::condition::{self, Status};
use crate::api::object;
use crate::errors;
use crate::registry::{
    Api, Caller, DeleteOptions, ListOptions, Propagation, ResourceInfo, WriteOptions,
};

const COMPONENT: &str = "namespace-controller";
const FINALIZER: &str = "kubernetes";
/// What remains mostly waits for workers, whose pods' end wakes this controller anyway.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

struct Namespaces {
    ctx: Context,
    api: Api<Namespace>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(Namespaces {
        ctx: ctx.clone(),
        api: ctx.api(COMPONENT),
    });
    let controller = Controller::new("namespace", ctx);
    controller.root(&mut sources.namespaces, this.api.clone());
    let queue = Arc::clone(&controller.queue);
    sources.pods.subscribe(move |before: Option<&Pod>, after| {
        if let (Some(pod), None) = (before, after) {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            queue.add(Key::new("", namespace));
        }
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

/// What a pass over the content found.
#[derive(Debug, Default)]
struct Content {
    /// How many objects remain, by resource.
    remaining: BTreeMap<String, usize>,
    /// How many of them wait for which finalizer.
    finalizers: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Content {
    fn is_gone(&self) -> bool {
        self.remaining.is_empty() && self.failures.is_empty()
    }
}

impl Namespaces {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get("", &key.name);
        let Some(namespace) = found.map_err(doing("get", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        if namespace.metadata.deletion_timestamp.is_none() || !has_finalizer(&namespace) {
            return Ok(Outcome::Done);
        }
        let content = self.delete_content(&key.name).await;
        let status = status(&namespace, &content, self.ctx.clock.now());
        let mut current = namespace.as_ref().clone();
        if namespace.status.as_ref() != Some(&status) {
            current.status = Some(status);
            current = self
                .api
                .update_status("", &current)
                .await
                .map_err(doing("write the status of", key.to_string()))?
                .as_ref()
                .clone();
        }
        if !content.is_gone() {
            return Ok(Outcome::RequeueAfter(LOOK_AGAIN));
        }
        self.finalize(current).await?;
        Ok(Outcome::Done)
    }

    /// Asks everything in the namespace to go, and counts what is still there. A failure for one
    /// kind is told and keeps the namespace, and the others go on.
    async fn delete_content(&self, namespace: &str) -> Content {
        let mut content = Content::default();
        for resource in self.ctx.registry.stored_kinds() {
            if resource.namespaced
                && let Err(error) = self.delete_kind(resource, namespace, &mut content).await
            {
                content
                    .failures
                    .push(format!("{}: {}", name_of(resource), errors::chain(&error)));
            }
        }
        content
    }

    async fn delete_kind(
        &self,
        resource: &'static ResourceInfo,
        namespace: &str,
        content: &mut Content,
    ) -> Result<(), crate::registry::Error> {
        let all = ListOptions::default();
        let registry = &self.ctx.registry;
        if registry
            .list(resource, Some(namespace), &all)
            .await?
            .items
            .is_empty()
        {
            return Ok(());
        }
        let options = DeleteOptions {
            propagation_policy: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        let caller = Caller::system(COMPONENT);
        registry
            .delete_collection(resource, Some(namespace), &all, &options, &caller)
            .await?;
        let remaining = registry.list(resource, Some(namespace), &all).await?.items;
        if !remaining.is_empty() {
            content.remaining.insert(name_of(resource), remaining.len());
        }
        for stored in &remaining {
            let finalizers = object::at(&stored.object, &["metadata", "finalizers"]);
            for finalizer in finalizers.and_then(Value::as_array).into_iter().flatten() {
                let name = finalizer.as_str().unwrap_or_default().to_owned();
                *content.finalizers.entry(name).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Gives the namespace up; the registry removes it once no finalizer is left.
    async fn finalize(&self, mut namespace: Namespace) -> Result<(), Error> {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        if let Some(spec) = &mut namespace.spec {
            let finalizers = spec.finalizers.take().unwrap_or_default();
            let others: Vec<String> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
            spec.finalizers = Some(others);
        }
        let encoded = serde_json::to_value(&namespace).map_err(|source| Error::Encode {
            object: name.clone(),
            source,
        })?;
        let registry = &self.ctx.registry;
        let Some(resource) = registry.find("", "v1", "namespaces") else {
            return Err(Error::Incomplete(
                "the registry has no namespaces".to_owned(),
            ));
        };
        registry
            .update(
                resource,
                None,
                &name,
                Some("finalize"),
                encoded,
                &WriteOptions::default(),
                &Caller::system(COMPONENT),
            )
            .await
            .map(|_| ())
            .map_err(doing("finalize", name))
    }
}

fn name_of(resource: &ResourceInfo) -> String {
    if resource.group.is_empty() {
        format!("{}.", resource.plural)
    } else {
        format!("{}.{}", resource.plural, resource.group)
    }
}

fn has_finalizer(namespace: &Namespace) -> bool {
    let spec = namespace.spec.as_ref();
    let finalizers = spec.and_then(|spec| spec.finalizers.as_ref());
    finalizers
        .into_iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER)
}

/// Kubernetes' conditions of a terminating namespace.
fn status(namespace: &Namespace, content: &Content, now: Timestamp) -> NamespaceStatus {
    let old = namespace.status.clone().unwrap_or_default();
    let mut conditions: Vec<NamespaceCondition> = old.conditions.unwrap_or_default();
    let mut say = |kind: &str, found: bool, reasons: (&str, &str), text: String, well: &str| {
        let reason = if found { reasons.0 } else { reasons.1 };
        let text = if found { text } else { well.to_owned() };
        condition::set(
            &mut conditions,
            kind,
            Status::from(found),
            (reason, &text),
            now,
        );
    };
    let counted = |counts: &BTreeMap<String, usize>, verb: &str| -> String {
        let parts: Vec<String> = counts
            .iter()
            .map(|(name, count)| format!("{name} {verb} {count} resource instances"))
            .collect();
        parts.join(", ")
    };
    say(
        "NamespaceDeletionDiscoveryFailure",
        false,
        ("DiscoveryFailed", "ResourcesDiscovered"),
        String::new(),
        "All resources successfully discovered",
    );
    say(
        "NamespaceDeletionContentFailure",
        !content.failures.is_empty(),
        ("ContentDeletionFailed", "ContentDeleted"),
        format!(
            "Failed to delete all resource types, {} remaining: {}",
            content.failures.len(),
            content.failures.join(", ")
        ),
        "All content successfully deleted, may be waiting on finalization",
    );
    say(
        "NamespaceContentRemaining",
        !content.remaining.is_empty(),
        ("SomeResourcesRemain", "ContentRemoved"),
        format!(
            "Some resources are remaining: {}",
            counted(&content.remaining, "has")
        ),
        "All content successfully removed",
    );
    say(
        "NamespaceFinalizersRemaining",
        !content.finalizers.is_empty(),
        ("SomeFinalizersRemain", "ContentHasNoFinalizers"),
        format!(
            "Some content in the namespace has finalizers remaining: {}",
            counted(&content.finalizers, "in")
        ),
        "All content-preserving finalizers finished",
    );
    NamespaceStatus {
        phase: Some("Terminating".to_owned()),
        conditions: Some(conditions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_what_keeps_the_namespace() {
        let now = Timestamp::UNIX_EPOCH;
        let mut namespace = Namespace::default();
        let content = Content {
            remaining: BTreeMap::from([("pods.".to_owned(), 3)]),
            finalizers: BTreeMap::from([("example.com/keep".to_owned(), 1)]),
            failures: Vec::new(),
        };
        let first = status(&namespace, &content, now);
        let conditions = first.conditions.as_deref().unwrap();
        let remaining = condition::find(conditions, "NamespaceContentRemaining").unwrap();
        assert_eq!(
            remaining.message.as_deref(),
            Some("Some resources are remaining: pods. has 3 resource instances")
        );
        assert!(condition::is_true(
            conditions,
            "NamespaceFinalizersRemaining"
        ));
        assert!(!condition::is_true(
            conditions,
            "NamespaceDeletionContentFailure"
        ));
        namespace.status = Some(first.clone());
        assert_eq!(
            status(&namespace, &content, now),
            first,
            "nothing new, nothing written"
        );
        assert!(!content.is_gone() && Content::default().is_gone());
    }
}
