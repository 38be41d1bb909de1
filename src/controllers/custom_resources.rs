//! Definitions of custom resources: accepts their names, so that the kind is served, and on deletion
//! removes the objects first.
//!
//! ```text
//!  created ─ names free ─► NamesAccepted, Established ─ deleted ─► Terminating ─ objects gone ─► gone
//!          └ taken ──────► NamesAccepted=False, until whoever has them goes
//! ```
//!
//! One definition is looked at at a time: two that want the same name must not both get it. What is
//! served is read off the definition by the registry; nothing is told to anybody.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::runtime::{Controller, Counters, Key, Outcome, Queue};
use super::{Context, Error, doing};
use crate::errors;
use crate::registry;
use crate::registry::{Api, Caller, DeleteOptions, Event, ListOptions, Propagation, WatchOptions};

const COMPONENT: &str = "apiextensions-controller";
/// Objects that remain wait for finalizers; whoever removes them does not wake this controller.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

struct Definitions {
    ctx: Context,
    api: Api<CustomResourceDefinition>,
    queue: Arc<Queue>,
}

pub(super) fn start(ctx: &Context) -> (&'static str, Arc<Counters>) {
    let controller = Controller::new("customresources", ctx).single();
    let this = Arc::new(Definitions {
        ctx: ctx.clone(),
        api: ctx.api(COMPONENT),
        queue: Arc::clone(&controller.queue),
    });
    let resync = Arc::clone(&this);
    controller.every(ctx.config.resync, move || {
        let all = resync.ctx.registry.definitions();
        Ok(all
            .iter()
            .map(|stored| Key::new("", &stored.key.name))
            .collect())
    });
    let watching = Arc::clone(&this);
    let cancelled = ctx.tasks.cancelled();
    ctx.tasks.spawn("customresources", async move {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = watching.run() => {}
        }
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl Definitions {
    /// Wakes what changes. Of its own, without the shared watches, which would keep every schema
    /// decoded.
    async fn run(&self) {
        while let Err(error) = self.watch().await {
            tracing::warn!(error = %errors::chain(&error), "watch definitions again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn watch(&self) -> Result<(), registry::Error> {
        let registry = &self.ctx.registry;
        let found = registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let Some(row) = found else {
            return Ok(());
        };
        let mut events = registry.watch(row, None, &WatchOptions::default()).await?;
        while let Some(event) = events.next().await {
            match event? {
                Event::Added(stored) | Event::Modified(stored) => {
                    self.queue.add(Key::new("", &stored.key.name));
                }
                // Its names may be what another of its group waits for.
                Event::Deleted(stored) => {
                    let group = &stored.object["spec"]["group"];
                    for other in registry.definitions() {
                        if other.object["spec"]["group"] == *group {
                            self.queue.add(Key::new("", &other.key.name));
                        }
                    }
                }
                Event::Bookmark { .. } => {}
            }
        }
        Ok(())
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get("", &key.name);
        let Some(definition) = found.map_err(doing("get", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        if definition.metadata.deletion_timestamp.is_some() {
            return self.clean_up(key, &definition).await;
        }
        let all = self.ctx.registry.definitions();
        let others = all
            .iter()
            .filter(|stored| *stored.key.name != *key.name)
            .map(|stored| &stored.object);
        let built_in = self.ctx.registry.resources();
        let taken = plan::taken(&definition.spec.group, others, &built_in);
        if let Some(status) = plan::plan(&definition, &taken, self.ctx.clock.now()) {
            let mut updated = definition.as_ref().clone();
            updated.status = Some(status);
            let result = self.api.update_status("", &updated).await;
            result.map_err(doing("write the status of", key.to_string()))?;
        }
        Ok(Outcome::Done)
    }

    /// Removes the objects of a kind that goes, then lets the definition go.
    async fn clean_up(
        &self,
        key: &Key,
        definition: &CustomResourceDefinition,
    ) -> Result<Outcome, Error> {
        if !plan::waits_for_objects(definition) {
            return Ok(Outcome::Done);
        }
        let registry = &self.ctx.registry;
        if let Some(row) = registry.any_row(&key.name) {
            let all = ListOptions::default();
            let options = DeleteOptions {
                propagation_policy: Some(Propagation::Background),
                ..DeleteOptions::default()
            };
            let caller = Caller::system(COMPONENT);
            registry
                .delete_collection(row, None, &all, &options, &caller)
                .await
                .map_err(doing("delete the objects of", key.to_string()))?;
            if registry.store().count(row.storage) > 0 {
                return Ok(Outcome::RequeueAfter(LOOK_AGAIN));
            }
        }
        let updated = plan::released(definition);
        let result = self.api.update("", &updated).await;
        result.map_err(doing("remove the finalizer of", key.to_string()))?;
        Ok(Outcome::Done)
    }
}
