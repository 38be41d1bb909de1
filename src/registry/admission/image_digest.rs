//! Pins the images of a pod: `hello:v2` becomes `hello:v2@sha256:…`, the version that the tag means
//! now, so that a tag that moves later never changes a pod that is there.
//!
//! An image whose module or tag is not there yet is left as it is: the worker reports
//! `ErrImagePull` until it appears.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::super::error::Error;
use super::super::kinds;
use super::super::strategy::{self, Draft};
use crate::api::image::{Digest, ImageRef};
use crate::api::module::Module;
use crate::store::{ObjectKey, Store};

/// On an update, only images that differ from `old` are pinned.
pub(super) fn mutate(
    store: &Store,
    draft: &mut dyn Draft,
    old: Option<&dyn Draft>,
) -> Result<(), Error> {
    let Some(pod) = strategy::get_mut::<Pod>(draft) else {
        return Ok(());
    };
    let ns = pod.metadata.namespace.clone().unwrap_or_default();
    let old = old
        .and_then(strategy::get::<Pod>)
        .and_then(|pod| pod.spec.as_ref());
    let Some(spec) = &mut pod.spec else {
        return Ok(());
    };
    let init = spec.init_containers.iter_mut().flatten();
    for container in init.chain(&mut spec.containers) {
        if !old.is_some_and(|old| has_same_image(old, container)) {
            pin(store, &ns, container)?;
        }
    }
    Ok(())
}

fn has_same_image(old: &PodSpec, container: &Container) -> bool {
    let init = old.init_containers.iter().flatten();
    init.chain(&old.containers)
        .any(|old| old.name == container.name && old.image == container.image)
}

fn pin(store: &Store, ns: &str, container: &mut Container) -> Result<(), Error> {
    let image = container.image.as_deref().unwrap_or_default();
    // A wrong image is validation's business.
    let Ok(image) = image.parse::<ImageRef>() else {
        return Ok(());
    };
    if image.digest.is_some() {
        return Ok(());
    }
    let res = kinds::row_of::<Module>();
    let Some(stored) = store.get(&ObjectKey::new(res.storage, ns, &image.name)) else {
        return Ok(());
    };
    let module = stored
        .typed::<Module>()
        .map_err(|source| Error::corrupt(res, &image.name, source))?;
    let digest = module.spec.tags.get(image.tag_or_latest());
    if let Some(Ok(digest)) = digest.map(|digest| digest.parse::<Digest>()) {
        container.image = Some(image.pinned(digest).to_string());
    }
    Ok(())
}
