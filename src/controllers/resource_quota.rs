//! What quotas say of themselves: `status.hard` follows the spec, `status.used` what is there.
//!
//! Only told here; kept at admission, by the same ledger. Pods, Services and claims wake a quota at
//! once; objects of other kinds, which nobody watches for this, are looked at every few seconds.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing};
use crate::registry::{Api, Registry};

const COMPONENT: &str = "resourcequota-controller";
const PERIOD: Duration = Duration::from_secs(5);

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let api: Api<ResourceQuota> = ctx.api(COMPONENT);
    let controller = Controller::new("resourcequota", ctx);
    controller.root(&mut sources.resource_quotas, api.clone());
    let all = api.clone();
    controller.every(PERIOD, move || {
        keys(&all, None).map_err(doing("list", "quotas"))
    });
    let of = |meta: &ObjectMeta, api: &Api<ResourceQuota>| {
        // An unreadable list wakes nobody; the periodic look does.
        keys(api, meta.namespace.as_deref()).unwrap_or_else(|error| {
            tracing::warn!(error = %crate::errors::chain(&error), "list quotas");
            Vec::new()
        })
    };
    let quotas = api.clone();
    controller.on(&mut sources.pods, move |pod: &Pod| {
        of(&pod.metadata, &quotas)
    });
    let quotas = api.clone();
    controller.on(&mut sources.services, move |service: &Service| {
        of(&service.metadata, &quotas)
    });
    let quotas = api.clone();
    controller.on(
        &mut sources.persistent_volume_claims,
        move |claim: &PersistentVolumeClaim| of(&claim.metadata, &quotas),
    );
    let registry = ctx.registry.clone();
    controller.start(move |key| {
        let (api, registry) = (api.clone(), registry.clone());
        async move { reconcile(&registry, &api, &key).await }
    })
}

fn keys(
    api: &Api<ResourceQuota>,
    namespace: Option<&str>,
) -> Result<Vec<Key>, crate::registry::Error> {
    let quotas = api.list(namespace)?;
    Ok(quotas
        .iter()
        .map(|quota| Key::of(&quota.metadata))
        .collect())
}

async fn reconcile(
    registry: &Registry,
    api: &Api<ResourceQuota>,
    key: &Key,
) -> Result<Outcome, Error> {
    let object = || key.to_string();
    let found = api.try_get(&key.namespace, &key.name);
    let Some(quota) = found.map_err(doing("get quota", object()))? else {
        return Ok(Outcome::Done);
    };
    let used = registry.quota_used(&key.namespace, &quota);
    let used = used.map_err(doing("count for quota", object()))?;
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone());
    let status = ResourceQuotaStatus {
        hard,
        used: Some(used),
    };
    if quota.status.as_ref() != Some(&status) {
        let mut updated = quota.as_ref().clone();
        updated.status = Some(status);
        let written = api.update_status(&key.namespace, &updated).await;
        written.map_err(doing("write the status of quota", object()))?;
    }
    Ok(Outcome::Done)
}
