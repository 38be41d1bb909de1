//! JSON Patch (RFC 6902), with Go's reading of it where clients rely on that.
//!
//! `{"op": "test", "path": P, "value": null}` succeeds when nothing is at P: Kubernetes' library
//! does so, and clients guard "add if absent" with it.
//!
//! A short patch can ask for much: what it copies onto itself doubles each time. So what all copies and
//! moves take together is bounded, as in Kubernetes, and so is how deep the result is: a deeper object
//! could be written and never be read again.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::super::error::Error;
use super::Refusal;

const MAX_OPERATIONS: usize = 10_000;
/// What the copies and moves of one patch may come to, in bytes of JSON: about the largest object.
const MAX_COPIED: usize = 3 << 20;
/// As deep as the parser of JSON goes.
const MAX_DEPTH: usize = 127;

pub(super) fn parse(value: Value) -> Result<Patch, Error> {
    let patch: Patch = serde_json::from_value(value)
        .map_err(|error| Error::BadRequest(format!("error decoding patch: {error}")))?;
    if patch.len() > MAX_OPERATIONS {
        return Err(Error::BadRequest(format!(
            "the allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            patch.len()
        )));
    }
    Ok(patch)
}

pub(super) fn apply(mut object: Value, patch: &Patch) -> Result<Value, Refusal> {
    let mut copied = 0;
    for operation in patch.iter() {
        check(&object, operation, &mut copied)?;
        if tests_for_absence(operation) && object.pointer(operation.path().as_str()).is_none() {
            continue;
        }
        json_patch::patch_unsafe(&mut object, std::slice::from_ref(operation)).map_err(
            |error| {
                Refusal::Unfit(format!(
                    "the server rejected our request due to an error in our request: {}",
                    error.kind
                ))
            },
        )?;
    }
    Ok(object)
}

/// Refuses an operation that would make too much of too little.
fn check(object: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), Refusal> {
    let added = match operation {
        PatchOperation::Copy(copy) => object.pointer(copy.from.as_str()),
        PatchOperation::Move(moved) => object.pointer(moved.from.as_str()),
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    };
    let Some(added) = added else {
        return Ok(());
    };
    let (size, depth) = measure(added);
    if matches!(operation, PatchOperation::Copy(_) | PatchOperation::Move(_)) {
        *copied += size;
    }
    if *copied > MAX_COPIED {
        return Err(Refusal::Unfit(format!(
            "unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
        )));
    }
    let above = operation.path().as_str().matches('/').count();
    if above + depth > MAX_DEPTH {
        return Err(Refusal::Unfit(format!(
            "the patched object would be more than {MAX_DEPTH} levels deep"
        )));
    }
    Ok(())
}

/// About how many bytes of JSON a value is, and how many levels of maps and lists.
fn measure(value: &Value) -> (usize, usize) {
    let together = |inner: &mut dyn Iterator<Item = (usize, &Value)>| {
        inner.fold((2, 1), |(size, depth), (key, value)| {
            let (own, below) = measure(value);
            (size + key + own + 1, depth.max(below + 1))
        })
    };
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => (8, 0),
        Value::String(text) => (text.len() + 2, 0),
        Value::Array(items) => together(&mut items.iter().map(|item| (0, item))),
        Value::Object(fields) => {
            together(&mut fields.iter().map(|(name, value)| (name.len() + 3, value)))
        }
    }
}

fn tests_for_absence(operation: &PatchOperation) -> bool {
    matches!(operation, PatchOperation::Test(test) if test.value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(object: Value, patch: Value) -> Result<Value, Refusal> {
        apply(object, &parse(patch).unwrap())
    }

    #[test]
    fn a_null_test_succeeds_on_nothing() {
        let add = json!([{"op": "test", "path": "/a/b", "value": null}, {"op": "add", "path": "/c", "value": 1}]);
        assert_eq!(patched(json!({}), add.clone()), Ok(json!({"c": 1})));
        assert_eq!(
            patched(json!({"a": {"b": null}}), add.clone()),
            Ok(json!({"a": {"b": null}, "c": 1}))
        );
        assert!(patched(json!({"a": {"b": 2}}), add).is_err());
    }

    #[test]
    fn a_short_patch_makes_no_large_object() {
        let refusal = |object: Value, patch: Vec<Value>| match patched(object, Value::Array(patch))
        {
            Err(Refusal::Unfit(message)) => message,
            other => panic!("{other:?}"),
        };
        let copy = |from: &str, path: &str| json!({"op": "copy", "from": from, "path": path});
        let doubling = (0..40).map(|step| copy("/a", &format!("/a/{step}")));
        let message = refusal(json!({"a": {"text": "x".repeat(100)}}), doubling.collect());
        assert!(message.contains("exceeding the limit 3145728"), "{message}");
        // Small, and twice as deep each time.
        let deepening = (0..20).map(|step| copy("/a", &"/a".repeat((1 << step) + 1)));
        let message = refusal(json!({"a": {}}), deepening.collect());
        assert!(message.contains("127 levels deep"), "{message}");
        let few = json!([copy("/a", "/b"), copy("/a", "/c")]);
        let object = json!({"a": "x"});
        assert_eq!(
            patched(object, few),
            Ok(json!({"a": "x", "b": "x", "c": "x"}))
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(patched(json!({}), json!([{"op": "remove", "path": "/x"}])).is_err());
        assert!(parse(json!([{"op": "bake", "path": "/x"}])).is_err());
        assert!(parse(json!({"op": "add"})).is_err());
    }
}
