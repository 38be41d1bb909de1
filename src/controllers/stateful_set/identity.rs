//! Who a pod of a StatefulSet is: its ordinal, its name, its volumes. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::owner;
use crate::controllers::pod_control;
use crate::controllers::revision::POD_LABEL;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal at the end of a pod's name, if the name is one that `set` gives.
pub(super) fn ordinal(set: &ObjectMeta, pod: &Pod) -> Option<i32> {
    let name = pod.metadata.name.as_deref()?;
    let digits = name.strip_prefix(set.name.as_deref()?)?.strip_prefix('-')?;
    let ordinal: i32 = digits.parse().ok()?;
    (ordinal.to_string() == digits).then_some(ordinal)
}

pub(super) fn revision_of(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get(POD_LABEL));
    label.map_or("", String::as_str)
}

fn claim_name(set: &ObjectMeta, claim: &PersistentVolumeClaim, ordinal: i32) -> String {
    let template = claim.metadata.name.as_deref().unwrap_or_default();
    format!(
        "{template}-{}-{ordinal}",
        set.name.as_deref().unwrap_or_default()
    )
}

/// The pod of an ordinal, of a template and the revision that it is of.
pub(super) fn pod(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    (template, revision): (&PodTemplateSpec, &str),
    ordinal: i32,
) -> Pod {
    let meta = &set.metadata;
    let name = format!("{}-{ordinal}", meta.name.as_deref().unwrap_or_default());
    let mut pod = pod_control::from_template::<StatefulSet>(template, meta);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    for (key, value) in [
        (POD_NAME, name.clone()),
        (POD_INDEX, ordinal.to_string()),
        (POD_LABEL, revision.to_owned()),
    ] {
        labels.insert(key.to_owned(), value);
    }
    let wanted = pod.spec.get_or_insert_default();
    wanted.hostname = Some(name);
    wanted.subdomain.clone_from(&spec.service_name);
    for claim in spec.volume_claim_templates.iter().flatten() {
        let volumes = wanted.volumes.get_or_insert_default();
        let volume = claim.metadata.name.clone().unwrap_or_default();
        volumes.retain(|one| one.name != volume);
        volumes.push(Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(meta, claim, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    pod
}

/// The claims of an ordinal.
pub(super) fn claims(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    ordinal: i32,
) -> Vec<PersistentVolumeClaim> {
    let templates = spec.volume_claim_templates.iter().flatten();
    let made = templates.map(|template| {
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim_name(&set.metadata, template, ordinal)),
                namespace: set.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: template.metadata.annotations.clone(),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    });
    made.collect()
}

/// Who a claim dies with: the set, or the pod that scaling down takes away, as the retention policy
/// says. Other owners stay.
pub(super) fn owners(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    (pod, is_condemned): (Option<&Arc<Pod>>, bool),
    before: &[OwnerReference],
) -> Vec<OwnerReference> {
    let retention = spec.persistent_volume_claim_retention_policy.clone();
    let retention = retention.unwrap_or_default();
    let deletes = |policy: &Option<String>| policy.as_deref() == Some("Delete");
    let with_pod = deletes(&retention.when_scaled) && is_condemned;
    let with_set = deletes(&retention.when_deleted) && !with_pod;
    let uid_of = |meta: &ObjectMeta| meta.uid.clone().unwrap_or_default();
    let set_uid = uid_of(&set.metadata);
    let mut owners: Vec<OwnerReference> = before
        .iter()
        .filter(|one| one.uid != set_uid && !is_our_pod(&set.metadata, one))
        .cloned()
        .collect();
    if with_set {
        owners.push(OwnerReference {
            controller: None,
            ..owner::controller_reference::<StatefulSet>(&set.metadata)
        });
    }
    if let Some(pod) = pod.filter(|_| with_pod) {
        owners.push(OwnerReference {
            controller: None,
            ..owner::controller_reference::<Pod>(&pod.metadata)
        });
    }
    owners
}

fn is_our_pod(set: &ObjectMeta, owner: &OwnerReference) -> bool {
    let prefix = format!("{}-", set.name.as_deref().unwrap_or_default());
    owner.kind == "Pod" && owner.name.starts_with(&prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(change: &Value) -> StatefulSet {
        let mut base = json!({
            "metadata": {"name": "db", "namespace": "default", "uid": "s"},
            "spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}}]},
        });
        json_patch::merge(&mut base, change);
        serde_json::from_value(base).unwrap()
    }

    #[test]
    fn a_pod_has_a_name_and_storage_of_its_own() {
        let set = set(&json!({}));
        let spec = set.spec.as_ref().unwrap();
        let made = pod(&set, spec, (&spec.template, "db-abc"), 3);
        assert_eq!(made.metadata.name.as_deref(), Some("db-3"));
        let labels = made.metadata.labels.as_ref().unwrap();
        assert_eq!(labels["apps.kubernetes.io/pod-index"], "3");
        assert_eq!(revision_of(&made), "db-abc");
        let pod_spec = made.spec.as_ref().unwrap();
        assert_eq!(pod_spec.hostname.as_deref(), Some("db-3"));
        assert_eq!(pod_spec.subdomain.as_deref(), Some("db"));
        let volume = &pod_spec.volumes.as_ref().unwrap()[0];
        let claim = volume.persistent_volume_claim.as_ref().unwrap();
        assert_eq!(claim.claim_name, "data-db-3");
        let claims = claims(&set, spec, 3);
        assert_eq!(claims[0].metadata.name.as_deref(), Some("data-db-3"));
        assert_eq!(ordinal(&set.metadata, &made), Some(3));
        for name in ["db", "db-x", "db-03", "dbs-1", "db--1x"] {
            let mut other = made.clone();
            other.metadata.name = Some(name.to_owned());
            assert_eq!(ordinal(&set.metadata, &other), None, "{name}");
        }
    }

    #[test]
    fn claims_die_as_the_policy_says() {
        let check = |deleted: &str, scaled: &str, condemned: bool, expected: &[&str]| {
            let set = set(&json!({"spec": {"persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": deleted, "whenScaled": scaled}}}));
            let spec = set.spec.as_ref().unwrap();
            let mut one = pod(&set, spec, (&spec.template, "r"), 0);
            one.metadata.uid = Some("p".into());
            let stranger =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"});
            let left_over =
                json!({"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "old"});
            let before: Vec<OwnerReference> =
                serde_json::from_value(json!([stranger, left_over])).unwrap();
            let owners = owners(&set, spec, (Some(&Arc::new(one)), condemned), &before);
            let uids: Vec<&str> = owners.iter().map(|one| one.uid.as_str()).collect();
            assert_eq!(uids, expected, "{deleted} {scaled} {condemned}");
        };
        check("Retain", "Retain", true, &["x"]);
        check("Delete", "Retain", false, &["x", "s"]);
        check("Delete", "Retain", true, &["x", "s"]);
        check("Retain", "Delete", false, &["x"]);
        check("Retain", "Delete", true, &["x", "p"]);
        check("Delete", "Delete", false, &["x", "s"]);
        check("Delete", "Delete", true, &["x", "p"]);
    }
}
