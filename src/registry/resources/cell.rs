//! The words that cells of several kinds have in common.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::Value;

use crate::api::table;

/// What an empty cell shows.
pub(super) const NONE: &str = "<none>";

pub(super) fn name(meta: &ObjectMeta) -> Value {
    meta.name.clone().unwrap_or_default().into()
}

pub(super) fn age(meta: &ObjectMeta, now: Timestamp) -> Value {
    let since = meta.creation_timestamp.as_ref().map(|time| time.0);
    table::age(since, now).into()
}

/// The text, or `<none>`.
pub(super) fn or_none(text: Option<&str>) -> Value {
    text.filter(|text| !text.is_empty()).unwrap_or(NONE).into()
}

/// Items separated by commas, or `<none>`.
pub(super) fn joined(items: impl IntoIterator<Item = String>) -> Value {
    let items: Vec<String> = items.into_iter().collect();
    or_none(Some(&items.join(",")))
}

pub(super) fn container_names(containers: &[Container]) -> Value {
    joined(containers.iter().map(|container| container.name.clone()))
}

pub(super) fn images(containers: &[Container]) -> Value {
    joined(
        containers
            .iter()
            .filter_map(|container| container.image.clone()),
    )
}

/// `a=b,c=d`, or `<none>`.
pub(super) fn labels(labels: Option<&BTreeMap<String, String>>) -> Value {
    joined(
        labels
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={value}")),
    )
}

/// A workload's selector in the syntax of `labelSelector=`.
pub(super) fn selector(selector: &LabelSelector) -> String {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|term| {
        let values = term.values.as_deref().unwrap_or_default().join(",");
        match term.operator.as_str() {
            "In" => format!("{} in ({values})", term.key),
            "NotIn" => format!("{} notin ({values})", term.key),
            "DoesNotExist" => format!("!{}", term.key),
            _ => term.key.clone(),
        }
    });
    equal.chain(expressions).collect::<Vec<_>>().join(",")
}

/// The first three, and how many more there are.
pub(super) fn first_three(items: &[String]) -> Value {
    if items.is_empty() {
        return NONE.into();
    }
    let shown = items[..items.len().min(3)].join(",");
    match items.len() {
        0..=3 => shown.into(),
        count => format!("{shown} + {} more...", count - 3).into(),
    }
}
