//! StatefulSets: pods with a name and storage of their own each.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, deployment, pod_template};
use crate::api::names;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Ready"),
    Column::text("Age"),
    Column::text("Containers").wide(),
    Column::text("Images").wide(),
];

const MAY_CHANGE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

impl Strategy for StatefulSet {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        let text = |field: &mut Option<String>, value: &str| {
            field.get_or_insert_with(|| value.to_owned());
        };
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        text(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.partition.get_or_insert(0);
        }
        let retention = &mut spec.persistent_volume_claim_retention_policy;
        let retention = retention.get_or_insert_default();
        text(&mut retention.when_deleted, "Retain");
        text(&mut retention.when_scaled, "Retain");
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            claim.metadata.creation_timestamp = None;
            claim.set_defaults();
            claim.prepare_create();
        }
        pod_template::set_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(StatefulSetStatus::default());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let Some(spec) = &self.spec else {
            errors.required(&path, "");
            return;
        };
        let ordinals = spec.ordinals.as_ref();
        for (field, value) in [
            ("replicas", spec.replicas),
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
            ("ordinals.start", ordinals.and_then(|it| it.start)),
        ] {
            errors.non_negative(&path.field(field), value.map(i64::from));
        }
        errors.one_of(
            &path.field("podManagementPolicy"),
            spec.pod_management_policy.as_deref(),
            &["OrderedReady", "Parallel"],
        );
        validate_strategy(&path, spec, errors);
        validate_claims(&path, spec, errors);
        let service = spec.service_name.as_deref().unwrap_or_default();
        if !service.is_empty() && !names::is_dns_label(service) {
            errors.invalid(&path.field("serviceName"), service, names::DNS_LABEL_RULE);
        }
        pod_template::validate_replicas(&path, &spec.selector, &with_claims(spec), errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        let expected = StatefulSetSpec {
            replicas: new.replicas,
            ordinals: new.ordinals.clone(),
            template: new.template.clone(),
            update_strategy: new.update_strategy.clone(),
            revision_history_limit: new.revision_history_limit,
            min_ready_seconds: new.min_ready_seconds,
            persistent_volume_claim_retention_policy: new
                .persistent_volume_claim_retention_policy
                .clone(),
            ..old.clone()
        };
        if *new != expected {
            errors.forbidden(&Path::Root.field("spec"), MAY_CHANGE);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        let ready = self.status.as_ref().and_then(|it| it.ready_replicas);
        let template = spec.and_then(|spec| spec.template.spec.as_ref());
        let containers = template.map_or(&[][..], |template| &template.containers);
        let desired = spec.and_then(|spec| spec.replicas).unwrap_or(0);
        vec![
            cell::name(&self.metadata),
            format!("{}/{desired}", ready.unwrap_or(0)).into(),
            cell::age(&self.metadata, now),
            cell::container_names(containers),
            cell::images(containers),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "sample"},
            "spec": {"replicas": 0, "serviceName": "sample", "selector": {"matchLabels": {"app": "sample"}}, "template": {
                "metadata": {"labels": {"app": "sample"}},
                "spec": {"containers": [{"name": "main", "image": "hello"}]}}}})
    }
}

fn validate_strategy(spec_path: &Path<'_>, spec: &StatefulSetSpec, errors: &mut Errors) {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let path = spec_path.field("updateStrategy");
    let kind = strategy.type_.as_deref();
    errors.one_of(&path.field("type"), kind, &["RollingUpdate", "OnDelete"]);
    let at = path.field("rollingUpdate");
    if let Some(rolling) = &strategy.rolling_update {
        if kind == Some("OnDelete") {
            errors.invalid_json(
                &at,
                rolling,
                "only allowed for updateStrategy 'RollingUpdate'",
            );
        }
        errors.non_negative(&at.field("partition"), rolling.partition.map(i64::from));
        if let Some(most) = &rolling.max_unavailable {
            let at = at.field("maxUnavailable");
            if deployment::validate_share(&at, Some(most), errors) == Some(0) {
                errors.invalid_json(&at, most, "cannot be 0");
            }
            deployment::validate_hundred(&at, Some(most), errors);
        }
    }
    let retention = spec.persistent_volume_claim_retention_policy.clone();
    let retention = retention.unwrap_or_default();
    let path = spec_path.field("persistentVolumeClaimRetentionPolicy");
    for (field, policy) in [
        ("whenDeleted", &retention.when_deleted),
        ("whenScaled", &retention.when_scaled),
    ] {
        errors.one_of(&path.field(field), policy.as_deref(), &["Retain", "Delete"]);
    }
}

/// The claims, each as if it were made now.
fn validate_claims(path: &Path<'_>, spec: &StatefulSetSpec, errors: &mut Errors) {
    let list = path.field("volumeClaimTemplates");
    for (index, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
        let at = list.index(index);
        let metadata = at.field("metadata");
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            errors.required(&metadata.field("name"), "");
        } else if !names::is_dns_label(name) {
            errors.invalid(&metadata.field("name"), name, names::DNS_LABEL_RULE);
        }
        let mut found = Errors::default();
        claim.validate(&mut found);
        for mut error in found.0 {
            error.field = format!("{at}.{}", error.field);
            errors.0.push(error);
        }
    }
}

/// The template with the volumes that its pods will have.
fn with_claims(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let volumes = &mut template.spec.get_or_insert_default().volumes;
    for claim in spec.volume_claim_templates.iter().flatten() {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let volumes = volumes.get_or_insert_default();
        volumes.retain(|volume| volume.name != name);
        volumes.push(Volume {
            name: name.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: name,
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    template
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn mounts_may_name_claims() {
        let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}]);
        let mut object = StatefulSet::sample();
        object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "data", "mountPath": "/data"}]);
        let judge = |object: &Value| {
            let mut set: StatefulSet = serde_json::from_value(object.clone()).unwrap();
            set.set_defaults();
            let mut errors = Errors::default();
            set.validate(&mut errors);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(judge(&object).len(), 1);
        object["spec"]["volumeClaimTemplates"] = claims;
        assert_eq!(judge(&object), [""; 0]);
        object["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"] = json!([]);
        assert_eq!(
            judge(&object),
            [
                "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required"
            ]
        );
    }

    #[test]
    fn mistakes_are_named() {
        check::<StatefulSet>(
            "/spec/updateStrategy",
            &json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
            &[
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
            ],
        );
        check::<StatefulSet>(
            "/spec/podManagementPolicy",
            &json!("Random"),
            &[
                "spec.podManagementPolicy: Unsupported value: \"Random\": supported values: \"OrderedReady\", \"Parallel\"",
            ],
        );
        let old: StatefulSet = serde_json::from_value(StatefulSet::sample()).unwrap();
        let judge = |change: Value| {
            let mut object = StatefulSet::sample();
            json_patch::merge(&mut object, &json!({"spec": change}));
            let new: StatefulSet = serde_json::from_value(object).unwrap();
            let mut errors = Errors::default();
            new.validate_update(&old, &mut errors);
            errors.0.len()
        };
        assert_eq!(judge(json!({"replicas": 3, "minReadySeconds": 1})), 0);
        assert_eq!(judge(json!({"serviceName": "other"})), 1);
        assert_eq!(judge(json!({"podManagementPolicy": "Parallel"})), 1);
    }
}
