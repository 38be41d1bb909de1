//! The pod template: its hash, its equality, and the ReplicaSet made of it.
//!
//! The hash names the ReplicaSet and must not depend on how the template was spelt: it is taken
//! over the typed template (where `null` and absent are the same) with sorted keys. Equality, not
//! the hash, decides whether a ReplicaSet is the new one, so an upgrade that changes the hash does
//! not start a rollout.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::annotations::{DESIRED_REPLICAS, MAX_REPLICAS, POD_TEMPLATE_HASH, REVISION};
use crate::api::{object, owner};
use crate::controllers::{Error, path, stable_hash};

/// Revisions that a ReplicaSet had before it was rolled back to.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Not handed down: they speak of the Deployment itself.
const OWN: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];

/// The stable hash of the template.
pub(super) fn hash(
    template: &PodTemplateSpec,
    collisions: i32,
) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(template)?;
    object::prune_nulls(&mut value);
    Ok(stable_hash::of(&value, collisions))
}

/// Whether a ReplicaSet's template is the Deployment's, the hash label aside.
pub(super) fn is_same(wanted: &PodTemplateSpec, other: Option<&PodTemplateSpec>) -> bool {
    other.is_some_and(|other| without_hash(wanted) == without_hash(other))
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(POD_TEMPLATE_HASH);
    }
    if meta.labels.as_ref().is_some_and(BTreeMap::is_empty) {
        meta.labels = None;
    }
    template
}

/// The new ReplicaSet, without a size.
pub(super) fn replica_set(
    deployment: &Deployment,
    spec: &DeploymentSpec,
) -> Result<ReplicaSet, Error> {
    let meta = &deployment.metadata;
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count);
    let hash = hash(&spec.template, collisions.unwrap_or(0)).map_err(|source| Error::Encode {
        object: format!("the template of {}", path(meta)),
        source,
    })?;
    let mut template = spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    Ok(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!(
                "{}-{hash}",
                meta.name.as_deref().unwrap_or_default()
            )),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner::controller_reference::<Deployment>(meta)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(0),
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

/// The revision number that a ReplicaSet carries; zero without one.
pub(super) fn revision(replica_set: &ReplicaSet) -> i64 {
    annotation(replica_set, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// The replicas that the Deployment wanted, and its greatest allowed total, when the ReplicaSet was
/// last sized.
pub(super) fn recorded_sizes(replica_set: &ReplicaSet) -> (Option<i32>, Option<i32>) {
    let number = |key| annotation(replica_set, key).and_then(|text| text.parse().ok());
    (number(DESIRED_REPLICAS), number(MAX_REPLICAS))
}

pub(super) fn record_sizes(replica_set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = replica_set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.to_owned(), desired.to_string());
    annotations.insert(MAX_REPLICAS.to_owned(), max.to_string());
}

/// Hands the Deployment's annotations down and gives the new ReplicaSet its revision; a revision
/// that it had before (an undo) goes into its history.
pub(super) fn annotate(replica_set: &mut ReplicaSet, deployment: &ObjectMeta, next: i64) {
    let current = revision(replica_set);
    let annotations = replica_set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    if current < next {
        annotations.insert(REVISION.to_owned(), next.to_string());
        if current > 0 {
            let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            let mut revisions: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
            let current = current.to_string();
            revisions.push(&current);
            // Only the last ones are of use, and an annotation must not grow for ever.
            let recent = revisions.split_off(revisions.len().saturating_sub(20));
            *history = recent.join(",");
        }
    }
}

fn annotation<'a>(replica_set: &'a ReplicaSet, key: &str) -> Option<&'a str> {
    let annotations = replica_set.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_hash_depends_on_the_meaning_only() {
        let plain = template(json!({"metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"containers": [{"name": "c", "image": "hello"}]}}));
        let spelt = template(
            json!({"spec": {"containers": [{"image": "hello", "name": "c", "env": null}]},
            "metadata": {"creationTimestamp": null, "labels": {"b": "2", "a": "1"}}}),
        );
        let other = template(json!({"metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"containers": [{"name": "c", "image": "hello:v2"}]}}));
        assert_eq!(hash(&plain, 0).unwrap(), hash(&spelt, 0).unwrap());
        assert_ne!(hash(&plain, 0).unwrap(), hash(&other, 0).unwrap());
        assert_ne!(hash(&plain, 0).unwrap(), hash(&plain, 1).unwrap());
        // Fixed for ever: it names objects in people's clusters.
        assert_eq!(
            hash(&PodTemplateSpec::default(), 0).unwrap(),
            stable_hash::of(&json!({}), 0)
        );
    }

    #[test]
    fn the_hash_label_makes_no_difference() {
        let wanted = template(json!({"metadata": {"labels": {"a": "1"}}}));
        let made = template(json!({"metadata": {"labels": {"a": "1", "pod-template-hash": "x"}}}));
        assert!(is_same(&wanted, Some(&made)));
        assert!(!is_same(&wanted, None));
        assert!(is_same(
            &template(json!({})),
            Some(&template(
                json!({"metadata": {"labels": {"pod-template-hash": "x"}}})
            ))
        ));
    }

    #[test]
    fn an_undo_raises_the_revision_and_remembers_the_old_one() {
        let deployment = ObjectMeta {
            annotations: Some(BTreeMap::from([
                ("kubernetes.io/change-cause".to_owned(), "v3".to_owned()),
                (REVISION.to_owned(), "9".to_owned()),
            ])),
            ..ObjectMeta::default()
        };
        let mut replica_set = ReplicaSet::default();
        annotate(&mut replica_set, &deployment, 1);
        assert_eq!(revision(&replica_set), 1);
        annotate(&mut replica_set, &deployment, 1);
        annotate(&mut replica_set, &deployment, 4);
        annotate(&mut replica_set, &deployment, 3);
        let annotations = replica_set.metadata.annotations.unwrap();
        assert_eq!(annotations[REVISION], "4");
        assert_eq!(annotations[REVISION_HISTORY], "1");
        assert_eq!(annotations["kubernetes.io/change-cause"], "v3");
    }
}
