//! What every kind does alike, by either way. Each behaviour makes its own objects and removes them.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use serde_json::{Value, json};

use super::door::{APPLY, Door, JSON_PATCH, MERGE, STRATEGIC, Way};
use super::world::{World, is_named_by_content, name_of, object};

/// Calls a behaviour for each row by each way, and tells all for which it does not hold.
pub(super) async fn each(behaviour: impl AsyncFn(Door<'_>)) {
    let mut world = World::new().await;
    let mut failed = Vec::new();
    for (group, version, plural) in world.names() {
        for way in [Way::Http, Way::Registry] {
            let row = world.registry.find(group, version, plural).unwrap();
            let door = Door {
                world: &world,
                way,
                row,
            };
            let tried = AssertUnwindSafe(behaviour(door)).catch_unwind().await;
            if tried.is_err() {
                failed.push(format!("{row:?} by {way:?}"));
                world = World::new().await;
            }
        }
    }
    assert!(failed.is_empty(), "not so for {}", failed.join(", "));
}

impl Door<'_> {
    /// Makes the `index`th object of this row.
    pub(super) async fn made(&self, index: usize) -> Value {
        self.create(&object(self.row, index), &[]).await.object()
    }

    /// Deletes an object and takes away what holds it.
    pub(super) async fn remove(&self, name: &str) {
        let deleted = self.delete(name, &Value::Null).await.object();
        if deleted["kind"] != "Status" {
            self.release(deleted).await;
        }
        assert_eq!(self.get(name).await.code, 404, "{self:?}");
    }

    async fn release(&self, mut held: Value) {
        let name = name_of(&held).to_owned();
        held["metadata"]["finalizers"] = json!([]);
        let below = self.row.subresource("finalize").map(|_| "finalize");
        if below.is_some() {
            held["spec"]["finalizers"] = json!([]);
            let unmarked = json!({"metadata": {"finalizers": null}});
            let unmarked = self.patch(&name, (MERGE, None), &unmarked, &[]).await;
            unmarked.object();
            held["metadata"]["resourceVersion"] = Value::Null;
        }
        self.update(&name, below, &held, &[]).await.object();
    }
}

/// The causes' fields of a refusal.
fn fields(body: &Value) -> Vec<&str> {
    let causes = body["details"]["causes"].as_array();
    let causes = causes.into_iter().flatten();
    causes.filter_map(|cause| cause["field"].as_str()).collect()
}

pub(super) fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap();
    text.parse().unwrap()
}

/// Kinds whose changes Kubernetes does not count.
const UNCOUNTED: [&str; 8] = [
    "LimitRange",
    "Lease",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ResourceQuota",
    "Service",
];

#[tokio::test]
async fn created_once_with_metadata_of_the_server() {
    each(async |door| {
        let row = door.row;
        let mut sent = object(row, 1);
        sent["metadata"]["uid"] = json!("mine");
        sent["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
        sent["metadata"]["generation"] = json!(7);
        sent["status"] = json!({});
        let answer = door.create(&sent, &[]).await;
        assert_eq!(answer.code, 201, "{door:?} {answer:?}");
        let made = answer.object();
        assert_eq!(made["kind"], row.kind, "{door:?}");
        assert_eq!(made["apiVersion"], row.api_version(), "{door:?}");
        assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
        assert_ne!(
            made["metadata"]["creationTimestamp"],
            "2001-01-01T00:00:00Z"
        );
        assert!(made["metadata"].get("selfLink").is_none());
        let is_counted = made.get("spec").is_some() && !UNCOUNTED.contains(&row.kind);
        let generation = if is_counted { json!(1) } else { Value::Null };
        assert_eq!(made["metadata"]["generation"], generation, "{door:?}");
        let again = door.create(&object(row, 1), &[]).await;
        assert_eq!(
            (again.code, again.reason()),
            (409, "AlreadyExists"),
            "{door:?}"
        );
        assert_eq!(door.get(name_of(&made)).await.object(), made, "{door:?}");
        let mut stale = object(row, 2);
        stale["metadata"]["resourceVersion"] = json!("5");
        let stale = door.create(&stale, &[]).await;
        assert!(matches!(stale.code, 400 | 422), "{door:?} {stale:?}");
        door.remove(name_of(&made)).await;
    })
    .await;
}

#[tokio::test]
async fn a_generated_name_is_new_each_time() {
    each(async |door| {
        let mut sent = object(door.row, 1);
        sent["metadata"].as_object_mut().unwrap().remove("name");
        let nameless = door.create(&sent, &[]).await;
        assert_eq!(nameless.code, 422, "{door:?} {nameless:?}");
        assert!(
            fields(&nameless.body).contains(&"metadata.name"),
            "{door:?} {nameless:?}"
        );
        if is_named_by_content(door.row) {
            return;
        }
        sent["metadata"]["generateName"] = json!("made-");
        let one = door.create(&sent, &[]).await.object();
        let two = door.create(&sent, &[]).await.object();
        for made in [&one, &two] {
            assert!(name_of(made).starts_with("made-"), "{door:?}");
            assert_eq!(name_of(made).len(), 10, "{door:?}");
        }
        assert_ne!(name_of(&one), name_of(&two));
        door.remove(name_of(&one)).await;
        door.remove(name_of(&two)).await;
    })
    .await;
}

#[tokio::test]
async fn unknown_fields_are_refused_named_or_dropped() {
    each(async |door| {
        let mut odd = object(door.row, 1);
        odd["metadata"]["colour"] = json!("blue");
        let strict = door.create(&odd, &[("fieldValidation", "Strict")]).await;
        assert_eq!(
            (strict.code, strict.reason()),
            (400, "BadRequest"),
            "{door:?}"
        );
        assert_eq!(
            strict.body["message"], "strict decoding error: unknown field \"metadata.colour\"",
            "{door:?}"
        );
        for (validation, count) in [("Warn", 1), ("Ignore", 0), ("", 1)] {
            let mut options = vec![("dryRun", "All")];
            if !validation.is_empty() {
                options.push(("fieldValidation", validation));
            }
            let made = door.create(&odd, &options).await;
            assert_eq!(made.code, 201, "{door:?} {made:?}");
            assert_eq!(made.warnings.len(), count, "{door:?} {made:?}");
            assert!(made.body["metadata"].get("colour").is_none(), "{door:?}");
        }
        let made = door.made(1).await;
        odd["metadata"]["resourceVersion"] = Value::Null;
        let name = name_of(&made);
        let refused = door.update(name, None, &odd, &[("fieldValidation", "Strict")]);
        assert_eq!(refused.await.code, 400, "{door:?}");
        let patch = json!({"metadata": {"colour": "blue"}});
        let strict = [("fieldValidation", "Strict")];
        let refused = door.patch(name, (MERGE, None), &patch, &strict).await;
        assert!(matches!(refused.code, 400 | 422), "{door:?} {refused:?}");
        let warned = door.patch(name, (MERGE, None), &patch, &[]).await;
        assert_eq!(
            (warned.code, warned.warnings.len()),
            (200, 1),
            "{door:?} {warned:?}"
        );
        assert_eq!(revision(&warned.body), revision(&made), "{door:?}");
        door.remove(name).await;
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_is_judged_and_leaves_nothing() {
    each(async |door| {
        const DRY: &[(&str, &str)] = &[("dryRun", "All")];
        let before = door.world.revision();
        let made = door.create(&object(door.row, 1), DRY).await;
        assert_eq!(made.code, 201, "{door:?} {made:?}");
        assert_eq!(door.get(name_of(&made.body)).await.code, 404, "{door:?}");
        assert_eq!(door.world.revision(), before, "{door:?}");
        let made = door.made(1).await;
        let before = door.world.revision();
        let name = name_of(&made);
        let mut changed = made.clone();
        changed["metadata"]["annotations"] = json!({"note": "1"});
        let updated = door.update(name, None, &changed, DRY).await.object();
        assert_eq!(updated["metadata"]["annotations"]["note"], "1", "{door:?}");
        let patch = json!({"metadata": {"annotations": {"note": "2"}}});
        let patched = door.patch(name, (MERGE, None), &patch, DRY).await.object();
        assert_eq!(patched["metadata"]["annotations"]["note"], "2", "{door:?}");
        let deleted = door.delete(name, &json!({"dryRun": ["All"]})).await;
        assert_eq!(deleted.code, 200, "{door:?} {deleted:?}");
        let options = [DRY[0], ("fieldManager", "a")];
        let applied = manifest(&made, "3");
        let applied = door.patch(name, (APPLY, None), &applied, &options).await;
        assert_eq!(applied.code, 200, "{door:?} {applied:?}");
        assert_eq!(door.get(name).await.object(), made, "{door:?}");
        assert_eq!(door.world.revision(), before, "{door:?}");
        door.remove(name).await;
    })
    .await;
}

#[tokio::test]
async fn an_update_names_what_it_has_seen() {
    each(async |door| {
        let made = door.made(1).await;
        let name = name_of(&made);
        let same = door.update(name, None, &made, &[]).await.object();
        assert_eq!(same, made, "{door:?}");
        let mut changed = made.clone();
        changed["metadata"]["annotations"] = json!({"note": "1"});
        let updated = door.update(name, None, &changed, &[]).await.object();
        assert!(revision(&updated) > revision(&made), "{door:?}");
        assert_eq!(
            updated["metadata"]["generation"],
            made["metadata"]["generation"]
        );
        let stale = door.update(name, None, &changed, &[]).await;
        assert_eq!((stale.code, stale.reason()), (409, "Conflict"), "{door:?}");
        changed["metadata"]["resourceVersion"] = Value::Null;
        let blind = door.update(name, None, &changed, &[]).await;
        assert_eq!(blind.code, 200, "{door:?} {blind:?}");
        let mut foreign = changed.clone();
        foreign["metadata"]["uid"] = json!("another");
        let foreign = door.update(name, None, &foreign, &[]).await;
        assert_eq!(
            (foreign.code, foreign.reason()),
            (409, "Conflict"),
            "{door:?}"
        );
        let elsewhere = door.update("elsewhere", None, &changed, &[]).await;
        assert_eq!(elsewhere.code, 400, "{door:?} {elsewhere:?}");
        let absent = object(door.row, 2);
        let absent = door.update(name_of(&absent), None, &absent, &[]).await;
        assert_eq!(absent.code, 404, "{door:?}");
        let mut other = made.clone();
        other["kind"] = json!("Zebra");
        assert_eq!(
            door.update(name, None, &other, &[]).await.code,
            400,
            "{door:?}"
        );
        door.remove(name).await;
    })
    .await;
}

#[tokio::test]
async fn patches_of_every_type() {
    each(async |door| {
        let made = door.made(1).await;
        let name = name_of(&made);
        let note = |text: &str| json!({"metadata": {"annotations": {"note": text}}});
        let merged = door
            .patch(name, (MERGE, None), &note("1"), &[])
            .await
            .object();
        assert_eq!(merged["metadata"]["annotations"]["note"], "1", "{door:?}");
        let again = door
            .patch(name, (MERGE, None), &note("1"), &[])
            .await
            .object();
        assert_eq!(again, merged, "{door:?}");
        let strategic = door.patch(name, (STRATEGIC, None), &note("2"), &[]).await;
        let expected = if door.row.group == "kinds.example.com" {
            415
        } else {
            200
        };
        assert_eq!(strategic.code, expected, "{door:?} {strategic:?}");
        let path = "/metadata/annotations/note";
        let held =
            json!([{"op": "test", "path": path, "value": "9"}, {"op": "remove", "path": path}]);
        let held = door.patch(name, (JSON_PATCH, None), &held, &[]).await;
        assert_eq!((held.code, held.reason()), (422, "Invalid"), "{door:?}");
        let absent = json!([{"op": "test", "path": "/metadata/nothing", "value": null},
            {"op": "replace", "path": path, "value": "3"}]);
        let replaced = door
            .patch(name, (JSON_PATCH, None), &absent, &[])
            .await
            .object();
        assert_eq!(replaced["metadata"]["annotations"]["note"], "3", "{door:?}");
        for malformed in [
            json!({"op": "remove"}),
            json!([{"op": "paint", "path": "/x"}]),
            json!([7]),
        ] {
            let refused = door.patch(name, (JSON_PATCH, None), &malformed, &[]).await;
            assert_eq!(refused.code, 400, "{door:?} {refused:?}");
        }
        let refused = door.patch(name, (MERGE, None), &json!([1]), &[]).await;
        assert!(matches!(refused.code, 400 | 422), "{door:?} {refused:?}");
        let mut stale = note("4");
        stale["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
        let stale = door.patch(name, (MERGE, None), &stale, &[]).await;
        assert_eq!((stale.code, stale.reason()), (409, "Conflict"), "{door:?}");
        let renamed = json!({"metadata": {"name": "other"}});
        let renamed = door.patch(name, (MERGE, None), &renamed, &[]).await;
        assert!(matches!(renamed.code, 400 | 422), "{door:?} {renamed:?}");
        let missing = door.patch("missing", (MERGE, None), &note("5"), &[]).await;
        assert_eq!(
            (missing.code, missing.reason()),
            (404, "NotFound"),
            "{door:?}"
        );
        door.remove(name).await;
    })
    .await;
}

/// A manifest that says of an object what it must, and one annotation.
fn manifest(object: &Value, note: &str) -> Value {
    let mut manifest = object.clone();
    manifest["metadata"] = json!({"name": object["metadata"]["name"], "annotations": {"note": note},
        "labels": {"conformance": "yes"}});
    manifest.as_object_mut().unwrap().remove("status");
    manifest
}

#[tokio::test]
async fn an_apply_owns_what_it_says() {
    each(async |door| {
        let sent = object(door.row, 1);
        let name = name_of(&sent).to_owned();
        let apply = async |manager: &str, note: &str, force: &str| {
            let options = [("fieldManager", manager), ("force", force)];
            door.patch(&name, (APPLY, None), &manifest(&sent, note), &options)
                .await
        };
        let made = apply("a", "1", "false").await;
        assert_eq!(made.code, 201, "{door:?} {made:?}");
        let made = made.object();
        let entry = &made["metadata"]["managedFields"][0];
        assert_eq!(
            (&entry["manager"], &entry["operation"]),
            (&json!("a"), &json!("Apply"))
        );
        assert!(entry["fieldsV1"]["f:metadata"]["f:annotations"]["f:note"].is_object());
        let same = apply("a", "1", "false").await;
        assert_eq!(same.code, 200, "{door:?}");
        assert_eq!(same.object(), made, "{door:?}");
        // As it is read, so that what the server has filled in is no difference.
        let read = manifest(&made, "2");
        let apply = async |manager: &str, force: &str| {
            let options = [("fieldManager", manager), ("force", force)];
            door.patch(&name, (APPLY, None), &read, &options).await
        };
        let conflict = apply("b", "false").await;
        assert_eq!(
            (conflict.code, conflict.reason()),
            (409, "Conflict"),
            "{door:?}"
        );
        assert_eq!(
            fields(&conflict.body),
            [".metadata.annotations.note"],
            "{door:?}"
        );
        let forced = apply("b", "true").await.object();
        assert_eq!(forced["metadata"]["annotations"]["note"], "2", "{door:?}");
        // What its only owner says no more goes.
        let mut less = read.clone();
        less["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("annotations");
        let left = door.patch(&name, (APPLY, None), &less, &[("fieldManager", "b")]);
        let left = left.await.object();
        assert!(
            left["metadata"]["annotations"].get("note").is_none(),
            "{door:?} {left}"
        );
        let mut owned = read.clone();
        owned["metadata"]["managedFields"] = made["metadata"]["managedFields"].clone();
        let refused = door.patch(&name, (APPLY, None), &owned, &[("fieldManager", "b")]);
        assert_eq!(refused.await.code, 400, "{door:?}");
        door.remove(&name).await;
    })
    .await;
}

#[tokio::test]
async fn finalizers_hold_a_deleted_object() {
    each(async |door| {
        let mut sent = object(door.row, 1);
        sent["metadata"]["finalizers"] = json!(["example.com/hold"]);
        let made = door.create(&sent, &[]).await.object();
        let name = name_of(&made);
        let held = door.delete(name, &Value::Null).await.object();
        assert!(
            held["metadata"]["deletionTimestamp"].is_string(),
            "{door:?} {held}"
        );
        let again = door.delete(name, &Value::Null).await.object();
        assert_eq!(revision(&again), revision(&held), "{door:?}");
        let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
        let refused = door.patch(name, (MERGE, None), &more, &[]).await;
        assert_eq!(
            (refused.code, refused.reason()),
            (422, "Invalid"),
            "{door:?}"
        );
        let revived = json!({"metadata": {"deletionTimestamp": null}});
        let revived = door
            .patch(name, (MERGE, None), &revived, &[])
            .await
            .object();
        assert_eq!(revision(&revived), revision(&held), "{door:?}");
        door.release(revived).await;
        assert_eq!(door.get(name).await.code, 404, "{door:?}");
    })
    .await;
}

#[tokio::test]
async fn a_deletion_has_preconditions() {
    each(async |door| {
        let made = door.made(1).await;
        let name = name_of(&made);
        for precondition in [json!({"uid": "another"}), json!({"resourceVersion": "1"})] {
            let refused = door.delete(name, &json!({"preconditions": precondition})).await;
            assert_eq!((refused.code, refused.reason()), (409, "Conflict"), "{door:?}");
        }
        let right = json!({"preconditions": {"uid": made["metadata"]["uid"],
            "resourceVersion": made["metadata"]["resourceVersion"]}, "propagationPolicy": "Background"});
        let deleted = door.delete(name, &right).await.object();
        if deleted["kind"] != "Status" {
            door.release(deleted).await;
        }
        let gone = door.delete(name, &Value::Null).await;
        assert_eq!((gone.code, gone.reason()), (404, "NotFound"), "{door:?}");
    })
    .await;
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_selector() {
    each(async |door| {
        let (one, two) = (door.made(1).await, door.made(2).await);
        let mut kept = object(door.row, 3);
        kept["metadata"]["labels"] = json!({"conformance": "no"});
        let kept = door.create(&kept, &[]).await.object();
        let deleted = door
            .delete_collection(&[("labelSelector", "conformance=yes")])
            .await;
        if !door.row.verbs.contains(&"deletecollection") {
            assert_eq!(deleted.code, 405, "{door:?} {deleted:?}");
            for item in [one, two, kept] {
                door.remove(name_of(&item)).await;
            }
            return;
        }
        let deleted = deleted.object();
        assert_eq!(deleted["kind"], door.row.list_kind(), "{door:?}");
        assert_eq!(deleted["items"].as_array().unwrap().len(), 2, "{door:?}");
        for item in [one, two] {
            let left = door.get(name_of(&item)).await;
            if left.code == 200 {
                assert!(
                    left.body["metadata"]["deletionTimestamp"].is_string(),
                    "{door:?}"
                );
                door.release(left.body).await;
            }
        }
        door.remove(name_of(&kept)).await;
    })
    .await;
}

#[tokio::test]
async fn a_list_comes_in_pages_of_one_moment() {
    each(async |door| {
        const MINE: (&str, &str) = ("labelSelector", "conformance=yes");
        for index in 1..=3 {
            door.made(index).await;
        }
        let whole = door.list(&[MINE]).await.object();
        assert_eq!(whole["kind"], door.row.list_kind(), "{door:?}");
        let names: Vec<&str> = whole["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(name_of)
            .collect();
        assert_eq!(names.len(), 3, "{door:?}");
        let first = door.list(&[MINE, ("limit", "2")]).await.object();
        assert_eq!(first["items"].as_array().unwrap().len(), 2, "{door:?}");
        let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
        // The next page does not know of what has come since.
        let late = door.made(4).await;
        let next = door
            .list(&[MINE, ("limit", "2"), ("continue", &token)])
            .await
            .object();
        let rest: Vec<&str> = next["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(name_of)
            .collect();
        assert_eq!(rest, names[2..], "{door:?}");
        assert_eq!(revision(&next), revision(&first), "{door:?}");
        assert!(next["metadata"].get("continue").is_none(), "{door:?}");
        let at = whole["metadata"]["resourceVersion"].as_str().unwrap();
        for (rule, count) in [("Exact", 3), ("NotOlderThan", 4)] {
            let options = [
                MINE,
                ("resourceVersion", at),
                ("resourceVersionMatch", rule),
            ];
            let listed = door.list(&options).await.object();
            assert_eq!(
                listed["items"].as_array().unwrap().len(),
                count,
                "{door:?} {rule}"
            );
        }
        let selected = format!("metadata.name={}", name_of(&late));
        let selected = door.list(&[("fieldSelector", &selected)]).await.object();
        assert_eq!(selected["items"].as_array().unwrap().len(), 1, "{door:?}");
        for (options, code) in [
            (&[("resourceVersionMatch", "Exact")][..], 422),
            (
                &[("resourceVersionMatch", "Nearly"), ("resourceVersion", "1")],
                422,
            ),
            (
                &[("resourceVersionMatch", "Exact"), ("resourceVersion", "0")],
                422,
            ),
            (&[("resourceVersion", "x")], 400),
            (&[("continue", "x")], 400),
            (&[("continue", &token), ("resourceVersion", at)], 400),
            (&[("labelSelector", "a==b==c")], 400),
            (&[("fieldSelector", "spec.colour=blue")], 400),
        ] {
            let refused = door.list(options).await;
            assert_eq!(refused.code, code, "{door:?} {options:?} {refused:?}");
        }
        for index in 1..=4 {
            door.remove(name_of(&object(door.row, index))).await;
        }
    })
    .await;
}
