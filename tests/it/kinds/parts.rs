//! What hangs below an object of every kind that has it: its status and its scale.

use serde_json::json;

use super::behaviours::{each, revision};
use super::door::{APPLY, MERGE, Way};
use super::world::{name_of, status};

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    each(async |door| {
        if door.row.subresource("status").is_none() {
            return;
        }
        let made = door.made(1).await;
        let name = name_of(&made);
        let mut wanted = made.clone();
        wanted["status"] = status(door.row);
        let through_main = door.update(name, None, &wanted, &[]).await.object();
        assert_eq!(through_main, made, "{door:?}");
        wanted["metadata"]["labels"] = json!({"ignored": "yes"});
        let written = door
            .update(name, Some("status"), &wanted, &[])
            .await
            .object();
        assert_eq!(written["status"], wanted["status"], "{door:?}");
        for part in ["/metadata/labels", "/metadata/generation", "/spec"] {
            assert_eq!(written.pointer(part), made.pointer(part), "{door:?} {part}");
        }
        assert!(revision(&written) > revision(&made), "{door:?}");
        let stale = door.update(name, Some("status"), &made, &[]).await;
        assert_eq!((stale.code, stale.reason()), (409, "Conflict"), "{door:?}");
        let mut patch = json!({"status": status(door.row)});
        let same = door
            .patch(name, (MERGE, Some("status")), &patch, &[])
            .await
            .object();
        assert_eq!(revision(&same), revision(&written), "{door:?}");
        patch["apiVersion"] = made["apiVersion"].clone();
        patch["kind"] = made["kind"].clone();
        let options = [("fieldManager", "status-writer"), ("force", "true")];
        let applied = door
            .patch(name, (APPLY, Some("status")), &patch, &options)
            .await;
        assert_eq!(applied.code, 200, "{door:?} {applied:?}");
        let entries = applied.body["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .clone();
        let mine = entries.iter().find(|it| it["manager"] == "status-writer");
        assert_eq!(mine.unwrap()["subresource"], "status", "{door:?}");
        door.remove(name).await;
    })
    .await;
}

#[tokio::test]
async fn what_scales_has_a_scale() {
    each(async |door| {
        let has_scale = door.row.subresource("scale").is_some();
        let made = door.made(1).await;
        let name = name_of(&made);
        let found = door.scale(name).await;
        if !has_scale {
            assert!(matches!(found.code, 404 | 405), "{door:?} {found:?}");
            door.remove(name).await;
            return;
        }
        let mut scale = found.object();
        assert_eq!(
            (&scale["kind"], &scale["apiVersion"]),
            (&json!("Scale"), &json!("autoscaling/v1"))
        );
        assert_eq!(
            scale["metadata"]["resourceVersion"],
            made["metadata"]["resourceVersion"]
        );
        scale["spec"]["replicas"] = json!(5);
        let dry = door
            .update(name, Some("scale"), &scale, &[("dryRun", "All")])
            .await;
        assert_eq!(dry.code, 200, "{door:?} {dry:?}");
        if door.way == Way::Http {
            assert_eq!(dry.body["spec"]["replicas"], 5, "{door:?} {dry:?}");
        }
        let written = door.update(name, Some("scale"), &scale, &[]).await.object();
        assert_eq!(written["spec"]["replicas"], 5, "{door:?}");
        let scaled = door.get(name).await.object();
        assert_eq!(scaled["spec"]["replicas"], 5, "{door:?}");
        assert_eq!(scaled["metadata"]["generation"], 2, "{door:?}");
        let stale = door.update(name, Some("scale"), &scale, &[]).await;
        assert_eq!((stale.code, stale.reason()), (409, "Conflict"), "{door:?}");
        let patch = json!({"spec": {"replicas": 6}});
        let patched = door
            .patch(name, (MERGE, Some("scale")), &patch, &[])
            .await
            .object();
        assert_eq!(patched["spec"]["replicas"], 6, "{door:?}");
        let patch = json!({"spec": {"replicas": -1}});
        let refused = door.patch(name, (MERGE, Some("scale")), &patch, &[]).await;
        assert!(matches!(refused.code, 400 | 422), "{door:?} {refused:?}");
        door.remove(name).await;
    })
    .await;
}
