//! What a pod gets from its service account: the account must be there, and its token, the cluster's
//! certificate and the namespace are mounted where every Kubernetes client looks for them.
//!
//! Kubernetes' rules: the pod's own word counts first, then the account's, else it is mounted. The
//! accounts named `default` are made with `automountServiceAccountToken: false`: they have no rights
//! unless somebody gives them some, and a token for each of a hundred thousand pods that never asks
//! the API anything would cost a request and a volume each.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
    ObjectFieldSelector, Pod, ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection,
    Volume, VolumeMount, VolumeProjection,
};

use super::super::Registry;
use super::super::error::Error;
use super::super::kinds::ResourceInfo;
use super::super::options::Caller;
use super::super::strategy::{self, Draft};
use crate::ids;

const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ROOT_CA: &str = "kube-root-ca.crt";
/// Kubernetes' odd number tells its own mounts from what users ask for.
const SECONDS: i64 = 3607;
const MODE: i32 = 0o644;

pub(super) fn mutate(
    registry: &Registry,
    res: &ResourceInfo,
    draft: &mut dyn Draft,
) -> Result<(), Error> {
    let Some(pod) = strategy::get_mut::<Pod>(draft) else {
        return Ok(());
    };
    let ns = pod.metadata.namespace.clone().unwrap_or_default();
    let spec = pod.spec.get_or_insert_default();
    let name = spec.service_account_name.clone().unwrap_or_default();
    let api = registry.api::<ServiceAccount>(Caller::system("service-account-admission"));
    let account = api.try_get(&ns, &name)?;
    // The default account of a new namespace comes a moment after the namespace.
    if account.is_none() && name != "default" {
        let pod = pod.metadata.name.clone().unwrap_or_default();
        let message = format!(
            "error looking up service account {ns}/{name}: serviceaccount {name:?} not found"
        );
        return Err(Error::forbidden(res, &pod, message));
    }
    let of_account = account.map_or(Some(false), |it| it.automount_service_account_token);
    let wanted = spec.automount_service_account_token.or(of_account);
    if wanted.unwrap_or(true) {
        mount(pod);
    }
    Ok(())
}

fn mount(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let volume = format!("kube-api-access-{}", ids::name_suffix());
    let mut is_used = false;
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        let mounts = container.volume_mounts.get_or_insert_default();
        let is_there = |mount: &VolumeMount| mount.mount_path.trim_end_matches('/') == PLACE;
        if mounts.iter().any(is_there) {
            continue;
        }
        is_used = true;
        mounts.push(VolumeMount {
            name: volume.clone(),
            mount_path: PLACE.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    if is_used {
        spec.volumes.get_or_insert_default().push(Volume {
            name: volume,
            projected: Some(sources()),
            ..Volume::default()
        });
    }
}

fn sources() -> ProjectedVolumeSource {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            expiration_seconds: Some(SECONDS),
            path: "token".to_owned(),
            audience: None,
        }),
        ..VolumeProjection::default()
    };
    let certificate = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: ROOT_CA.to_owned(),
            items: Some(vec![KeyToPath {
                key: "ca.crt".to_owned(),
                path: "ca.crt".to_owned(),
                mode: None,
            }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".to_owned(),
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".to_owned()),
                    field_path: "metadata.namespace".to_owned(),
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..VolumeProjection::default()
    };
    ProjectedVolumeSource {
        default_mode: Some(MODE),
        sources: Some(vec![token, certificate, namespace]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_container_without_a_mount_gets_one() {
        let mut pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": PLACE}]}]}}))
        .unwrap();
        mount(&mut pod);
        let spec = pod.spec.clone().unwrap();
        let volumes = spec.volumes.unwrap();
        assert!(volumes[0].name.starts_with("kube-api-access-"));
        let mounts = |index: usize| spec.containers[index].volume_mounts.clone().unwrap();
        assert_eq!(mounts(0)[0].name, volumes[0].name);
        assert_eq!((mounts(1).len(), mounts(1)[0].name.as_str()), (1, "own"));
        // A pod that has all its mounts gets no volume.
        mount(&mut pod);
        assert_eq!(pod.spec.unwrap().volumes.unwrap().len(), 1);
    }
}
