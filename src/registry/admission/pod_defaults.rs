//! What the cluster decides for a pod that says nothing about it: who it is, and how long it stays
//! on a node that has gone silent.

use k8s_openapi::api::core::v1::{Pod, Toleration};

use super::super::strategy::{self, Draft};
use crate::api::annotations::{TAINT_NOT_READY, TAINT_UNREACHABLE};

pub(super) fn mutate(draft: &mut dyn Draft, toleration_seconds: i64) {
    let Some(pod) = strategy::get_mut::<Pod>(draft) else {
        return;
    };
    let spec = pod.spec.get_or_insert_default();
    if spec
        .service_account_name
        .as_deref()
        .is_none_or(str::is_empty)
    {
        spec.service_account_name = Some("default".to_owned());
        spec.service_account.clone_from(&spec.service_account_name);
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    for taint in [TAINT_NOT_READY, TAINT_UNREACHABLE] {
        if !tolerations.iter().any(|found| tolerates(found, taint)) {
            tolerations.push(Toleration {
                key: Some(taint.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(toleration_seconds),
                value: None,
            });
        }
    }
}

fn tolerates(toleration: &Toleration, taint: &str) -> bool {
    let any = |text: &Option<String>, wanted: &str| match text.as_deref() {
        None | Some("") => true,
        Some(text) => text == wanted,
    };
    any(&toleration.key, taint) && any(&toleration.effect, "NoExecute")
}
