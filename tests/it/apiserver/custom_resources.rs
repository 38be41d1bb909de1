//! Kinds that are defined while the server runs.

use serde_json::{Value, json};

use super::harness::{Cluster, answer};
use crate::cluster::until;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                    "selectableFields": [{"jsonPath": ".spec.image"}],
                    "additionalPrinterColumns": [{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                        {"name": "Image", "type": "string", "jsonPath": ".spec.image", "priority": 1}],
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "required": ["image"], "properties": {
                            "image": {"type": "string"},
                            "replicas": {"type": "integer", "minimum": 0, "default": 1},
                            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                                "items": {"type": "object", "required": ["name"],
                                    "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}}}},
                        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}},
                    }}}},
                {"name": "v1beta1", "served": true, "storage": false,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
            ],
        },
    })
}

fn tab(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

impl Cluster {
    async fn define(&self, definition: &Value) {
        let (code, made) = self.send("POST", DEFINITIONS, definition).await;
        assert_eq!(code, 201, "{made}");
        let name = made["metadata"]["name"].as_str().unwrap();
        until("the definition to be established", async || {
            let (_, found) = self.get(&format!("{DEFINITIONS}/{name}")).await;
            let conditions = found["status"]["conditions"].as_array()?;
            let holds = |it: &&Value| it["type"] == "Established" && it["status"] == "True";
            conditions.iter().any(|it| holds(&it)).then_some(())
        })
        .await;
    }

    async fn patch(&self, path: &str, kind: &str, patch: &Value) -> (u16, Value) {
        let request = self
            .request("PATCH", path)
            .header("content-type", format!("application/{kind}"))
            .body(patch.to_string());
        answer(request).await
    }
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_judged() {
    let cluster = Cluster::start().await;
    let (code, _) = cluster.get(TABS).await;
    assert_eq!(code, 404);
    cluster.define(&definition()).await;
    let sent = tab("a", &json!({"image": "x", "junk": 1}));
    let strict = format!("{TABS}?fieldValidation=Strict");
    let (code, refused) = cluster.send("POST", &strict, &sent).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            400,
            &json!("strict decoding error: unknown field \"spec.junk\"")
        )
    );
    let (code, made) = cluster.send("POST", TABS, &sent).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"], json!({"image": "x", "replicas": 1}));
    assert_eq!(made["metadata"]["generation"], 1);
    let bad = tab(
        "b",
        &json!({"replicas": -1, "ports": [{"name": "p"}, {"name": "p"}]}),
    );
    let (code, refused) = cluster.send("POST", TABS, &bad).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")));
    let causes = refused["details"]["causes"].as_array().unwrap();
    let causes: Vec<String> = causes
        .iter()
        .map(|it| {
            format!(
                "{} {}",
                it["field"].as_str().unwrap(),
                it["reason"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        causes,
        [
            "spec.ports[1] FieldValueDuplicate",
            "spec.replicas FieldValueInvalid",
            "spec.image FieldValueRequired"
        ]
    );
    // A dry run is judged and leaves nothing.
    let dry = format!("{TABS}?dryRun=All");
    let (code, _) = cluster
        .send("POST", &dry, &tab("c", &json!({"image": "x"})))
        .await;
    assert_eq!(code, 201);
    let (_, listed) = cluster
        .get(&format!("{TABS}?fieldSelector=spec.image%3Dx"))
        .await;
    assert_eq!(listed["kind"], "CronTabList");
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    // The other version shows the same object.
    let other = TABS.replace("/v1/", "/v1beta1/");
    let (_, shown) = cluster.get(&format!("{other}/a")).await;
    assert_eq!(shown["apiVersion"], "stable.example.com/v1beta1");
    assert_eq!(shown["metadata"]["uid"], made["metadata"]["uid"]);
    let asked = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let (_, table) = answer(cluster.request("GET", TABS).header("accept", asked)).await;
    assert_eq!(table["columnDefinitions"][2]["priority"], 1);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 1, "x"]));
}

#[tokio::test]
async fn writes_keep_to_their_part() {
    let cluster = Cluster::start().await;
    cluster.define(&definition()).await;
    let (_, made) = cluster
        .send("POST", TABS, &tab("a", &json!({"image": "x"})))
        .await;
    let path = format!("{TABS}/a");
    let mut wanted = made.clone();
    wanted["status"] = json!({"replicas": 3, "selector": "app=a"});
    let (_, put) = cluster.send("PUT", &path, &wanted).await;
    assert_eq!(put, made, "the status is not written so, hence nothing is");
    wanted["spec"]["image"] = "y".into();
    let (code, put) = cluster
        .send("PUT", &format!("{path}/status"), &wanted)
        .await;
    assert_eq!((code, &put["spec"]["image"]), (200, &json!("x")));
    assert_eq!(put["metadata"]["generation"], 1);
    let wrong = json!({"status": {"replicas": "many"}});
    let (code, _) = cluster
        .patch(&format!("{path}/status"), "merge-patch+json", &wrong)
        .await;
    assert_eq!(code, 422);
    let (_, scale) = cluster.get(&format!("{path}/scale")).await;
    assert_eq!(scale["spec"], json!({"replicas": 1}));
    assert_eq!(scale["status"], json!({"replicas": 3, "selector": "app=a"}));
    let more = json!({"spec": {"replicas": 5}});
    let (code, scale) = cluster
        .patch(&format!("{path}/scale"), "merge-patch+json", &more)
        .await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(5)));
    let (_, found) = cluster.get(&path).await;
    assert_eq!(
        (&found["spec"]["replicas"], &found["metadata"]["generation"]),
        (&json!(5), &json!(2))
    );
    let (code, refused) = cluster
        .patch(&path, "strategic-merge-patch+json", &json!({"spec": {}}))
        .await;
    assert_eq!(
        (code, &refused["reason"]),
        (415, &json!("UnsupportedMediaType"))
    );
}

#[tokio::test]
async fn applies_merge_by_the_schema() {
    let cluster = Cluster::start().await;
    cluster.define(&definition()).await;
    let apply = async |manager: &str, spec: Value| {
        let path = format!("{TABS}/a?fieldManager={manager}");
        cluster
            .patch(&path, "apply-patch+yaml", &tab("a", &spec))
            .await
    };
    let port = |name: &str, port: u16| json!({"name": name, "port": port});
    let mine = json!({"image": "x", "ports": [port("a", 1)]});
    let (code, _) = apply("one", mine.clone()).await;
    assert_eq!(code, 201);
    let (code, merged) = apply("two", json!({"ports": [port("b", 2)]})).await;
    assert_eq!(code, 200, "{merged}");
    assert_eq!(merged["spec"]["ports"], json!([port("a", 1), port("b", 2)]));
    let (_, again) = apply("one", mine).await;
    assert_eq!(again, merged, "the same again changes nothing");
    let (code, conflict) = apply("two", json!({"ports": [port("a", 3)]})).await;
    assert_eq!(code, 409);
    assert_eq!(
        conflict["details"]["causes"][0]["field"],
        ".spec.ports[name=\"a\"].port"
    );
    let (_, left) = apply("one", json!({"image": "x"})).await;
    assert_eq!(left["spec"]["ports"], json!([port("b", 2)]));
    let (code, refused) = apply("one", json!({"image": "x", "junk": 1})).await;
    assert_eq!(code, 400);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.ends_with(".spec.junk: field not declared in schema"),
        "{message}"
    );
}

#[tokio::test]
async fn kinds_are_told_at_once_and_go_with_their_objects() {
    let cluster = Cluster::start().await;
    let (_, before) = cluster.get("/openapi/v3").await;
    cluster.define(&definition()).await;
    let (_, group) = cluster.get("/apis/stable.example.com").await;
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let (_, resources) = cluster.get("/apis/stable.example.com/v1").await;
    assert_eq!(resources["resources"][0]["shortNames"], json!(["ct"]));
    assert_eq!(resources["resources"][2]["name"], "crontabs/scale");
    let (_, after) = cluster.get("/openapi/v3").await;
    let root = "apis/stable.example.com/v1";
    assert!(before["paths"].get(root).is_none() && after["paths"].get(root).is_some());
    assert_eq!(
        before["paths"]["apis/apps/v1"],
        after["paths"]["apis/apps/v1"]
    );
    let (_, document) = cluster.get(&format!("/openapi/v3/{root}")).await;
    let schema = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["replicas"]["default"],
        1
    );

    let mut held = tab("held", &json!({"image": "x"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    for object in [tab("free", &json!({"image": "x"})), held] {
        let (code, made) = cluster.send("POST", TABS, &object).await;
        assert_eq!(code, 201, "{made}");
    }
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let (code, deleted) = cluster.send("DELETE", &path, &json!({})).await;
    assert_eq!(code, 200);
    assert_eq!(
        deleted["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    let (code, refused) = cluster
        .send("POST", TABS, &tab("late", &json!({"image": "x"})))
        .await;
    assert_eq!(code, 405, "{refused}");
    until("the free object to go", async || {
        (cluster.get(&format!("{TABS}/free")).await.0 == 404).then_some(())
    })
    .await;
    let (code, _) = cluster.get(&path).await;
    assert_eq!(code, 200, "it waits for the held one");
    let release = json!({"metadata": {"finalizers": null}});
    let (code, _) = cluster
        .patch(&format!("{TABS}/held"), "merge-patch+json", &release)
        .await;
    assert_eq!(code, 200);
    until("the definition to go", async || {
        (cluster.get(&path).await.0 == 404).then_some(())
    })
    .await;
    assert_eq!(cluster.get(TABS).await.0, 404);
    // Defined again, nothing of before is there.
    cluster.define(&definition()).await;
    assert_eq!(cluster.get(TABS).await.1["items"], json!([]));
}

#[tokio::test]
async fn owners_and_namespaces_take_custom_objects_with_them() {
    let cluster = Cluster::start().await;
    cluster.define(&definition()).await;
    let (_, owner) = cluster
        .send("POST", TABS, &tab("owner", &json!({"image": "x"})))
        .await;
    let reference = json!([{"apiVersion": "stable.example.com/v1", "kind": "CronTab", "name": "owner", "uid": owner["metadata"]["uid"]}]);
    let mut child = tab("child", &json!({"image": "x"}));
    child["metadata"]["ownerReferences"] = reference.clone();
    cluster.send("POST", TABS, &child).await;
    let map = json!({"metadata": {"name": "owned", "ownerReferences": reference}});
    let maps = "/api/v1/namespaces/default/configmaps";
    cluster.send("POST", maps, &map).await;
    cluster
        .send("DELETE", &format!("{TABS}/owner"), &json!({}))
        .await;
    until("what was owned to go", async || {
        let map = cluster.get(&format!("{maps}/owned")).await.0;
        let child = cluster.get(&format!("{TABS}/child")).await.0;
        (map == 404 && child == 404).then_some(())
    })
    .await;

    let namespace = json!({"metadata": {"name": "other"}});
    cluster.send("POST", "/api/v1/namespaces", &namespace).await;
    let there = TABS.replace("/default/", "/other/");
    let (code, _) = cluster
        .send("POST", &there, &tab("a", &json!({"image": "x"})))
        .await;
    assert_eq!(code, 201);
    cluster
        .send("DELETE", "/api/v1/namespaces/other", &json!({}))
        .await;
    until("the namespace to go", async || {
        (cluster.get("/api/v1/namespaces/other").await.0 == 404).then_some(())
    })
    .await;
    let everywhere = "/apis/stable.example.com/v1/crontabs";
    assert_eq!(cluster.get(everywhere).await.1["items"], json!([]));
}

#[tokio::test]
async fn a_definition_that_cannot_be_honoured_is_refused_by_field() {
    let cluster = Cluster::start().await;
    let refused = async |pointer: &str, value: Value| {
        let mut wrong = definition();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap()[field] = value;
        let (code, refused) = cluster.send("POST", DEFINITIONS, &wrong).await;
        assert_eq!(code, 422, "{refused}");
        refused["details"]["causes"][0]["field"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        refused("/spec/conversion", json!({"strategy": "Webhook"})).await,
        "spec.conversion"
    );
    assert_eq!(
        refused(
            "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations",
            json!([{"rule": "true"}])
        )
        .await,
        "spec.versions[0].schema.openAPIV3Schema.x-kubernetes-validations"
    );
    assert_eq!(
        refused("/spec/versions/1/storage", json!(true)).await,
        "spec.versions"
    );
    // Who says so has the kind without its rules, and is reminded.
    let mut unchecked = definition();
    unchecked["metadata"]["name"] = "loose.stable.example.com".into();
    unchecked["metadata"]["annotations"] = json!({"wasmorch.dev/unchecked-rules": "true"});
    unchecked["spec"]["names"] = json!({"plural": "loose", "kind": "Loose"});
    unchecked["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{"rule": "true"}]);
    cluster.define(&unchecked).await;
    let path = format!("{DEFINITIONS}/loose.stable.example.com");
    let (_, found) = cluster.get(&path).await;
    let conditions = found["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions.iter().any(|it| it["reason"] == "NotImplemented"),
        "{found}"
    );
    // A name that another kind has is accepted as an object and not as a name.
    let mut late = definition();
    late["metadata"]["name"] = "others.stable.example.com".into();
    late["spec"]["names"] = json!({"plural": "others", "kind": "Other", "shortNames": ["ct"]});
    cluster.define(&definition()).await;
    cluster.send("POST", DEFINITIONS, &late).await;
    let path = format!("{DEFINITIONS}/others.stable.example.com");
    until("the name to be refused", async || {
        let (_, found) = cluster.get(&path).await;
        let conditions = found["status"]["conditions"].as_array()?;
        conditions
            .iter()
            .any(|it| it["type"] == "NamesAccepted" && it["reason"] == "ShortNamesConflict")
            .then_some(())
    })
    .await;
    assert_eq!(
        cluster.get("/apis/stable.example.com/v1/others").await.0,
        404
    );
    cluster
        .send(
            "DELETE",
            &format!("{DEFINITIONS}/crontabs.stable.example.com"),
            &json!({}),
        )
        .await;
    until("the name to be free", async || {
        (cluster.get("/apis/stable.example.com/v1/others").await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_definition_takes_no_built_in_kinds_objects_with_it() {
    let cluster = Cluster::start().await;
    let mut other = definition();
    other["metadata"]["name"] = "modules.wasmorch.dev".into();
    other["spec"]["group"] = "wasmorch.dev".into();
    other["spec"]["names"] = json!({"plural": "modules", "kind": "Other"});
    let (code, refused) = cluster.send("POST", DEFINITIONS, &other).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(refused["details"]["causes"][0]["field"], "metadata.name");
    // One that does not get its names goes without looking for objects.
    other["metadata"]["name"] = "units.wasmorch.dev".into();
    other["spec"]["names"] = json!({"plural": "units", "kind": "Module"});
    let (code, made) = cluster.send("POST", DEFINITIONS, &other).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("{DEFINITIONS}/units.wasmorch.dev");
    until("the name to be refused", async || {
        let (_, found) = cluster.get(&path).await;
        let conditions = found["status"]["conditions"].as_array()?;
        let is_refused = |it: &Value| it["type"] == "NamesAccepted" && it["status"] == "False";
        conditions.iter().any(is_refused).then_some(())
    })
    .await;
    cluster.send("DELETE", &path, &json!({})).await;
    until("the definition to go", async || {
        (cluster.get(&path).await.0 == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_uses_a_deprecated_version_is_told() {
    let cluster = Cluster::start().await;
    let mut definition = definition();
    definition["spec"]["versions"][1]["deprecated"] = json!(true);
    cluster.define(&definition).await;
    let old = TABS.replace("/v1/", "/v1beta1/");
    let expected = "299 - \"stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab\"";
    for (path, code) in [(old.clone(), 200), (format!("{old}/none"), 404)] {
        let response = cluster.request("GET", &path).send().await.unwrap();
        assert_eq!(response.status(), code, "{path}");
        assert_eq!(response.headers()["warning"], expected, "{path}");
    }
    let response = cluster.request("GET", TABS).send().await.unwrap();
    assert!(!response.headers().contains_key("warning"));
}
