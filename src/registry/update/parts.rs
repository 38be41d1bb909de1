//! What a write of one part makes of the whole object, and whether that counts as a new generation.

use serde_json::Value;

use super::Part;
use crate::api::object;

/// The object as it shall be: the part that is written from `wanted`, the rest from `current`.
pub(super) fn merge_parts(part: Part, current: &Value, mut wanted: Value) -> Value {
    let take = |value: &mut Value, field: &str| value.as_object_mut()?.remove(field);
    match part {
        Part::Main => {
            take(&mut wanted, "status");
            if let Some(status) = current.get("status") {
                wanted["status"] = status.clone();
            }
            wanted
        }
        Part::Whole => wanted,
        Part::Status => {
            let mut merged = current.clone();
            take(&mut merged, "status");
            if let Some(status) = take(&mut wanted, "status") {
                merged["status"] = status;
            }
            merged
        }
        Part::Finalize => {
            let mut merged = current.clone();
            let finalizers = wanted.pointer_mut("/spec/finalizers").map(Value::take);
            merged["spec"]["finalizers"] = finalizers.unwrap_or_else(|| Value::Array(Vec::new()));
            merged
        }
        Part::EphemeralContainers => {
            let mut merged = current.clone();
            let containers = wanted.pointer_mut("/spec/ephemeralContainers");
            let containers = containers.map(Value::take).filter(|it| !it.is_null());
            if let (Some(spec), Some(containers)) = (merged["spec"].as_object_mut(), containers) {
                spec.insert("ephemeralContainers".to_owned(), containers);
            } else {
                take(&mut merged["spec"], "ephemeralContainers");
            }
            merged
        }
    }
}

/// Whether anything but metadata and status differs.
pub(super) fn is_spec_changed(part: Part, new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return new != old;
    };
    let counts = |field: &&String| match field.as_str() {
        "metadata" => false,
        "status" => part == Part::Whole,
        _ => true,
    };
    new.keys()
        .chain(old.keys())
        .filter(counts)
        .any(|field| new.get(field) != old.get(field))
}

/// Counts a change, on kinds that count.
pub(in crate::registry) fn bump_generation(object: &mut Value) {
    let metadata = object::metadata_mut(object);
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}
