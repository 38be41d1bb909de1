//! Many patterns in one schema must be small ones: each that is met is kept compiled.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::schema;
use crate::registry::field_error::Errors;
use crate::registry::path::Path;

pub(super) fn check(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut found = BTreeMap::new();
    collect(schema, &mut found);
    let count = found.values().sum();
    let share = schema::share_of_patterns(count);
    if share == schema::share_of_patterns(1) {
        return;
    }
    let is_larger = |pattern: &&&str| schema::compile_within(pattern, share).is_err();
    if let Some(larger) = found.keys().find(is_larger) {
        errors.forbidden(
            path,
            &format!("it has {count} patterns, each of which may take {share} bytes when compiled; {larger:?} takes more"),
        );
    }
}

fn collect<'a>(schema: &'a Value, found: &mut BTreeMap<&'a str, usize>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(pattern)) = fields.get("pattern") {
                *found.entry(pattern).or_default() += 1;
            }
            fields.values().for_each(|inner| collect(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
