//! Pins the images of a pod: `hello:v2` becomes `hello:v2@sha256:…`, the version that the tag means
//! now, so that a tag that moves later never changes a pod that is there.
//!
//! An image whose module or tag is not there yet is left as it is: the worker reports
//! `ErrImagePull` until it appears.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

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
    let images = init
        .chain(&mut spec.containers)
        .map(|container| (&container.name, &mut container.image));
    // Those for debugging come by their own subresource.
    let debugging = spec.ephemeral_containers.iter_mut().flatten();
    let debugging = debugging.map(|container| (&container.name, &mut container.image));
    for (name, image) in images.chain(debugging) {
        if !old.is_some_and(|old| has_same_image(old, name, image.as_ref())) {
            pin(store, &ns, image)?;
        }
    }
    Ok(())
}

fn has_same_image(old: &PodSpec, name: &str, image: Option<&String>) -> bool {
    let init = old.init_containers.iter().flatten();
    let images = init
        .chain(&old.containers)
        .map(|old| (&old.name, &old.image));
    let debugging = old.ephemeral_containers.iter().flatten();
    images
        .chain(debugging.map(|old| (&old.name, &old.image)))
        .any(|(known, had)| known == name && had.as_ref() == image)
}

fn pin(store: &Store, ns: &str, given: &mut Option<String>) -> Result<(), Error> {
    let image = given.as_deref().unwrap_or_default();
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
        *given = Some(image.pinned(digest).to_string());
    }
    Ok(())
}
