//! JSON Patch (RFC 6902), with Go's reading of it where clients rely on that.
//!
//! `{"op": "test", "path": P, "value": null}` succeeds when nothing is at P: Kubernetes' library
//! does so, and clients guard "add if absent" with it.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::super::error::Error;
use super::Refusal;

const MAX_OPERATIONS: usize = 10_000;

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
    for operation in patch.iter() {
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
    fn what_does_not_fit_is_refused() {
        assert!(patched(json!({}), json!([{"op": "remove", "path": "/x"}])).is_err());
        assert!(parse(json!([{"op": "bake", "path": "/x"}])).is_err());
        assert!(parse(json!({"op": "add"})).is_err());
    }
}
