//! Finalizers in metadata, by name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|found| found == name)
}

pub(super) fn add_finalizer(meta: &mut ObjectMeta, name: &str) {
    meta.finalizers
        .get_or_insert_default()
        .push(name.to_owned());
}

pub(super) fn remove_finalizer(meta: &mut ObjectMeta, name: &str) {
    if let Some(finalizers) = &mut meta.finalizers {
        finalizers.retain(|found| found != name);
    }
}
