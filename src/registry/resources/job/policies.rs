//! A job's policies for failures and successes: their defaults and their rules, in Kubernetes' words.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicyRule,
};

use super::super::super::field_error::Errors;
use super::super::super::path::Path;
use crate::api::names;

const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;
const MOST_FAILED: i32 = 100_000;
/// Above so many completions the bounds are tighter.
const MANY: i32 = 100_000;
const MOST_AT_ONCE: i32 = 10_000;
const LONGEST_INDEXES: usize = 64 * 1024;

pub(super) fn set_defaults(spec: &mut JobSpec) {
    if spec.backoff_limit_per_index.is_some() {
        spec.backoff_limit.get_or_insert(i32::MAX);
    }
    if spec.pod_failure_policy.is_some() {
        spec.pod_replacement_policy
            .get_or_insert_with(|| "Failed".to_owned());
    }
    set_pattern_defaults(spec);
}

/// What is filled in also in the template of a CronJob.
pub(in crate::registry::resources) fn set_pattern_defaults(spec: &mut JobSpec) {
    let rules = spec.pod_failure_policy.iter_mut();
    let rules = rules.flat_map(|policy| &mut policy.rules);
    let patterns = rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten());
    for pattern in patterns.filter(|pattern| pattern.status.is_empty()) {
        "True".clone_into(&mut pattern.status);
    }
}

pub(super) fn validate(path: &Path<'_>, spec: &JobSpec, errors: &mut Errors) {
    validate_per_index(path, spec, errors);
    let replacement: &[&str] = match &spec.pod_failure_policy {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    errors.one_of(
        &path.field("podReplacementPolicy"),
        spec.pod_replacement_policy.as_deref(),
        replacement,
    );
    if let Some(policy) = &spec.pod_failure_policy {
        let path = path.field("podFailurePolicy");
        let list = path.field("rules");
        if policy.rules.len() > MOST_RULES {
            errors.too_many(&list, policy.rules.len(), MOST_RULES as u64);
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            validate_failure(&list.index(index), spec, rule, errors);
        }
    }
    let Some(policy) = &spec.success_policy else {
        return;
    };
    let path = path.field("successPolicy");
    if !is_indexed(spec) {
        errors.invalid_json(&path, policy, "requires indexed completion mode");
        return;
    }
    let list = path.field("rules");
    if policy.rules.is_empty() {
        let rule = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&list, rule);
    } else if policy.rules.len() > MOST_RULES {
        errors.too_many(&list, policy.rules.len(), MOST_RULES as u64);
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        validate_success(&list.index(index), spec, rule, errors);
    }
}

pub(super) fn validate_update(path: &Path<'_>, new: &JobSpec, old: &JobSpec, errors: &mut Errors) {
    errors.immutable(
        &path.field("podFailurePolicy"),
        &new.pod_failure_policy,
        &old.pod_failure_policy,
    );
    errors.immutable(
        &path.field("backoffLimitPerIndex"),
        &new.backoff_limit_per_index,
        &old.backoff_limit_per_index,
    );
    errors.immutable(
        &path.field("successPolicy"),
        &new.success_policy,
        &old.success_policy,
    );
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn validate_per_index(path: &Path<'_>, spec: &JobSpec, errors: &mut Errors) {
    let (limit, most) = (spec.backoff_limit_per_index, spec.max_failed_indexes);
    let (limit_path, most_path) = (
        path.field("backoffLimitPerIndex"),
        path.field("maxFailedIndexes"),
    );
    errors.non_negative(&limit_path, limit.map(i64::from));
    errors.non_negative(&most_path, most.map(i64::from));
    if most.is_some() && limit.is_none() {
        errors.required(&limit_path, "when maxFailedIndexes is specified");
    }
    if !is_indexed(spec) {
        for (path, value) in [(&limit_path, limit), (&most_path, most)] {
            if let Some(value) = value {
                errors.invalid(path, value, "requires indexed completion mode");
            }
        }
        return;
    }
    let Some(completions) = spec.completions else {
        return;
    };
    if let Some(most) = most {
        if most > completions {
            errors.invalid(
                &most_path,
                most,
                "must be less than or equal to completions",
            );
        }
        if most > MOST_FAILED {
            let rule = format!("must be less than or equal to {MOST_FAILED}");
            errors.invalid(&most_path, most, &rule);
        }
    }
    if completions <= MANY || limit.is_none() {
        return;
    }
    if most.is_none() {
        let rule = format!("must be specified when completions is above {MANY}");
        errors.required(&most_path, &rule);
    }
    let parallelism = path.field("parallelism");
    for (path, value) in [(&parallelism, spec.parallelism), (&most_path, most)] {
        if let Some(value) = value.filter(|value| *value > MOST_AT_ONCE) {
            let rule = format!(
                "must be less than or equal to {MOST_AT_ONCE} when completions are above {MANY} and used with backoff limit per index"
            );
            errors.invalid(path, value, &rule);
        }
    }
}

fn validate_failure(
    path: &Path<'_>,
    spec: &JobSpec,
    rule: &PodFailurePolicyRule,
    errors: &mut Errors,
) {
    let action = path.field("action");
    match rule.action.as_str() {
        "" => errors.required(
            &action,
            "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
        ),
        "FailIndex" if spec.backoff_limit_per_index.is_none() => errors.invalid(
            &action,
            &rule.action,
            "requires the backoffLimitPerIndex to be set",
        ),
        other => errors.one_of(
            &action,
            Some(other),
            &["Count", "FailIndex", "FailJob", "Ignore"],
        ),
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    if let Some(wanted) = &rule.on_exit_codes {
        validate_codes(&path.field("onExitCodes"), spec, wanted, errors);
    }
    let list = path.field("onPodConditions");
    if patterns.len() > MOST_RULES {
        errors.too_many(&list, patterns.len(), MOST_RULES as u64);
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let at = list.index(index);
        if !names::is_qualified_name(&pattern.type_) {
            errors.invalid(
                &at.field("type"),
                &pattern.type_,
                names::QUALIFIED_NAME_RULE,
            );
        }
        let supported = &["False", "True", "Unknown"];
        errors.one_of(&at.field("status"), Some(&pattern.status), supported);
    }
    match (&rule.on_exit_codes, patterns.is_empty()) {
        (Some(_), false) => errors.invalid_whole(
            path,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        ),
        (None, true) => errors.invalid_whole(
            path,
            "specifying one of OnExitCodes and OnPodConditions is required",
        ),
        (Some(_), true) | (None, false) => {}
    }
}

fn validate_codes(
    path: &Path<'_>,
    spec: &JobSpec,
    wanted: &PodFailurePolicyOnExitCodesRequirement,
    errors: &mut Errors,
) {
    let operator = path.field("operator");
    if wanted.operator.is_empty() {
        errors.required(&operator, "valid values: [\"In\" \"NotIn\"]");
    } else {
        errors.one_of(&operator, Some(&wanted.operator), &["In", "NotIn"]);
    }
    let template = spec.template.spec.as_ref();
    let mut containers = template.into_iter().flat_map(|spec| {
        let first = spec.init_containers.iter().flatten();
        spec.containers.iter().chain(first)
    });
    if let Some(name) = &wanted.container_name
        && !containers.any(|container| container.name == *name)
    {
        errors.invalid(
            &path.field("containerName"),
            name,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let list = path.field("values");
    if wanted.values.is_empty() {
        errors.invalid_json(&list, &wanted.values, "at least one value is required");
    } else if wanted.values.len() > MOST_CODES {
        errors.too_many(&list, wanted.values.len(), MOST_CODES as u64);
    }
    let mut seen = BTreeSet::new();
    for (index, code) in wanted.values.iter().enumerate() {
        if *code == 0 && wanted.operator == "In" {
            let rule = "must not be 0 for the In operator";
            errors.invalid(&list.index(index), code, rule);
        }
        if !seen.insert(code) {
            errors.duplicate_json(&list.index(index), &(*code).into());
        }
    }
    if !wanted.values.is_sorted() {
        errors.invalid_json(&list, &wanted.values, "must be ordered");
    }
}

fn validate_success(
    path: &Path<'_>,
    spec: &JobSpec,
    rule: &SuccessPolicyRule,
    errors: &mut Errors,
) {
    let completions = spec.completions.unwrap_or(0);
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let rule = "at least one of succeededCount or succeededIndexes must be specified";
        errors.required(path, rule);
    }
    let mut total = None;
    if let Some(text) = &rule.succeeded_indexes {
        let at = path.field("succeededIndexes");
        if text.len() > LONGEST_INDEXES {
            errors.too_long(&at, LONGEST_INDEXES);
        }
        match count_indexes(text, completions) {
            Ok(count) => total = Some(count),
            Err(why) => {
                let rule = format!("error parsing succeededIndexes: {why}");
                errors.invalid(&at, text, &rule);
            }
        }
    }
    let Some(count) = rule.succeeded_count else {
        return;
    };
    let at = path.field("succeededCount");
    errors.non_negative(&at, Some(i64::from(count)));
    if count > completions {
        let rule = format!(
            "must be less than or equal to {completions} (the number of specified completions)"
        );
        errors.invalid(&at, count, &rule);
    }
    if let Some(total) = total.filter(|total| count > *total) {
        let rule = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.invalid(&at, count, &rule);
    }
}

/// How many indexes a text such as `1,3-5` names.
fn count_indexes(text: &str, completions: i32) -> Result<i32, String> {
    let (mut total, mut last) = (0, None);
    if text.is_empty() {
        return Ok(0);
    }
    for fragment in text.split(',') {
        let parts: Vec<&str> = fragment.split('-').collect();
        if parts.len() > 2 {
            return Err(format!(
                "the fragment {fragment:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let mut bounds = Vec::new();
        for part in parts {
            let index: i32 = part
                .parse()
                .map_err(|_| format!("cannot convert string to integer for index: {part:?}"))?;
            if index >= completions {
                return Err(format!("too large index: {part:?}"));
            }
            if let Some(last) = last.filter(|last| *last >= index) {
                return Err(format!(
                    "non-increasing order, previous: {last}, current: {index}"
                ));
            }
            last = Some(index);
            bounds.push(index);
        }
        total += bounds[bounds.len() - 1] - bounds[0] + 1;
    }
    Ok(total)
}
