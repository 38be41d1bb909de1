//! LimitRanges: the defaults and bounds of what one pod, container or claim of a namespace may ask.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::quantity;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[Column::text("Name"), Column::text("Created At")];

const TYPES: &[&str] = &["Container", "Pod", "PersistentVolumeClaim"];
const OF_PODS: &[&str] = &["cpu", "memory", "ephemeral-storage"];
type Amounts = Option<BTreeMap<String, Quantity>>;

impl Strategy for LimitRange {
    fn set_defaults(&mut self) {
        let items = self.spec.iter_mut().flat_map(|spec| &mut spec.limits);
        items
            .filter(|item| item.type_ == "Container")
            .for_each(complete);
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let path = path.field("limits");
        let mut seen = BTreeSet::new();
        let items = self.spec.iter().flat_map(|spec| &spec.limits);
        for (index, item) in items.enumerate() {
            let at = path.index(index);
            errors.one_of(&at.field("type"), Some(&item.type_), TYPES);
            if !seen.insert(&item.type_) {
                errors.duplicate(&at.field("type"), &item.type_);
            }
            validate_item(&at, item, errors);
        }
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let created = self.metadata.creation_timestamp.as_ref();
        let created = created.map(|time| time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        vec![
            cell::name(&self.metadata),
            created.unwrap_or_default().into(),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "sample"},
            "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}})
    }
}

/// What is not said of a container's default follows from what is.
fn complete(item: &mut LimitRangeItem) {
    let inherit = |to: &mut Amounts, from: &Amounts| {
        for (name, amount) in from.iter().flatten() {
            to.get_or_insert_default()
                .entry(name.clone())
                .or_insert_with(|| amount.clone());
        }
    };
    inherit(&mut item.default, &item.max);
    inherit(&mut item.default_request, &item.default);
    inherit(&mut item.default_request, &item.min);
}

fn validate_item(path: &Path<'_>, item: &LimitRangeItem, errors: &mut Errors) {
    let is_claim = item.type_ == "PersistentVolumeClaim";
    let known: &[&str] = if is_claim { &["storage"] } else { OF_PODS };
    let fields = [
        ("max", &item.max),
        ("min", &item.min),
        ("default", &item.default),
        ("defaultRequest", &item.default_request),
        ("maxLimitRequestRatio", &item.max_limit_request_ratio),
    ];
    for (field, amounts) in fields {
        let list = path.field(field);
        for (name, amount) in amounts.iter().flatten() {
            if !known.contains(&name.as_str()) {
                errors.not_supported(&list.key(name), name, known);
            }
            if let Err(error) = quantity::parse_nano(&amount.0) {
                errors.invalid(&list.key(name), &amount.0, &error.to_string());
            }
        }
    }
    if item.type_ == "Pod" {
        for (field, is_given) in [
            ("default", item.default.is_some()),
            ("defaultRequest", item.default_request.is_some()),
        ] {
            if is_given {
                errors.forbidden(
                    &path.field(field),
                    "may not be specified when `type` is 'Pod'",
                );
            }
        }
    }
    let has_storage = |amounts: &Amounts| {
        amounts
            .as_ref()
            .is_some_and(|all| all.contains_key("storage"))
    };
    if is_claim && !has_storage(&item.min) && !has_storage(&item.max) {
        errors.required(
            &path.field("limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    let names: BTreeSet<&String> = fields
        .iter()
        .flat_map(|(_, amounts)| amounts.iter().flatten().map(|(name, _)| name))
        .collect();
    for name in names {
        validate_order(path, item, name, errors);
    }
}

/// min ≤ defaultRequest ≤ default ≤ max, as far as they are given, and a ratio that they allow.
fn validate_order(path: &Path<'_>, item: &LimitRangeItem, name: &str, errors: &mut Errors) {
    let of = |amounts: &Amounts| {
        let amount = amounts.as_ref()?.get(name)?;
        Some((quantity::parse_nano(&amount.0).ok()?, amount.0.clone()))
    };
    let (min, max) = (of(&item.min), of(&item.max));
    let (default, request) = (of(&item.default), of(&item.default_request));
    let mut ordered = |low: &Option<(i128, String)>,
                       high: &Option<(i128, String)>,
                       (field, low_word, high_word): (&str, &str, &str)| {
        if let (Some((low, low_text)), Some((high, high_text))) = (low, high)
            && low > high
        {
            let detail = format!(
                "{low_word} value {low_text} is greater than {high_word} value {high_text}"
            );
            let value = if field == "min" || field == "default" && low_word == "min" {
                low_text
            } else if low_word == "min" {
                high_text
            } else {
                low_text
            };
            errors.invalid(&path.field(field).key(name), value, &detail);
        }
    };
    ordered(&min, &max, ("min", "min", "max"));
    ordered(&min, &request, ("defaultRequest", "min", "default request"));
    ordered(&request, &max, ("defaultRequest", "default request", "max"));
    ordered(
        &request,
        &default,
        ("defaultRequest", "default request", "default limit"),
    );
    ordered(&min, &default, ("default", "min", "default"));
    ordered(&default, &max, ("default", "default", "max"));
    if let Some((ratio, text)) = of(&item.max_limit_request_ratio) {
        let at = path.field("maxLimitRequestRatio");
        if ratio < 1_000_000_000 {
            errors.invalid(
                &at.key(name),
                &text,
                &format!("ratio {text} is less than 1"),
            );
        }
        if let (Some((min, _)), Some((max, _))) = (min, max)
            && min > 0
        {
            let most = max as f64 / min as f64;
            if ratio as f64 / 1e9 > most {
                let detail = format!("ratio {text} is greater than max/min = {most:.6}");
                errors.invalid(&at.key(name), &text, &detail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn bounds_must_be_in_order() {
        check::<LimitRange>(
            "/spec/limits",
            &json!([{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]),
            &[
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
            ],
        );
        check::<LimitRange>(
            "/spec/limits",
            &json!([{"type": "Pod", "default": {"cpu": "1"}}, {"type": "Pod"}, {"type": "Host"}]),
            &[
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                "spec.limits[1].type: Duplicate value: \"Pod\"",
                "spec.limits[2].type: Unsupported value: \"Host\": supported values: \"Container\", \"Pod\", \"PersistentVolumeClaim\"",
            ],
        );
        check::<LimitRange>(
            "/spec/limits",
            &json!([{"type": "PersistentVolumeClaim"}]),
            &[
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ],
        );
        check::<LimitRange>(
            "/spec/limits",
            &json!([{"type": "Container", "min": {"memory": "1Mi"}, "max": {"memory": "2Mi"}, "maxLimitRequestRatio": {"memory": "3"}}]),
            &[
                "spec.limits[0].maxLimitRequestRatio[memory]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
            ],
        );
    }

    #[test]
    fn defaults_follow_from_the_bounds() {
        let mut range: LimitRange = serde_json::from_value(json!({"spec": {"limits": [{
            "type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}}]}}))
        .unwrap();
        range.set_defaults();
        let item = &range.spec.unwrap().limits[0];
        assert_eq!(json!(item.default), json!({"cpu": "1"}));
        assert_eq!(
            json!(item.default_request),
            json!({"cpu": "1", "memory": "1Mi"})
        );
    }
}
