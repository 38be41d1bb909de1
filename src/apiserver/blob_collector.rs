//! Removes the blobs that no object names any more.
//!
//! The one loop of this room, because only here modules and the registry are both known. Deleting a
//! `Module` deletes an object; its bytes go later, when no pod is pinned to them either.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::api::image::{Digest, ImageRef};
use crate::api::module::Module;
use crate::errors;
use crate::modules::Blobs;
use crate::registry::{self, Caller, Registry};

/// Every blob that the cluster still names: versions of modules, and digests pinned in pods.
///
/// One object that cannot be read makes the whole answer an error: a shorter list would collect
/// blobs that are in use. (A digest or an image that does not parse names no blob.)
fn referenced(registry: &Registry) -> Result<BTreeSet<Digest>, registry::Error> {
    let caller = Caller::system("blob-collector");
    let mut digests = BTreeSet::new();
    for module in registry.api::<Module>(caller.clone()).list(None)? {
        digests.extend(
            module
                .spec
                .versions
                .iter()
                .filter_map(|version| version.digest.parse().ok()),
        );
    }
    for pod in registry.api::<Pod>(caller).list(None)? {
        let Some(spec) = &pod.spec else { continue };
        let containers = spec.containers.iter();
        let containers = containers.chain(spec.init_containers.iter().flatten());
        let debugging = spec.ephemeral_containers.iter().flatten();
        let images = containers
            .map(|container| &container.image)
            .chain(debugging.map(|container| &container.image));
        digests.extend(
            images
                .filter_map(|image| image.as_deref()?.parse::<ImageRef>().ok())
                .filter_map(|image| image.digest),
        );
    }
    Ok(digests)
}

/// Collects unreferenced blobs every `period`; runs until cancelled.
pub async fn collect_blobs(
    registry: Registry,
    blobs: Blobs,
    (period, grace): (Duration, Duration),
) {
    loop {
        tokio::time::sleep(period).await;
        let now: Timestamp = registry.clock().now();
        let referenced = match referenced(&registry) {
            Ok(referenced) => referenced,
            Err(error) => {
                tracing::error!(error = %errors::chain(&error), "cannot tell which blobs are in use; none is collected");
                continue;
            }
        };
        let blobs = blobs.clone();
        let collected =
            tokio::task::spawn_blocking(move || blobs.collect(&referenced, grace, now)).await;
        match collected {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::info!(count, "collected blobs that nothing refers to"),
            Ok(Err(error)) => {
                tracing::warn!(error = %errors::chain(&error), "cannot collect blobs");
            }
        }
    }
}
