//! What clients of a deprecated version of a custom kind are told, in Kubernetes' words.

use std::cmp::Reverse;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion;
use serde_json::Value;

use super::rows::priority;
use crate::registry::field_error::Errors;
use crate::registry::path::Path;

/// The longest warning.
const LONGEST: usize = 256;

/// What to say to whoever uses `version` of a definition; `None` if it is not deprecated.
pub(super) fn warning(spec: &Value, version: &Value) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(given) = version["deprecationWarning"].as_str() {
        return Some(given.to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
    let own = text(&version["name"]);
    let versions = spec["versions"].as_array().into_iter().flatten();
    let better = versions
        .filter(|other| other["served"] == true && other["deprecated"] != true)
        .map(|other| text(&other["name"]))
        .filter(|other| priority(other) > priority(&own))
        .min_by_key(|other| Reverse(priority(other)));
    let instead = better.map(|better| format!("; use {group}/{better} {kind}"));
    let instead = instead.unwrap_or_default();
    Some(format!("{group}/{own} {kind} is deprecated{instead}"))
}

/// Judges the warning that a definition gives.
pub(crate) fn validate(
    version: &CustomResourceDefinitionVersion,
    at: &Path<'_>,
    errors: &mut Errors,
) {
    let Some(warning) = &version.deprecation_warning else {
        return;
    };
    let field = at.field("deprecationWarning");
    let mut amiss = |rule: &str| errors.invalid(&field, warning, rule);
    if version.deprecated != Some(true) {
        amiss("can only be set for deprecated versions");
        return;
    }
    if warning.len() > LONGEST {
        amiss(&format!("must be <= {LONGEST} characters long"));
    }
    if warning.is_empty() {
        amiss("must not be an empty string");
    }
    let is_printable =
        |letter: char| letter == ' ' || !(letter.is_control() || letter.is_whitespace());
    if let Some(index) = warning.find(|letter| !is_printable(letter)) {
        amiss(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_better_version_is_named_and_the_definition_has_the_last_word() {
        let old = |name: &str| json!({"name": name, "served": true, "deprecated": true});
        let mut spec = json!({"group": "x.io", "names": {"kind": "Tab"}, "versions": [
            old("v1alpha1"), old("v1beta1"), {"name": "v1beta2", "served": true},
            {"name": "v1", "served": true}, {"name": "v2", "served": false}]});
        let told = |spec: &Value, index: usize| warning(spec, &spec["versions"][index]);
        assert_eq!(
            told(&spec, 1).unwrap(),
            "x.io/v1beta1 Tab is deprecated; use x.io/v1 Tab"
        );
        assert_eq!(told(&spec, 2), None);
        spec["versions"][3] = old("v1");
        assert_eq!(told(&spec, 3).unwrap(), "x.io/v1 Tab is deprecated");
        spec["versions"][3]["deprecationWarning"] = "gone soon".into();
        assert_eq!(told(&spec, 3).unwrap(), "gone soon");
    }

    #[test]
    fn a_warning_is_short_printable_and_of_a_deprecated_version() {
        let complaints = |deprecated: bool, text: &str| {
            let version = json!({"name": "v1", "served": true, "storage": true,
                "deprecated": deprecated, "deprecationWarning": text});
            let mut errors = Errors::default();
            validate(
                &serde_json::from_value(version).unwrap(),
                &Path::Root.field("v"),
                &mut errors,
            );
            errors.0.len()
        };
        assert_eq!(complaints(true, "use v2"), 0);
        assert_eq!(complaints(false, "use v2"), 1);
        assert_eq!(complaints(true, ""), 1);
        assert_eq!(complaints(true, "a\nb"), 1);
        assert_eq!(complaints(true, &"a".repeat(257)), 1);
    }
}
