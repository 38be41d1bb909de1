//! What every kind demands of an object's name, type and place, and how its row is found.

use serde_json::json;
use wasmorch::registry::ResourceInfo;

use super::behaviours::each;
use super::door::{Door, Way};
use super::world::{World, object};

const DRY: &[(&str, &str)] = &[("dryRun", "All")];

/// Sends an object with something else at a place of it; the code, and what is said.
async fn refused(door: Door<'_>, pointer: &str, value: serde_json::Value) -> (u16, String) {
    let mut sent = object(door.row, 1);
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    sent.pointer_mut(parent).unwrap()[field] = value;
    let answer = door.create(&sent, DRY).await;
    let (message, causes) = (&answer.body["message"], &answer.body["details"]["causes"]);
    let causes = causes.as_array().into_iter().flatten().map(|cause| {
        let text = |key: &str| cause[key].as_str().unwrap_or_default();
        format!("{}: {}", text("field"), text("message"))
    });
    let said = [message.as_str().unwrap_or_default().to_owned()];
    let said: Vec<String> = said.into_iter().chain(causes).collect();
    (answer.code, said.join("; "))
}

#[tokio::test]
async fn names_types_and_places_are_judged() {
    each(async |door| {
        let (code, words) = refused(door, "/metadata/name", json!("")).await;
        assert_eq!(code, 422, "{door:?} {words}");
        let nameless = "metadata.name: Required value: name or generateName is required";
        assert!(words.contains(nameless), "{door:?} {words}");
        let (code, words) = refused(door, "/metadata/name", json!("SAM%PLE")).await;
        assert_eq!(code, 422, "{door:?} {words}");
        let shouting = "metadata.name: Invalid value: \"SAM%PLE\"";
        assert!(words.contains(shouting), "{door:?} {words}");
        let (code, words) = refused(door, "/metadata/name", json!(5)).await;
        assert!(matches!(code, 400 | 422), "{door:?} {words}");
        assert!(words.contains("metadata.name"), "{door:?} {words}");
        let (code, words) = refused(door, "/kind", json!("Zebra")).await;
        assert_eq!(code, 400, "{door:?} {words}");
        if !door.row.namespaced {
            return;
        }
        let (code, words) = refused(door, "/metadata/namespace", json!("kube-system")).await;
        assert_eq!(code, 400, "{door:?} {words}");
        if door.way == Way::Http {
            let path = door.path("", None, DRY);
            let path = path.replace("/namespaces/default/", "/namespaces/nowhere/");
            let sent = object(door.row, 1);
            let answer = door.http("POST", &path, "application/json", Some(&sent));
            let answer = answer.await;
            assert_eq!(answer.code, 404, "{door:?} {answer:?}");
            let words = "namespaces \"nowhere\" not found";
            assert_eq!(answer.body["message"], words, "{door:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn rows_are_found_and_distinct() {
    let world = World::new().await;
    let rows = world.rows();
    for row in rows.iter().copied() {
        let is_it = |found: Option<&'static ResourceInfo>| {
            found.is_some_and(|found| std::ptr::eq(found, row))
        };
        let registry = &world.registry;
        assert!(
            is_it(registry.find(row.group, row.version, row.plural)),
            "{row:?}"
        );
        assert!(
            is_it(registry.find_kind(&row.api_version(), row.kind)),
            "{row:?}"
        );
        let suffix = format!(".{}", row.group);
        let qualified = if row.group.is_empty() { "" } else { &suffix };
        assert_eq!(row.qualified, format!("{}{qualified}", row.plural));
        assert_eq!(row.singular, row.kind.to_lowercase());
    }
    assert!(rows.len() >= 36, "{}", rows.len());
}
