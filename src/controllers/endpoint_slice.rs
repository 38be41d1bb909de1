//! EndpointSlices: which addresses stand behind a Service, and in what state they are.
//!
//! A terminating pod stays in its slice as `ready: false, serving: true` until it is gone, so that
//! a router can drain it; a pod on a silent node is `ready: false` because the node lifecycle
//! controller said so in the pod's own status. Services without a selector are left to whoever
//! writes their slices.

pub(super) mod endpoint;
mod plan;
mod selector_index;

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::runtime::{Controller, Counters, Key, Outcome, Queue, Source, Sources};
use super::{Context, Error, doing, path};
use crate::api::annotations::{MANAGED_BY, SERVICE_NAME};
use crate::api::selector::{Labels, Requirement};
use crate::registry::{Api, DeleteOptions};

use plan::Plan;
use selector_index::SelectorIndex;

const COMPONENT: &str = "endpointslice-controller";
/// The value of the label that marks the slices of this controller.
const MANAGER: &str = "endpointslice-controller.k8s.io";

struct EndpointSlices {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    pods: Api<Pod>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(EndpointSlices {
        services: ctx.api(COMPONENT),
        slices: ctx.api(COMPONENT),
        pods: ctx.api(COMPONENT),
    });
    let controller = Controller::new("endpointslice", ctx);
    controller.root(&mut sources.services, this.services.clone());
    follow_pods(&controller.queue, &mut sources.services, &mut sources.pods);
    controller.on(&mut sources.endpoint_slices, |slice: &EndpointSlice| {
        let meta = &slice.metadata;
        let service = meta
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME));
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        service
            .map(|service| Key::new(namespace, service))
            .into_iter()
            .collect()
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

/// Wakes the Services whose endpoints a pod's change may have changed.
pub(super) fn follow_pods(
    queue: &Arc<Queue>,
    services: &mut Source<Service>,
    pods: &mut Source<Pod>,
) {
    let index = Arc::new(SelectorIndex::default());
    let updated = Arc::clone(&index);
    services.subscribe(move |before, after| updated.update(before, after));
    let queue = Arc::clone(queue);
    pods.subscribe(move |before, after| {
        if !endpoint::is_changed(before, after) {
            return;
        }
        for pod in before.into_iter().chain(after) {
            index
                .services_of(&pod.metadata)
                .for_each(|key| queue.add(key));
        }
    });
}

/// The pods that a Service selects; `None` if it has no selector or is a mere name.
pub(super) fn selected_pods(
    pods: &Api<Pod>,
    service: &Service,
) -> Result<Option<Vec<Arc<Pod>>>, Error> {
    let spec = service.spec.as_ref();
    let is_name = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    let Some(selector) = selector.filter(|selector| !is_name && !selector.is_empty()) else {
        return Ok(None);
    };
    pods.list_selected(
        service.metadata.namespace.as_deref(),
        &Labels::from_map(selector),
    )
    .map(Some)
    .map_err(doing("list the pods of", path(&service.metadata)))
}

impl EndpointSlices {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.services.try_get(&key.namespace, &key.name);
        let Some(service) = found.map_err(doing("get", key.to_string()))? else {
            // The garbage collector takes the slices: they name the Service as their owner.
            return Ok(Outcome::Done);
        };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let Some(pods) = selected_pods(&self.pods, &service)? else {
            return Ok(Outcome::Done);
        };
        let mine = Labels(vec![
            Requirement::In(SERVICE_NAME.to_owned(), vec![key.name.clone()]),
            Requirement::In(MANAGED_BY.to_owned(), vec![MANAGER.to_owned()]),
        ]);
        let slices = self
            .slices
            .list_selected(Some(&key.namespace), &mine)
            .map_err(doing("list the slices of", key.to_string()))?;
        let groups = endpoint::groups(&service, &pods);
        self.apply(&key.namespace, plan::plan(&service, &slices, groups))
            .await?;
        Ok(Outcome::Done)
    }

    /// New endpoints are announced before old slices go, so that a Service in use is never empty.
    async fn apply(&self, namespace: &str, plan: Plan) -> Result<(), Error> {
        let creations = plan.create.iter().map(|slice| async move {
            let created = self.slices.create(namespace, slice).await;
            created.map_err(doing("create a slice of", path(&slice.metadata)))
        });
        let updates = plan.update.iter().map(|slice| async move {
            let updated = self.slices.update(namespace, slice).await;
            updated.map_err(doing("update", path(&slice.metadata)))
        });
        futures::try_join!(try_join_all(creations), try_join_all(updates))?;
        let deletions = plan.delete.iter().map(|slice| async move {
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            let options = DeleteOptions {
                uid: slice.metadata.uid.clone(),
                ..DeleteOptions::default()
            };
            let deleted = self.slices.delete(namespace, name, &options).await;
            deleted.map_err(doing("delete", path(&slice.metadata)))
        });
        try_join_all(deletions).await?;
        Ok(())
    }
}
