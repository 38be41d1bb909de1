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

use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing};
use crate::registry::{Api, Caller, DeleteOptions, ListOptions, Propagation};

const COMPONENT: &str = "apiextensions-controller";
/// Objects that remain wait for finalizers; whoever removes them does not wake this controller.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

struct Definitions {
    ctx: Context,
    api: Api<CustomResourceDefinition>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(Definitions {
        ctx: ctx.clone(),
        api: ctx.api(COMPONENT),
    });
    let controller = Controller::new("customresources", ctx).single();
    let source = &mut sources.custom_resource_definitions;
    controller.root(source, this.api.clone());
    // A definition that goes may free the names that another waits for.
    let others = Arc::clone(&this);
    controller.on(source, move |definition: &CustomResourceDefinition| {
        if definition.metadata.deletion_timestamp.is_none() {
            return Vec::new();
        }
        let all = others.api.list(None).unwrap_or_default();
        let of_group = all
            .iter()
            .filter(|other| other.spec.group == definition.spec.group);
        of_group.map(|other| Key::of(&other.metadata)).collect()
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl Definitions {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get("", &key.name);
        let Some(definition) = found.map_err(doing("get", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        if definition.metadata.deletion_timestamp.is_some() {
            return self.clean_up(key, &definition).await;
        }
        let all = self.api.list(None);
        let all = all.map_err(doing("list", "definitions"))?;
        let built_in = self.ctx.registry.resources();
        let taken = plan::taken(&definition, &all, &built_in);
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
