//! From applies on the client's side to applies on the server: what the former owned becomes the
//! latter's claim, so that a field that the file no longer names is removed, as kubectl does it.
//!
//! The server cannot know of itself that `wasmorch-client-side-apply` and `wasmorch` are one user.
//! Looking after the apply rather than before costs nothing where there is nothing to take over.

use serde_json::{Map, Value, json};

use super::failure::Result;
use super::merge::LAST_APPLIED;
use super::session::{Session, query};

/// Who writes when `apply` works on the client's side.
pub(super) const CLIENT_SIDE: &str = "wasmorch-client-side-apply";
/// Who writes when the server applies, unless the user says otherwise.
pub(super) const SERVER_SIDE: &str = "wasmorch";
/// Who owns the annotation once nobody applies on the client's side any more.
const ANNOTATION_KEEPER: &str = "wasmorch-last-applied";
/// How often somebody else may write in between.
const ATTEMPTS: usize = 5;

/// Gives `manager` what applies on the client's side owned of a live object; whether there was any.
pub(super) async fn take_over(
    session: &Session,
    path: &str,
    mut live: Value,
    manager: &str,
) -> Result<bool> {
    if claims(&live, manager).is_none() {
        return Ok(false);
    }
    // The server keeps the annotation true for its default managers only.
    if manager == SERVER_SIDE
        && let Some(annotation) = annotation(&live)
    {
        let options = query(&[("fieldManager", ANNOTATION_KEEPER)]);
        live = session
            .apply(&format!("{path}{options}"), &annotation)
            .await?;
    }
    for attempt in 1.. {
        let Some(claims) = claims(&live, manager) else {
            return Ok(false);
        };
        let version = &live["metadata"]["resourceVersion"];
        let patch = json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": claims},
            // Not `test`: a write in between is to be a conflict.
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ]);
        match session.json_patch(path, &patch).await {
            Ok(_) => break,
            Err(failure) if failure.is_conflict() && attempt < ATTEMPTS => {}
            Err(failure) => return Err(failure),
        }
        live = session.get(path).await?;
    }
    Ok(true)
}

/// The object with nothing but what was remembered in it; none if somebody keeps that already.
fn annotation(live: &Value) -> Option<Value> {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str()?;
    let mut entries = live["metadata"]["managedFields"].as_array()?.iter();
    if entries.any(|entry| entry["operation"] == "Apply" && owns_annotation(entry)) {
        return None;
    }
    let mut metadata = json!({"name": live["metadata"]["name"]});
    if let Some(namespace) = live["metadata"].get("namespace") {
        metadata["namespace"] = namespace.clone();
    }
    metadata["annotations"][LAST_APPLIED] = text.into();
    Some(json!({"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}))
}

fn owns_annotation(entry: &Value) -> bool {
    let annotations = &entry["fieldsV1"]["f:metadata"]["f:annotations"];
    annotations.get(format!("f:{LAST_APPLIED}")).is_some()
}

/// The object's `managedFields` once `manager` has what the client's side owned; none if that is
/// nothing.
fn claims(live: &Value, manager: &str) -> Option<Vec<Value>> {
    let mut entries = live["metadata"]["managedFields"].as_array()?.clone();
    let is_update = |entry: &Value| entry["operation"] == "Update" && is_whole(entry);
    // Whoever wrote the annotation last is the client's side, kubectl's perhaps.
    let writers = entries.iter();
    let mut writers: Vec<_> = writers
        .filter(|it| is_update(it) && owns_annotation(it))
        .collect();
    writers.sort_by_key(|entry| entry["time"].as_str().map(str::to_owned));
    let writer = writers.pop().and_then(|entry| entry["manager"].as_str());
    let writer = writer.unwrap_or(CLIENT_SIDE).to_owned();
    let is_writers = |entry: &Value| is_update(entry) && entry["manager"] == writer.as_str();
    let is_managers = |entry: &Value| {
        entry["operation"] == "Apply" && is_whole(entry) && entry["manager"] == manager
    };
    if !entries.iter().any(is_writers) {
        return None;
    }
    if !entries.iter().any(is_managers)
        && let Some(entry) = entries.iter_mut().find(|entry| is_writers(entry))
    {
        entry["operation"] = "Apply".into();
        entry["manager"] = manager.into();
    }
    let version = entries
        .iter()
        .find(|entry| is_managers(entry))
        .map(|entry| entry["apiVersion"].clone());
    let owned = entries
        .iter()
        .find(|entry| is_writers(entry) && Some(&entry["apiVersion"]) == version.as_ref())
        .map(|entry| entry["fieldsV1"].clone());
    if let (Some(owned), Some(entry)) = (owned, entries.iter_mut().find(|it| is_managers(it))) {
        add(&mut entry["fieldsV1"], &owned);
    }
    entries.retain(|entry| !is_writers(entry));
    Some(entries)
}

/// Of the object itself, not of a subresource.
fn is_whole(entry: &Value) -> bool {
    entry["subresource"].as_str().unwrap_or_default().is_empty()
}

/// Adds a set of fields to another: both are trees of names.
fn add(fields: &mut Value, more: &Value) {
    let Some(more) = more.as_object() else {
        return;
    };
    if !fields.is_object() {
        *fields = Value::Object(Map::new());
    }
    for (name, below) in more {
        add(&mut fields[name], below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: impl Into<Value>) -> Value {
        let fields = fields.into();
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn live(entries: &[Value]) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "a", "namespace": "default", "resourceVersion": "7",
            "annotations": {LAST_APPLIED: "{}"}, "managedFields": entries,
        }})
    }

    fn remembering(mut fields: Value) -> Value {
        fields["f:metadata"]["f:annotations"][format!("f:{LAST_APPLIED}")] = json!({});
        fields
    }

    #[test]
    fn claims_of_the_clients_side_go_to_the_server_side() {
        let data = |names: &[&str]| {
            let names = names.iter().map(|name| (format!("f:{name}"), json!({})));
            json!({"f:data": names.collect::<Map<_, _>>()})
        };
        let ours = |names: &[&str]| entry("wasmorch", "Apply", data(names));
        let theirs = entry("other", "Update", data(&["z"]));
        let mut of_status = entry(CLIENT_SIDE, "Update", data(&["s"]));
        of_status["subresource"] = "status".into();
        let mut old = entry(CLIENT_SIDE, "Update", data(&["b"]));
        old["apiVersion"] = "v1beta1".into();
        for (before, expected) in [
            (vec![], None),
            (vec![ours(&["a"]), theirs.clone()], None),
            (vec![ours(&["a"]), of_status], None),
            // Both: one claim of all.
            (
                vec![
                    theirs.clone(),
                    entry(CLIENT_SIDE, "Update", data(&["a", "b"])),
                    ours(&["a", "c"]),
                ],
                Some(vec![theirs.clone(), ours(&["a", "c", "b"])]),
            ),
            // Only the client's side: it becomes the claim.
            (
                vec![entry(CLIENT_SIDE, "Update", data(&["a"])), theirs.clone()],
                Some(vec![ours(&["a"]), theirs]),
            ),
            // Fields of another version cannot be compared, and nobody holds them any more.
            (vec![ours(&["a"]), old], Some(vec![ours(&["a"])])),
        ] {
            assert_eq!(claims(&live(&before), "wasmorch"), expected, "{before:?}");
        }
    }

    /// kubectl's entry is known by the annotation.
    #[test]
    fn whoever_remembered_is_the_clients_side() {
        let theirs = entry(
            "kubectl-client-side-apply",
            "Update",
            remembering(json!({})),
        );
        let claimed = claims(&live(&[theirs]), "me").unwrap();
        assert_eq!(claimed, [entry("me", "Apply", remembering(json!({})))]);
    }

    #[test]
    fn the_annotation_is_kept_by_somebody_of_its_own() {
        let updated = live(&[entry(CLIENT_SIDE, "Update", remembering(json!({})))]);
        let kept = annotation(&updated).unwrap();
        assert_eq!(
            kept["metadata"],
            json!({"name": "a", "namespace": "default", "annotations": {LAST_APPLIED: "{}"}})
        );
        let applied = live(&[entry("keeper", "Apply", remembering(json!({})))]);
        assert_eq!(annotation(&applied), None);
    }
}
