//! Validation of custom resources: Kubernetes' texts, which are those of its OpenAPI validator with
//! their paths taken out into field errors.
//!
//! The cost is bounded by schema times object, both bounded; after [`MOST`] complaints it stops.

use serde_json::{Map, Value};

use super::format;
use super::schema::{Additional, Kind, Rules, Schema};
use crate::registry::field_error::Errors;
use crate::registry::path::Path;

/// More complaints about one object are not listed.
const MOST: usize = 100;
/// The path of complaints that are about no field in particular, as Kubernetes prints it.
const NOWHERE: &str = "<nil>";

/// Judges an object; its metadata only by what the schema says of it.
pub(crate) fn validate_object(
    schema: &Schema,
    fields: &Map<String, Value>,
    metadata: &Value,
    errors: &mut Errors,
) {
    let mut checker = Checker { errors };
    if let Some(metadata_schema) = schema.properties.get("metadata") {
        let mut known = metadata.clone();
        if let Some(fields) = known.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        checker.value(metadata_schema, &known, &Path::Root.field("metadata"));
    }
    checker.map(schema, true, fields, &Path::Root);
    if let Some(rules) = &schema.rules {
        let mut whole = fields.clone();
        whole.insert("metadata".to_owned(), metadata.clone());
        let whole = Value::Object(whole);
        checker.required(rules, &whole, &Path::Root);
        checker.counts(rules, &whole, &Path::Root);
        checker.choices(rules, &whole, &Path::Root);
    }
}

/// Judges one value, say a default.
pub(crate) fn validate_value(schema: &Schema, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    Checker { errors }.value(schema, value, path);
}

struct Checker<'a> {
    errors: &'a mut Errors,
}

impl Checker<'_> {
    fn is_full(&self) -> bool {
        self.errors.0.len() >= MOST
    }

    /// `Invalid value: …: spec.x in body should …`.
    fn should(&mut self, path: &Path<'_>, value: &Value, what: &str) {
        let detail = format!("{path} in body should {what}");
        self.errors.invalid_json(path, value, &detail);
    }

    fn wrong_type(&mut self, path: &Path<'_>, shown: &str, wanted: &str) {
        let detail = format!("{path} in body must be of type {wanted}: {shown:?}");
        self.errors.type_invalid(path, shown, &detail);
    }

    fn value(&mut self, schema: &Schema, value: &Value, path: &Path<'_>) {
        if self.is_full() || (value.is_null() && schema.nullable) {
            return;
        }
        if let Some(wanted) = mismatch(schema.kind, value) {
            self.wrong_type(path, type_of(value), wanted);
        }
        match value {
            Value::Object(fields) => self.map(schema, schema.embedded, fields, path),
            Value::Array(items) => {
                if let Some(schema) = schema.items.as_deref() {
                    for (index, item) in items.iter().enumerate() {
                        self.value(schema, item, &path.index(index));
                    }
                }
                self.list_type(schema, items, path);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        if let Some(rules) = &schema.rules {
            self.rules(rules, value, path);
        }
    }

    fn map(
        &mut self,
        schema: &Schema,
        is_resource: bool,
        fields: &Map<String, Value>,
        path: &Path<'_>,
    ) {
        for (name, value) in fields {
            if is_resource && name == "metadata" {
                continue;
            }
            let inner = schema.properties.get(name).or(match &schema.additional {
                Some(Additional::Schema(schema)) => Some(schema),
                Some(Additional::Anything) | None => None,
            });
            if let Some(schema) = inner {
                self.value(schema, value, &path.field(name));
            }
        }
        if is_resource && !matches!(path, Path::Root) {
            for name in ["apiVersion", "kind"] {
                let is_given = fields.get(name).is_some_and(|it| it.as_str() != Some(""));
                if !is_given {
                    self.errors.required(&path.field(name), "must not be empty");
                }
            }
        }
    }

    /// Items that must be there once.
    fn list_type(&mut self, schema: &Schema, items: &[Value], path: &Path<'_>) {
        use crate::registry::merge_keys::Shape;

        let mut seen = std::collections::BTreeSet::new();
        match schema.shape() {
            Shape::Set { .. } => {
                for (index, item) in items.iter().enumerate() {
                    if !seen.insert(item.to_string()) {
                        self.errors.duplicate_json(&path.index(index), item);
                    }
                }
            }
            Shape::Items { keys, .. } => {
                for (index, item) in items.iter().enumerate() {
                    let key: Map<String, Value> = keys
                        .names()
                        .filter_map(|name| Some((name.to_owned(), keys.value(item, name)?)))
                        .collect();
                    let key = Value::Object(key);
                    if !seen.insert(key.to_string()) {
                        self.errors.duplicate_json(&path.index(index), &key);
                    }
                }
            }
            Shape::Plain | Shape::Atomic | Shape::PatchOnly(_) => {}
        }
    }

    fn rules(&mut self, rules: &Rules, value: &Value, path: &Path<'_>) {
        if let Some(allowed) = &rules.one_of_values
            && !allowed.iter().any(|one| is_equal(one, value))
        {
            let words: Vec<String> = allowed
                .iter()
                .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
                .collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.errors.not_supported_json(path, value, &words);
        }
        match value {
            Value::String(text) => self.text(rules, text, value, path),
            Value::Number(number) => {
                self.number(rules, number.as_f64().unwrap_or(f64::NAN), value, path);
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
        }
        self.required(rules, value, path);
        self.counts(rules, value, path);
        self.choices(rules, value, path);
    }

    fn text(&mut self, rules: &Rules, text: &str, value: &Value, path: &Path<'_>) {
        let length = text.chars().count() as u64;
        if let Some(most) = rules.max_length.filter(|most| length > *most) {
            self.errors
                .too_long(path, usize::try_from(most).unwrap_or(usize::MAX));
        }
        if let Some(least) = rules.min_length.filter(|least| length < *least) {
            self.should(path, value, &format!("be at least {least} chars long"));
        }
        if let Some(pattern) = rules.pattern.as_ref().filter(|it| !it.is_match(text)) {
            self.should(path, value, &format!("match '{}'", pattern.text));
        }
        if let Some(format) = rules
            .format
            .as_deref()
            .filter(|it| !format::is_of(it, text))
        {
            self.wrong_type(path, text, format);
        }
    }

    fn number(&mut self, rules: &Rules, number: f64, value: &Value, path: &Path<'_>) {
        if let Some(most) = rules.maximum {
            if rules.exclusive_maximum && number >= most {
                self.should(path, value, &format!("be less than {most}"));
            } else if number > most {
                self.should(path, value, &format!("be less than or equal to {most}"));
            }
        }
        if let Some(least) = rules.minimum {
            if rules.exclusive_minimum && number <= least {
                self.should(path, value, &format!("be greater than {least}"));
            } else if number < least {
                self.should(path, value, &format!("be greater than or equal to {least}"));
            }
        }
        if let Some(factor) = rules.multiple_of.filter(|factor| *factor > 0.0) {
            let times = number / factor;
            if (times - times.round()).abs() > f64::EPSILON * times.abs().max(1.0) {
                self.should(path, value, &format!("be a multiple of {factor}"));
            }
        }
    }

    fn required(&mut self, rules: &Rules, value: &Value, path: &Path<'_>) {
        let Some(fields) = value.as_object() else {
            return;
        };
        for name in &rules.required {
            let is_implied = matches!(path, Path::Root)
                && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
            if !is_implied && !fields.contains_key(name) {
                self.errors.required(&path.field(name), "");
            }
        }
    }

    fn counts(&mut self, rules: &Rules, value: &Value, path: &Path<'_>) {
        let (count, least, most, what) = match value {
            Value::Array(items) => (items.len(), rules.min_items, rules.max_items, "items"),
            Value::Object(fields) => (
                fields.len(),
                rules.min_properties,
                rules.max_properties,
                "properties",
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
        };
        if let Some(most) = most.filter(|most| count as u64 > *most) {
            self.errors.too_many(path, count, most);
        }
        if let Some(least) = least.filter(|least| (count as u64) < *least) {
            self.should(path, value, &format!("have at least {least} {what}"));
        }
    }

    /// `allOf`, `anyOf`, `oneOf`, `not`.
    fn choices(&mut self, rules: &Rules, value: &Value, path: &Path<'_>) {
        let holds = |schema: &Schema| {
            let mut errors = Errors::default();
            Checker {
                errors: &mut errors,
            }
            .value(schema, value, path);
            errors.0.is_empty()
        };
        let place = path.to_string();
        for schema in &rules.all_of {
            self.value(schema, value, path);
        }
        if !rules.any_of.is_empty() && !rules.any_of.iter().any(&holds) {
            let text = format!("{place:?} must validate at least one schema (anyOf)");
            self.errors.nowhere(NOWHERE, &text);
        }
        if !rules.one_of.is_empty() {
            let valid = rules.one_of.iter().filter(|schema| holds(schema)).count();
            let found = match valid {
                0 => "Found none valid".to_owned(),
                _ => format!("Found {valid} valid alternatives"),
            };
            if valid != 1 {
                let text =
                    format!("{place:?} must validate one and only one schema (oneOf). {found}");
                self.errors.nowhere(NOWHERE, &text);
            }
        }
        if rules.not.as_deref().is_some_and(holds) {
            let text = format!("{place:?} must not validate the schema (not)");
            self.errors.nowhere(NOWHERE, &text);
        }
    }
}

/// The type that was asked for, if the value is of another.
fn mismatch(kind: Kind, value: &Value) -> Option<&'static str> {
    let is_integer = |value: &Value| {
        value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|it| it.fract() == 0.0)
    };
    let (is_good, wanted) = match kind {
        Kind::Any => return None,
        Kind::IntOrString => (value.is_string() || is_integer(value), "integer,string"),
        Kind::Object => (value.is_object(), "object"),
        Kind::Array => (value.is_array(), "array"),
        Kind::String => (value.is_string(), "string"),
        Kind::Integer => (is_integer(value), "integer"),
        Kind::Number => (value.is_number(), "number"),
        Kind::Boolean => (value.is_boolean(), "boolean"),
    };
    (!is_good).then_some(wanted)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Equal, also where a number is written otherwise.
fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests;
