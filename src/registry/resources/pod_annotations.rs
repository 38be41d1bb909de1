//! The annotations by which a pod asks its worker for something.
//!
//! Each is a setting, so a value that would be read as something else is refused like a wrong field.
//! They are judged on pods and on the templates of pods alike; those that nobody here knows are
//! their owners' business.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, Volume};

use super::super::field_error::Errors;
use super::super::path::Path;
use crate::api::annotations::{EGRESS, INSTANCE_REUSE, KEYVALUE_VOLUME, REQUEST_TIMEOUT};
use crate::api::duration;

pub(super) fn validate(
    path: &Path<'_>,
    annotations: &BTreeMap<String, String>,
    spec: Option<&PodSpec>,
    errors: &mut Errors,
) {
    for (key, value) in annotations {
        let wrong = match key.as_str() {
            EGRESS => (!matches!(value.as_str(), "true" | "false"))
                .then(|| "must be `true` or `false`".to_owned()),
            INSTANCE_REUSE => (!value.parse::<u32>().is_ok_and(|count| count > 0))
                .then(|| "must be a number of requests, at least 1".to_owned()),
            REQUEST_TIMEOUT => match duration::parse(value) {
                Ok(timeout) if timeout.is_zero() => Some("must be longer than nothing".to_owned()),
                Ok(_) => None,
                Err(words) => Some(words),
            },
            KEYVALUE_VOLUME => {
                let mut volumes = spec
                    .into_iter()
                    .flat_map(|spec| spec.volumes.iter().flatten());
                match volumes.find(|volume| volume.name == *value) {
                    None => Some("must name a volume of the pod".to_owned()),
                    Some(volume) => (!is_writable(volume))
                        .then(|| "must name a volume that can be written".to_owned()),
                }
            }
            _ => None,
        };
        if let Some(words) = wrong {
            errors.invalid(&path.key(key), value.as_str(), &words);
        }
    }
}

fn is_writable(volume: &Volume) -> bool {
    volume.config_map.is_none()
        && volume.secret.is_none()
        && volume.downward_api.is_none()
        && volume.projected.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_setting_that_means_nothing_is_refused_by_name() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [], "volumes": [
            {"name": "data", "emptyDir": {}}, {"name": "conf", "configMap": {"name": "c"}}]}))
        .unwrap();
        let cases = [
            (EGRESS, "true", true),
            (EGRESS, "no", false),
            (INSTANCE_REUSE, "16", true),
            (INSTANCE_REUSE, "0", false),
            (INSTANCE_REUSE, "many", false),
            (REQUEST_TIMEOUT, "1500ms", true),
            (REQUEST_TIMEOUT, "soon", false),
            (REQUEST_TIMEOUT, "0s", false),
            (KEYVALUE_VOLUME, "data", true),
            (KEYVALUE_VOLUME, "conf", false),
            (KEYVALUE_VOLUME, "lost", false),
            ("example.com/egress", "no", true),
        ];
        for (key, value, is_fine) in cases {
            let annotations = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let mut errors = Errors::default();
            let at = Path::Root.field("annotations");
            validate(&at, &annotations, Some(&spec), &mut errors);
            let text = format!("{errors:?}");
            assert_eq!(text.contains(key), !is_fine, "{key}={value}: {text}");
        }
    }
}
