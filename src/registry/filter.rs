//! Selectors of a request, compiled once and asked once per object.
//!
//! Filters look at the stored JSON, so they work on every kind and decode nothing.

use std::borrow::Cow;

use serde_json::Value;

use super::custom;
use super::error::Error;
use super::kinds::ResourceInfo;
use crate::api::object;
use crate::api::selector::{self, Labels};
use crate::store::Stored;

/// A field that a field selector may name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selectable {
    /// As the user writes it.
    pub(crate) label: &'static str,
    /// Where it is in the stored object.
    pub(crate) path: &'static str,
    /// What an absent field counts as.
    pub(crate) absent: &'static str,
}

impl Selectable {
    /// A text field, written as it is stored.
    pub(crate) const fn field(path: &'static str) -> Self {
        Self {
            label: path,
            path,
            absent: "",
        }
    }

    /// A boolean field, `false` when absent.
    pub(crate) const fn flag(path: &'static str) -> Self {
        Self {
            absent: "false",
            ..Self::field(path)
        }
    }

    /// The same field under another name.
    pub(crate) const fn called(self, label: &'static str) -> Self {
        Self { label, ..self }
    }
}

const EVERY_KIND: [Selectable; 2] = [
    Selectable::field("metadata.name"),
    Selectable::field("metadata.namespace"),
];

/// A compiled pair of selectors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    labels: Labels,
    fields: Vec<FieldFilter>,
}

#[derive(Clone, Debug)]
struct FieldFilter {
    path: Vec<String>,
    absent: &'static str,
    equal: bool,
    value: String,
}

impl Filter {
    pub(crate) fn parse(
        res: &ResourceInfo,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Error> {
        let refused = |error: selector::Error| Error::BadRequest(error.to_string());
        let labels = Labels::parse(labels.unwrap_or_default()).map_err(refused)?;
        let mut filters = Vec::new();
        for term in selector::parse_fields(fields.unwrap_or_default()).map_err(refused)? {
            let built_in = EVERY_KIND
                .iter()
                .chain(res.fields)
                .find(|field| field.label == term.path)
                .map(|field| (dotted(field.path), field.absent));
            let (path, absent) = built_in
                .or_else(|| Some((defined(res, &term.path)?, "")))
                .ok_or_else(|| {
                    Error::BadRequest(format!("field label not supported: {}", term.path))
                })?;
            filters.push(FieldFilter {
                path,
                absent,
                equal: term.equal,
                value: term.value,
            });
        }
        Ok(Self {
            labels,
            fields: filters,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, stored: &Stored) -> bool {
        self.is_empty() || self.matches_value(&stored.object)
    }

    fn matches_value(&self, value: &Value) -> bool {
        self.fields.iter().all(|field| field.matches(value))
            && self.labels.matches_by(|key| object::label(value, key))
    }
}

fn dotted(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// The path of a field that a custom kind's definition makes selectable.
fn defined(res: &ResourceInfo, label: &str) -> Option<Vec<String>> {
    let version = res.custom?.version();
    let mut selectable = version.selectable.iter();
    let path = selectable.find(|path| path.strip_prefix('.') == Some(label))?;
    custom::scale::fields(path)
}

impl FieldFilter {
    fn matches(&self, value: &Value) -> bool {
        let found = self
            .path
            .iter()
            .try_fold(value, |value, name| value.get(name));
        let found = match found {
            Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
            Some(Value::Bool(flag)) => Cow::Owned(flag.to_string()),
            Some(Value::Number(number)) => Cow::Owned(number.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => {
                Cow::Borrowed(self.absent)
            }
        };
        (found == self.value.as_str()) == self.equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::TABLE;
    use serde_json::json;

    fn matches(labels: &str, fields: &str) -> bool {
        let pods = TABLE.iter().find(|row| row.plural == "pods").unwrap();
        let pod = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"app": "web"}},
            "spec": {"nodeName": "dev-1"}, "status": {"phase": "Running"}});
        Filter::parse(pods, Some(labels), Some(fields))
            .unwrap()
            .matches_value(&pod)
    }

    #[test]
    fn fields_and_labels_must_all_match() {
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=web", "spec.nodeName=dev-1,status.phase!=Pending", true),
            ("app=web", "spec.nodeName=", false),
            ("", "spec.nodeName!=", true),
            ("", "metadata.name=a,metadata.namespace=n", true),
            ("", "spec.hostNetwork=false", true),
            ("app=db", "metadata.name=a", false),
        ] {
            assert_eq!(matches(labels, fields), expected, "{labels} {fields}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let pods = TABLE.iter().find(|row| row.plural == "pods").unwrap();
        let error = Filter::parse(pods, None, Some("spec.foo=1")).unwrap_err();
        assert_eq!(error.to_string(), "field label not supported: spec.foo");
    }
}
