//! Server-side apply and the entries behind it: the cases of Kubernetes' documentation and of
//! KEP-555, on the registry.

use serde_json::{Value, json};
use wasmorch::registry::{Error, Patch, WriteOptions};

use super::{Fixture, NS, config_map};

/// A manager's options.
fn of(manager: &str) -> WriteOptions {
    WriteOptions {
        field_manager: Some(manager.to_owned()),
        ..WriteOptions::default()
    }
}

impl Fixture {
    /// Applies as this manager; `!name` forces, `name/status` writes the status.
    async fn apply(&self, plural: &str, who: &str, object: Value) -> Result<Value, Error> {
        let force = who.starts_with('!');
        let (manager, subresource) = match who.trim_start_matches('!').split_once('/') {
            Some((manager, subresource)) => (manager, Some(subresource)),
            None => (who.trim_start_matches('!'), None),
        };
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let patch = Patch::Apply {
            object,
            force,
            may_create: true,
        };
        self.write(plural, &name, subresource, patch, &of(manager))
            .await
    }

    async fn write(
        &self,
        plural: &str,
        name: &str,
        subresource: Option<&str>,
        patch: Patch,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        let row = self.row(plural);
        self.registry
            .patch(row, NS, name, subresource, patch, options, &self.caller)
            .await
            .map(|written| written.object.object.clone())
    }

    async fn create_as(&self, plural: &str, manager: &str, object: Value) -> Value {
        let row = self.row(plural);
        let options = of(manager);
        let created = self
            .registry
            .create(row, NS, object, &options, &self.caller);
        created.await.unwrap().object.object.clone()
    }

    async fn merge_as(&self, plural: &str, manager: &str, patch: Value) -> Value {
        let patch = Patch::Merge(patch);
        self.write(plural, "web", None, patch, &of(manager))
            .await
            .unwrap()
    }
}

/// `manager operation[ subresource]` → its fields.
fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let who = format!(
                "{} {} {}",
                text(entry, "manager"),
                text(entry, "operation"),
                text(entry, "subresource")
            );
            assert_eq!(entry["fieldsType"], "FieldsV1");
            (who.trim().to_owned(), entry["fieldsV1"].clone())
        })
        .collect()
}

fn fields_of(object: &Value, who: &str) -> Value {
    owners(object)
        .into_iter()
        .find(|(owner, _)| owner == who)
        .map_or(Value::Null, |(_, fields)| fields)
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": data})
}

fn deployment(spec: Value) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "hello"}]}},
    }});
    json_patch::merge(&mut object, &json!({"spec": spec}));
    object
}

#[tokio::test]
async fn an_apply_creates_and_owns_what_it_says() {
    let fixture = Fixture::new().await;
    let object = map(json!({"key": "some value"}));
    let made = fixture
        .apply("configmaps", "kubectl", object.clone())
        .await
        .unwrap();
    assert_eq!(
        owners(&made),
        [("kubectl Apply".to_owned(), json!({"f:data": {"f:key": {}}}))]
    );
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(entry["apiVersion"], "v1");
    assert_eq!(entry["time"], "2027-01-15T08:00:00Z");
    // The same again is no write, whenever it comes.
    fixture.clock.advance(std::time::Duration::from_mins(1));
    let again = fixture
        .apply("configmaps", "kubectl", object)
        .await
        .unwrap();
    assert_eq!(again, made);
}

/// The example of "Server-Side Apply": a controller changes what a user has applied.
#[tokio::test]
async fn a_change_of_anothers_field_is_a_conflict_unless_forced() {
    let fixture = Fixture::new().await;
    let first = map(json!({"key": "some value", "other": "x"}));
    fixture.apply("configmaps", "kubectl", first).await.unwrap();
    let changed = fixture
        .merge_as(
            "configmaps",
            "kube-controller-manager",
            json!({"data": {"key": "new value"}}),
        )
        .await;
    assert_eq!(
        owners(&changed),
        [
            (
                "kubectl Apply".to_owned(),
                json!({"f:data": {"f:other": {}}})
            ),
            (
                "kube-controller-manager Update".to_owned(),
                json!({"f:data": {"f:key": {}}})
            ),
        ]
    );
    let wanted = map(json!({"key": "mine", "other": "x"}));
    let refused = fixture
        .apply("configmaps", "kubectl", wanted.clone())
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"kube-controller-manager\" using v1: .data.key"
    );
    let forced = fixture
        .apply("configmaps", "!kubectl", wanted)
        .await
        .unwrap();
    assert_eq!(forced["data"]["key"], "mine");
    assert_eq!(
        owners(&forced),
        [(
            "kubectl Apply".to_owned(),
            json!({"f:data": {"f:key": {}, "f:other": {}}})
        )]
    );
}

#[tokio::test]
async fn conflicts_are_listed_by_manager() {
    let fixture = Fixture::new().await;
    fixture
        .apply("configmaps", "b", map(json!({"x": "1", "y": "1"})))
        .await
        .unwrap();
    fixture
        .apply("configmaps", "a", map(json!({"z": "1"})))
        .await
        .unwrap();
    let wanted = map(json!({"x": "2", "y": "2", "z": "2"}));
    let refused = fixture.apply("configmaps", "c", wanted).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .data.z\nconflicts with \"b\":\n- .data.x\n- .data.y"
    );
}

#[tokio::test]
async fn the_same_value_is_owned_together_and_goes_with_its_last_owner() {
    let fixture = Fixture::new().await;
    let both = map(json!({"shared": "1"}));
    fixture
        .apply("configmaps", "a", both.clone())
        .await
        .unwrap();
    let shared = fixture.apply("configmaps", "b", both).await.unwrap();
    assert_eq!(owners(&shared).len(), 2);
    let one = fixture
        .apply("configmaps", "a", map(json!({"own": "2"})))
        .await
        .unwrap();
    assert_eq!(one["data"], json!({"own": "2", "shared": "1"}));
    let none = fixture
        .apply("configmaps", "b", map(json!({"theirs": "3"})))
        .await
        .unwrap();
    assert_eq!(none["data"], json!({"own": "2", "theirs": "3"}));
    let mut empty = map(json!({}));
    empty.as_object_mut().unwrap().remove("data");
    let gone = fixture.apply("configmaps", "a", empty).await.unwrap();
    assert_eq!(gone["data"], json!({"theirs": "3"}));
    assert_eq!(owners(&gone).len(), 1, "who applies nothing owns nothing");
}

/// Handing `replicas` over to an autoscaler, as documented.
#[tokio::test]
async fn replicas_are_handed_over() {
    let fixture = Fixture::new().await;
    let with = deployment(json!({"replicas": 2}));
    let made = fixture.apply("deployments", "kubectl", with).await.unwrap();
    assert_eq!(
        made["spec"]["revisionHistoryLimit"], 10,
        "defaults are there and nobody's"
    );
    let scale = Patch::Merge(json!({"spec": {"replicas": 5}}));
    fixture
        .write(
            "deployments",
            "web",
            Some("scale"),
            scale,
            &of("autoscaler"),
        )
        .await
        .unwrap();
    let refused = fixture
        .apply("deployments", "kubectl", deployment(json!({"replicas": 2})))
        .await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Apply failed with 1 conflict: conflict with \"autoscaler\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let left = fixture
        .apply("deployments", "kubectl", deployment(json!({})))
        .await
        .unwrap();
    assert_eq!(left["spec"]["replicas"], 5);
    assert_eq!(
        fields_of(&left, "autoscaler Update scale"),
        json!({"f:spec": {"f:replicas": {}}})
    );
}

#[tokio::test]
async fn lists_are_owned_by_item() {
    let fixture = Fixture::new().await;
    let containers =
        |items: Value| deployment(json!({"template": {"spec": {"containers": items}}}));
    let main = json!({"name": "main", "image": "hello", "ports": [{"containerPort": 80}]});
    fixture
        .apply("deployments", "a", containers(json!([main])))
        .await
        .unwrap();
    let side = json!({"name": "side", "image": "proxy", "env": [{"name": "A", "value": "1"}]});
    let both = fixture
        .apply("deployments", "b", containers(json!([side])))
        .await
        .unwrap();
    let names = |object: &Value| -> Vec<String> {
        let items = object["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap();
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&both), ["main", "side"]);
    assert_eq!(
        fields_of(&both, "a Apply")["f:spec"]["f:template"]["f:spec"]["f:containers"],
        json!({"k:{\"name\":\"main\"}": {".": {}, "f:image": {}, "f:name": {},
            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}})
    );
    let clash = json!([{"name": "side", "image": "other"}]);
    let refused = fixture
        .apply("deployments", "a", containers(clash))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"b\": .spec.template.spec.containers[name=\"side\"].image"
    );
    let twice = json!([{"name": "x", "image": "1"}, {"name": "x", "image": "2"}]);
    let refused = fixture
        .apply("deployments", "a", containers(twice))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"x\"]"
    );
    // The item goes whole, with its defaults.
    let left = fixture
        .apply("deployments", "b", json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"b": "1"}}}))
        .await
        .unwrap();
    assert_eq!(names(&left), ["main"]);
    assert_eq!(left["metadata"]["labels"], json!({"b": "1"}));
}

#[tokio::test]
async fn a_status_is_applied_apart() {
    let fixture = Fixture::new().await;
    fixture
        .apply("deployments", "kubectl", deployment(json!({})))
        .await
        .unwrap();
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"no": "no"}},
        "spec": {"replicas": 9}, "status": {"replicas": 3, "conditions": [{"type": "Available", "status": "True"}]}});
    let mut with_status = deployment(json!({}));
    with_status["status"] = status["status"].clone();
    let written = fixture
        .apply("deployments", "ctl/status", status)
        .await
        .unwrap();
    assert_eq!(written["status"]["replicas"], 3);
    assert_eq!(written["spec"]["replicas"], 1);
    assert_eq!(
        fields_of(&written, "ctl Apply status"),
        json!({"f:status": {"f:replicas": {}, "f:conditions": {"k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}}})
    );
    let ignored = fixture
        .apply("deployments", "!kubectl", with_status)
        .await
        .unwrap();
    assert_eq!(fields_of(&ignored, "kubectl Apply").get("f:status"), None);
}

#[tokio::test]
async fn writers_take_what_they_change() {
    let fixture = Fixture::new().await;
    let mut object = config_map("web");
    object["metadata"]["labels"] = json!({"a": "1"});
    let made = fixture.create_as("configmaps", "one", object).await;
    assert_eq!(
        owners(&made),
        [(
            "one Update".to_owned(),
            json!({"f:data": {".": {}, "f:key": {}}, "f:metadata": {"f:labels": {".": {}, "f:a": {}}}})
        )]
    );
    let patch = json!({"data": {"key": "2", "more": "3"}, "metadata": {"labels": null}});
    let changed = fixture.merge_as("configmaps", "two", patch).await;
    assert_eq!(
        owners(&changed),
        [
            ("one Update".to_owned(), json!({"f:data": {}})),
            (
                "two Update".to_owned(),
                json!({"f:data": {"f:key": {}, "f:more": {}}})
            ),
        ]
    );
    // The oldest of many writers are put together.
    let mut last = changed;
    for writer in 0..15 {
        fixture.clock.advance(std::time::Duration::from_secs(1));
        let patch = json!({"data": {format!("k{writer}"): "x"}});
        last = fixture
            .merge_as("configmaps", &format!("w{writer}"), patch)
            .await;
    }
    assert_eq!(owners(&last).len(), 10);
    assert_eq!(owners(&last)[0].0, "ancient-changes Update");
}

#[tokio::test]
async fn entries_can_be_sent_and_reset() {
    let fixture = Fixture::new().await;
    fixture
        .apply("configmaps", "a", map(json!({"k": "1"})))
        .await
        .unwrap();
    let mut known = fixture.get("configmaps", "web").unwrap();
    // Clients that know nothing of them do not lose them.
    let before = known["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields")
        .unwrap();
    let updated = fixture.update("configmaps", None, known).await.unwrap();
    assert_eq!(updated["metadata"]["managedFields"], before);
    // kubectl moves its own old entry by a JSON patch.
    let renamed = Patch::Json(
        json!([{"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "b"}]),
    );
    let renamed = fixture
        .write("configmaps", "web", None, renamed, &of("x"))
        .await
        .unwrap();
    assert_eq!(owners(&renamed)[0].0, "b Apply");
    let reset = fixture
        .merge_as(
            "configmaps",
            "x",
            json!({"metadata": {"managedFields": [{}]}}),
        )
        .await;
    assert_eq!(reset["metadata"].get("managedFields"), None);
    // Who applies to an object that nobody owns meets those who were before.
    let refused = fixture
        .apply("configmaps", "a", map(json!({"k": "2"})))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k"
    );
    let joined = fixture
        .apply("configmaps", "a", map(json!({"k": "1"})))
        .await
        .unwrap();
    assert_eq!(owners(&joined).len(), 2);
}

/// kubectl's move from applies on its own side: no conflict about what it has applied itself.
#[tokio::test]
async fn kubectl_takes_over_from_its_client_side() {
    let fixture = Fixture::new().await;
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut object = map(json!({"k": "1", "l": "1"}));
    let applied = object.to_string();
    object["metadata"]["annotations"] = json!({annotation: applied});
    fixture
        .create_as("configmaps", "kubectl-client-side-apply", object)
        .await;
    fixture
        .merge_as("configmaps", "edit", json!({"data": {"l": "2"}}))
        .await;
    let wanted = map(json!({"k": "3", "l": "3"}));
    let refused = fixture
        .apply("configmaps", "other", wanted.clone())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("2 conflicts"), "{refused}");
    let refused = fixture
        .apply("configmaps", "kubectl", wanted)
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"edit\" using v1: .data.l"
    );
    let taken = fixture
        .apply("configmaps", "kubectl", map(json!({"k": "3", "l": "2"})))
        .await
        .unwrap();
    assert_eq!(taken["data"], json!({"k": "3", "l": "2"}));
    let told = taken["metadata"]["annotations"][annotation]
        .as_str()
        .unwrap();
    assert!(told.contains("\"k\":\"3\""), "{told}");
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused() {
    let fixture = Fixture::new().await;
    let refused = async |object: Value| {
        let error = fixture.apply("configmaps", "a", object).await.unwrap_err();
        assert!(matches!(error, Error::BadRequest(_)), "{error}");
        error.to_string()
    };
    let mut odd = map(json!({}));
    odd["colour"] = json!("blue");
    assert_eq!(
        refused(odd).await,
        "failed to create typed patch object (default/web; v1, Kind=ConfigMap): .colour: field not declared in schema"
    );
    let mut odd = map(json!({}));
    odd["apiVersion"] = json!("v2");
    assert_eq!(
        refused(odd).await,
        "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1"
    );
    let mut odd = map(json!({}));
    odd["metadata"]["managedFields"] = json!([{"manager": "a"}]);
    assert_eq!(refused(odd).await, "metadata.managedFields must be nil");
    let patch = Patch::Apply {
        object: map(json!({})),
        force: false,
        may_create: false,
    };
    let refused = fixture
        .write("configmaps", "web", None, patch, &of("a"))
        .await;
    assert!(matches!(refused, Err(Error::Forbidden { .. })));
    let mut ghost = map(json!({}));
    ghost["metadata"]["uid"] = json!("1");
    let ghost = fixture.apply("configmaps", "a", ghost).await;
    assert!(matches!(ghost, Err(Error::Conflict { .. })));
    let stale = async |version: &str| {
        let mut object = map(json!({"k": "2"}));
        object["metadata"]["resourceVersion"] = json!(version);
        fixture.apply("configmaps", "a", object).await
    };
    fixture
        .apply("configmaps", "a", map(json!({"k": "1"})))
        .await
        .unwrap();
    assert!(matches!(stale("1").await, Err(Error::Conflict { .. })));
    let mut dry = of("dry");
    dry.dry_run = true;
    let patch = Patch::Apply {
        object: map(json!({"dry": "1"})),
        force: false,
        may_create: true,
    };
    let told = fixture
        .write("configmaps", "web", None, patch, &dry)
        .await
        .unwrap();
    assert_eq!(told["data"]["dry"], "1");
    assert_eq!(
        fixture.get("configmaps", "web").unwrap()["data"],
        json!({"k": "1"})
    );
}

/// Appliers of different fields at the same time all succeed.
#[tokio::test]
async fn appliers_race_and_nobody_loses() {
    let fixture = Fixture::new().await;
    let fixture = &fixture;
    let applies = (0..20).map(|index| async move {
        let data = json!({format!("k{index}"): "x"});
        fixture
            .apply("configmaps", &format!("m{index}"), map(data))
            .await
    });
    for applied in futures::future::join_all(applies).await {
        applied.unwrap();
    }
    let found = fixture.get("configmaps", "web").unwrap();
    assert_eq!(found["data"].as_object().unwrap().len(), 20);
    assert_eq!(owners(&found).len(), 20);
}

/// Every kind can be applied, and again without a change.
#[tokio::test]
async fn every_kind_is_applied_alike() {
    let fixture = Fixture::new().await;
    for row in fixture.registry.resources() {
        let mut object = (row.sample)();
        object["apiVersion"] = json!(row.api_version());
        object["kind"] = json!(row.kind);
        // A definition is called by what it defines.
        if row.kind != "CustomResourceDefinition" {
            object["metadata"]["name"] = json!(format!("applied-{}", row.group.len()));
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let apply = async |object: Value| {
            let patch = Patch::Apply {
                object,
                force: false,
                may_create: true,
            };
            fixture
                .registry
                .patch(row, NS, &name, None, patch, &of("me"), &fixture.caller)
                .await
                .map(|written| written.object.object.clone())
        };
        let made = apply(object.clone()).await.unwrap();
        assert_eq!(apply(object.clone()).await.unwrap(), made, "{row:?}");
        let mut more = object.clone();
        more["metadata"]["labels"] = json!({"more": "1"});
        let labelled = apply(more).await.unwrap();
        assert_eq!(labelled["metadata"]["labels"]["more"], "1", "{row:?}");
        let back = apply(object).await.unwrap();
        let label = back["metadata"]["labels"].get("more").cloned();
        assert_eq!(label, None, "{row:?}");
    }
}
