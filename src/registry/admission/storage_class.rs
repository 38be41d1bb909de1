//! The class of a claim that names none: the default one, as the cluster is at that moment.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;

use super::super::Registry;
use super::super::error::Error;
use super::super::options::Caller;
use super::super::strategy::{self, Draft};
use crate::api::storage::DEFAULT_CLASS;

pub(super) fn mutate(registry: &Registry, draft: &mut dyn Draft) -> Result<(), Error> {
    let Some(claim) = strategy::get_mut::<PersistentVolumeClaim>(draft) else {
        return Ok(());
    };
    let spec = claim.spec.get_or_insert_default();
    // An empty name is a choice: a volume without a class.
    if spec.storage_class_name.is_some() {
        return Ok(());
    }
    let classes = registry.api::<StorageClass>(Caller::system("storage-class-admission"));
    let classes = classes.list(None)?;
    let is_default = |class: &&std::sync::Arc<StorageClass>| {
        let annotations = class.metadata.annotations.as_ref();
        annotations
            .and_then(|all| all.get(DEFAULT_CLASS))
            .map(String::as_str)
            == Some("true")
    };
    // Of several the youngest, so that a new default can be made before the old one is unmade.
    let default = classes.iter().filter(is_default).max_by_key(|class| {
        let created = class
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        (created, std::cmp::Reverse(class.metadata.name.clone()))
    });
    spec.storage_class_name = default.and_then(|class| class.metadata.name.clone());
    Ok(())
}
