//! What holds for every kind, tried on each row of the table with its own sample.

use serde_json::{Value, json};
use wasmorch::registry::{
    DeleteOptions, Deleted, Error, FieldValidation, ListOptions, Patch, ResourceInfo, WatchOptions,
    WriteOptions,
};

use super::{Fixture, NS, complaints, next_words};

impl Fixture {
    async fn create_row(
        &self,
        row: &'static ResourceInfo,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        self.registry
            .create(row, NS, object, options, &self.caller)
            .await
            .map(|written| written.object.object.clone())
    }

    async fn update_row(&self, row: &'static ResourceInfo, object: Value) -> Result<Value, Error> {
        let options = WriteOptions::default();
        self.registry
            .update(row, NS, &name_of(row), None, object, &options, &self.caller)
            .await
            .map(|written| written.object.object.clone())
    }

    async fn patch_row(&self, row: &'static ResourceInfo, patch: Patch) -> Result<Value, Error> {
        let options = WriteOptions::default();
        self.registry
            .patch(row, NS, &name_of(row), None, patch, &options, &self.caller)
            .await
            .map(|written| written.object.object.clone())
    }

    /// Deletes the sample, and whatever holds it.
    async fn delete_row(&self, row: &'static ResourceInfo) {
        let options = DeleteOptions::default();
        let deleted = self
            .registry
            .delete(row, NS, &name_of(row), &options, &self.caller)
            .await
            .unwrap();
        let Deleted::Pending(stored) = deleted else {
            return;
        };
        let mut object = stored.object.clone();
        if row.subresource("finalize").is_none() {
            object["metadata"]["finalizers"] = json!([]);
            self.update_row(row, object).await.unwrap();
        } else {
            object["spec"]["finalizers"] = json!([]);
            let options = WriteOptions::default();
            self.registry
                .update(
                    row,
                    NS,
                    &name_of(row),
                    Some("finalize"),
                    object,
                    &options,
                    &self.caller,
                )
                .await
                .unwrap();
        }
    }
}

/// What the sample of a row is called.
fn name_of(row: &ResourceInfo) -> String {
    (row.sample)()["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

#[tokio::test]
async fn every_kind_lives_and_dies_alike() {
    for row in Fixture::new().await.registry.resources() {
        lives_and_dies(row).await;
    }
}

async fn lives_and_dies(row: &'static ResourceInfo) {
    let fixture = Fixture::new().await;
    let watch = WatchOptions {
        label_selector: Some("conformance=yes".to_owned()),
        ..WatchOptions::default()
    };
    let mut events = fixture.registry.watch(row, NS, &watch).await.unwrap();
    let created = creates(&fixture, row).await;
    reads(&fixture, row, &created).await;
    updates(&fixture, row, &created).await;
    patches(&fixture, row).await;
    for expected in ["Added", "Modified", "Modified", "Modified", "Deleted"] {
        let words = next_words(&mut events).await;
        assert_eq!(words, format!("{expected} {}", name_of(row)), "{row:?}");
    }
    deletes(&fixture, row).await;
}

/// Server-owned metadata, the type's name, and nothing twice.
async fn creates(fixture: &Fixture, row: &'static ResourceInfo) -> Value {
    let options = WriteOptions::default();
    let labels = json!({"conformance": "yes"});
    let sample = with((row.sample)(), "/metadata/labels", labels);
    let created = fixture
        .create_row(row, sample.clone(), &options)
        .await
        .unwrap();
    assert_eq!(created["kind"], row.kind, "{row:?}");
    assert_eq!(created["apiVersion"], row.api_version(), "{row:?}");
    for field in ["uid", "creationTimestamp", "resourceVersion"] {
        assert!(created["metadata"][field].is_string(), "{row:?} {field}");
    }
    let generation = created.get("spec").map_or(Value::Null, |_| json!(1));
    assert_eq!(created["metadata"]["generation"], generation, "{row:?}");
    let again = fixture.create_row(row, sample, &options).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{row:?}");
    created
}

async fn reads(fixture: &Fixture, row: &'static ResourceInfo, created: &Value) {
    let found = fixture.registry.get(row, NS, &name_of(row)).unwrap();
    assert_eq!(&found.object, created, "{row:?}");
    let selected = ListOptions {
        label_selector: Some("conformance".to_owned()),
        field_selector: Some(format!("metadata.name={}", name_of(row))),
        ..ListOptions::default()
    };
    let list = fixture.registry.list(row, NS, &selected).await.unwrap();
    assert_eq!(list.items.len(), 1, "{row:?}");
    let cells = fixture.registry.cells(row, &found);
    assert_eq!(cells.len(), row.columns.len(), "{row:?}");
}

/// The same changes nothing, a stale revision is refused, a change is written.
async fn updates(fixture: &Fixture, row: &'static ResourceInfo, created: &Value) {
    let same = fixture.update_row(row, created.clone()).await.unwrap();
    assert_eq!(&same, created, "{row:?}");
    let noted = with(
        created.clone(),
        "/metadata/annotations",
        json!({"note": "1"}),
    );
    let updated = fixture.update_row(row, noted.clone()).await.unwrap();
    let (new, old) = (&updated["metadata"], &created["metadata"]);
    assert_ne!(new["resourceVersion"], old["resourceVersion"], "{row:?}");
    assert_eq!(new["generation"], old["generation"], "{row:?}");
    let stale = fixture.update_row(row, noted).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{row:?}");
    let foreign = with(updated.clone(), "/metadata/uid", json!("another"));
    let foreign = fixture.update_row(row, foreign).await;
    assert!(matches!(foreign, Err(Error::Conflict { .. })), "{row:?}");
}

/// Preconditions and dry run first.
async fn deletes(fixture: &Fixture, row: &'static ResourceInfo) {
    let delete = async |options: DeleteOptions| {
        let registry = &fixture.registry;
        registry
            .delete(row, NS, &name_of(row), &options, &fixture.caller)
            .await
    };
    let refused = delete(DeleteOptions {
        uid: Some("another".to_owned()),
        ..DeleteOptions::default()
    });
    assert!(
        matches!(refused.await, Err(Error::Conflict { .. })),
        "{row:?}"
    );
    let pretended = delete(DeleteOptions {
        dry_run: true,
        ..DeleteOptions::default()
    });
    assert!(pretended.await.is_ok(), "{row:?}");
    assert!(
        fixture.registry.get(row, NS, &name_of(row)).is_ok(),
        "{row:?}"
    );
    fixture.delete_row(row).await;
    let gone = fixture.registry.get(row, NS, &name_of(row)).map(drop);
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{row:?}");
}

/// Each kind of patch; the last one takes the object out of the watcher's selector.
async fn patches(fixture: &Fixture, row: &'static ResourceInfo) {
    let merge = json!({"metadata": {"annotations": {"note": "2"}}});
    let patched = fixture.patch_row(row, Patch::Merge(merge)).await.unwrap();
    assert_eq!(patched["metadata"]["annotations"]["note"], "2", "{row:?}");
    let strategic = json!({"metadata": {"annotations": {"note": "3"}}});
    let patched = fixture
        .patch_row(row, Patch::Strategic(strategic))
        .await
        .unwrap();
    assert_eq!(patched["metadata"]["annotations"]["note"], "3", "{row:?}");
    let stale = json!({"metadata": {"resourceVersion": "1", "annotations": {"note": "4"}}});
    let stale = fixture.patch_row(row, Patch::Merge(stale)).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{row:?}");
    let json = json!([{"op": "remove", "path": "/metadata/labels/conformance"}]);
    fixture
        .patch_row(row, Patch::Json(json.clone()))
        .await
        .unwrap();
    assert!(!complaints(fixture.patch_row(row, Patch::Json(json)).await).is_empty());
}

#[tokio::test]
async fn every_kind_refuses_alike() {
    let fixture = Fixture::new().await;
    for row in fixture.registry.resources() {
        let sample = (row.sample)();
        let strict = WriteOptions {
            field_validation: FieldValidation::Strict,
            ..WriteOptions::default()
        };
        let odd = with(sample.clone(), "/metadata/colour", json!("blue"));
        let refused = fixture
            .create_row(row, odd.clone(), &strict)
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "strict decoding error: unknown field \"metadata.colour\"",
            "{row:?}"
        );
        let dry = WriteOptions {
            dry_run: true,
            ..WriteOptions::default()
        };
        let pretended = fixture.registry.create(row, NS, odd, &dry, &fixture.caller);
        let pretended = pretended.await.unwrap();
        assert_eq!(
            pretended.warnings,
            ["unknown field \"metadata.colour\""],
            "{row:?}"
        );
        assert!(
            pretended.object.object["metadata"].get("colour").is_none(),
            "{row:?}"
        );
        assert!(
            fixture.registry.get(row, NS, &name_of(row)).is_err(),
            "{row:?}"
        );

        if row.namespaced {
            let elsewhere = with(sample.clone(), "/metadata/namespace", json!("kube-system"));
            let refused = fixture.create_row(row, elsewhere, &dry).await;
            assert!(matches!(refused, Err(Error::BadRequest(_))), "{row:?}");
            let nowhere =
                fixture
                    .registry
                    .create(row, Some("nowhere"), sample, &dry, &fixture.caller);
            let nowhere = nowhere.await.map(drop).unwrap_err();
            assert_eq!(
                nowhere.to_string(),
                "namespaces \"nowhere\" not found",
                "{row:?}"
            );
        }
        let absent = fixture.patch_row(row, Patch::Merge(json!({}))).await;
        assert!(matches!(absent, Err(Error::NotFound { .. })), "{row:?}");
        let foreign = ListOptions {
            field_selector: Some("spec.colour=blue".to_owned()),
            ..ListOptions::default()
        };
        let refused = fixture.registry.list(row, NS, &foreign).await.map(drop);
        assert!(matches!(refused, Err(Error::BadRequest(_))), "{row:?}");
    }
}

#[tokio::test]
async fn every_kind_has_rules_for_its_name_and_type() {
    let fixture = Fixture::new().await;
    let dry = WriteOptions {
        dry_run: true,
        ..WriteOptions::default()
    };
    for row in fixture.registry.resources() {
        let sample = (row.sample)();
        let nameless = with(sample.clone(), "/metadata/name", json!(""));
        assert!(
            complaints(fixture.create_row(row, nameless, &dry).await).contains(
                &"metadata.name: Required value: name or generateName is required".to_owned()
            ),
            "{row:?}"
        );
        let shouting = with(sample.clone(), "/metadata/name", json!("SAM%PLE"));
        let complaint = complaints(fixture.create_row(row, shouting, &dry).await);
        assert!(
            complaint[0].starts_with("metadata.name: Invalid value: \"SAM%PLE\""),
            "{row:?}"
        );
        let wrong = with(sample.clone(), "/metadata/name", json!(5));
        let refused = fixture
            .create_row(row, wrong, &dry)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("metadata.name: invalid type"), "{refused}");
        let mut other = sample.clone();
        other["kind"] = json!("Zebra");
        let refused = fixture.create_row(row, other, &dry).await;
        assert!(matches!(refused, Err(Error::BadRequest(_))), "{row:?}");
    }
}

#[tokio::test]
async fn rows_are_found_and_distinct() {
    let fixture = Fixture::new().await;
    let rows = fixture.registry.resources();
    for row in rows.iter().copied() {
        let found = fixture.registry.find(row.group, row.version, row.plural);
        assert!(
            found.is_some_and(|found| std::ptr::eq(found, row)),
            "{row:?}"
        );
        let found = fixture.registry.find_kind(&row.api_version(), row.kind);
        assert!(
            found.is_some_and(|found| std::ptr::eq(found, row)),
            "{row:?}"
        );
        let suffix = format!(".{}", row.group);
        let qualified = if row.group.is_empty() { "" } else { &suffix };
        assert_eq!(row.qualified, format!("{}{qualified}", row.plural));
        assert_eq!(row.singular, row.kind.to_lowercase());
    }
    assert!(rows.len() >= 36, "{}", rows.len());
}

/// A spec that changes is counted; a status that changes is not, and touches nothing else.
#[tokio::test]
async fn status_and_spec_are_written_apart() {
    for row in Fixture::new().await.registry.resources() {
        if row.subresource("status").is_none() {
            continue;
        }
        // Two rows may show the same objects.
        let fixture = Fixture::new().await;
        let options = WriteOptions::default();
        let created = fixture
            .create_row(row, (row.sample)(), &options)
            .await
            .unwrap();
        let status = match row.kind {
            "CustomResourceDefinition" => json!({"storedVersions": ["v1"]}),
            "Deployment" | "ReplicaSet" | "StatefulSet" => {
                json!({"replicas": 3, "observedGeneration": 1})
            }
            "DaemonSet" => json!({"currentNumberScheduled": 1, "desiredNumberScheduled": 1,
                "numberMisscheduled": 0, "numberReady": 1}),
            "Job" => json!({"active": 1}),
            "CronJob" => json!({"lastScheduleTime": "2026-01-01T00:00:00Z"}),
            "PodDisruptionBudget" => json!({"currentHealthy": 1, "desiredHealthy": 1,
                "disruptionsAllowed": 0, "expectedPods": 1}),
            "HorizontalPodAutoscaler" => json!({"currentReplicas": 1, "desiredReplicas": 1}),
            "Service" | "Ingress" => json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.9"}]}}),
            "ResourceQuota" => json!({"used": {"pods": "1"}}),
            _ => json!({"phase": "Running"}),
        };
        let mut wanted = with(created.clone(), "/status", status.clone());
        wanted["metadata"]["labels"] = json!({"ignored": "yes"});
        let through_main =
            fixture.update_row(row, with(created.clone(), "/status", status.clone()));
        assert_eq!(through_main.await.unwrap(), created, "{row:?}");
        let written = fixture
            .registry
            .update(
                row,
                NS,
                &name_of(row),
                Some("status"),
                wanted,
                &options,
                &fixture.caller,
            )
            .await
            .unwrap();
        let object = &written.object.object;
        assert_eq!(object["status"], status, "{row:?}");
        assert_eq!(object["metadata"]["labels"], created["metadata"]["labels"]);
        assert_eq!(
            object["metadata"]["generation"],
            created["metadata"]["generation"]
        );
        assert_eq!(object["spec"], created["spec"], "{row:?}");
    }
}
