//! Makes the namespaces of the system again when somebody has deleted them: nodes renew their leases
//! in one of them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;

use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, doing};
use crate::registry::SYSTEM_NAMESPACES;

/// Kubernetes' own period; a deletion is seen at once.
const PERIOD: Duration = Duration::from_mins(1);

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let controller = Controller::new("systemnamespaces", ctx).single();
    controller.on(&mut sources.namespaces, |namespace: &Namespace| {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let is_of_system = SYSTEM_NAMESPACES.contains(&name);
        is_of_system
            .then(|| Key::new("", name))
            .into_iter()
            .collect()
    });
    controller.every(PERIOD, || {
        Ok(SYSTEM_NAMESPACES.map(|name| Key::new("", name)).to_vec())
    });
    let registry = ctx.registry.clone();
    controller.start(move |key| {
        let registry = registry.clone();
        async move {
            let ensured = registry.ensure_namespace(&key.name).await;
            ensured.map_err(doing("create namespace", &key.name))?;
            Ok(Outcome::Done)
        }
    })
}
