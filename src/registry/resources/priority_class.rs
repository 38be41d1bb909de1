//! PriorityClasses: named priorities. The value of a class never changes, so that the priority of a
//! pod can be written into it at its birth.

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::priority::{self, DEFAULT_PREEMPTION, HIGHEST_OF_USERS, PREEMPTION_POLICIES};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::integer("Value"),
    Column::text("Global-Default"),
    Column::text("Age"),
    Column::text("PreemptionPolicy"),
];

impl Strategy for PriorityClass {
    fn set_defaults(&mut self) {
        self.preemption_policy
            .get_or_insert_with(|| DEFAULT_PREEMPTION.to_owned());
    }

    fn validate(&self, errors: &mut Errors) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let metadata = Path::Root.field("metadata");
        match priority::system_class(name) {
            Some(value) if value == self.value => {}
            Some(value) => {
                let rule = format!("the value of {name} is {value}");
                errors.forbidden(&Path::Root.field("value"), &rule);
            }
            None if name.starts_with("system-") => errors.forbidden(
                &metadata.field("name"),
                "priority class names with 'system-' prefix are reserved for system use only",
            ),
            None if self.value > HIGHEST_OF_USERS => errors.forbidden(
                &Path::Root.field("value"),
                &format!("maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}"),
            ),
            None => {}
        }
        errors.one_of(
            &Path::Root.field("preemptionPolicy"),
            self.preemption_policy.as_deref(),
            PREEMPTION_POLICIES,
        );
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        if self.value != old.value {
            let rule = "may not be changed in an update.";
            errors.forbidden(&Path::Root.field("value"), rule);
        }
        let path = Path::Root.field("preemptionPolicy");
        errors.immutable(&path, &self.preemption_policy, &old.preemption_policy);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            cell::name(&self.metadata),
            self.value.into(),
            self.global_default.unwrap_or(false).into(),
            cell::age(&self.metadata, now),
            cell::or_none(self.preemption_policy.as_deref()),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "sample"},
            "value": 1000})
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn users_stay_below_the_system() {
        check::<PriorityClass>("/value", &json!(-5), &[]);
        check::<PriorityClass>(
            "/value",
            &json!(1_000_000_001),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        );
        check::<PriorityClass>(
            "/metadata/name",
            &json!("system-mine"),
            &[
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only",
            ],
        );
        check::<PriorityClass>(
            "/preemptionPolicy",
            &json!("Sometimes"),
            &[
                "preemptionPolicy: Unsupported value: \"Sometimes\": supported values: \"Never\", \"PreemptLowerPriority\"",
            ],
        );
    }
}
