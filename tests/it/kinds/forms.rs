//! What HTTP adds: encodings of bodies, forms of answers, methods that are none.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::behaviours::each;
use super::door::{Door, Way};
use super::protobuf;
use super::world::{Answer, World, name_of, object};

impl Door<'_> {
    async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.world.ask(method, path, headers, body).await.unwrap()
    }

    async fn accept(&self, path: &str, media: &str) -> Answer {
        self.raw("GET", path, &[("accept", media)], b"").await
    }
}

async fn each_by_http(behaviour: impl AsyncFn(Door<'_>)) {
    each(async |door| {
        if door.way == Way::Http {
            behaviour(door).await;
        }
    })
    .await;
}

/// JSON as YAML in block style.
fn yaml(value: &Value, indent: usize, text: &mut String) {
    let map = match value {
        Value::Object(map) if !map.is_empty() => map,
        _ => {
            let _ = writeln!(text, " {value}");
            return;
        }
    };
    text.push('\n');
    for (key, value) in map {
        let _ = write!(text, "{:indent$}{}:", "", json!(key));
        yaml(value, indent + 2, text);
    }
}

/// Without what differs each time.
fn stripped(mut object: Value) -> Value {
    for field in ["uid", "managedFields", "resourceVersion"] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    for varying in [
        "/spec/clusterIP",
        "/spec/clusterIPs",
        "/spec/selector",
        "/spec/template/metadata",
    ] {
        if let Some(value) = object.pointer_mut(varying) {
            *value = Value::Null;
        }
    }
    object
}

#[tokio::test]
async fn every_encoding_says_the_same() {
    each_by_http(async |door| {
        let sent = object(door.row, 1);
        let path = door.path(
            "",
            None,
            &[("dryRun", "All"), ("fieldValidation", "Strict")],
        );
        let post = async |media: &str, body: &[u8]| {
            let answer = door
                .raw("POST", &path, &[("content-type", media)], body)
                .await;
            assert_eq!(answer.code, 201, "{door:?} {media} {answer:?}");
            stripped(answer.object())
        };
        let plain = post("application/json", sent.to_string().as_bytes()).await;
        let untold = door
            .raw("POST", &path, &[], sent.to_string().as_bytes())
            .await;
        assert_eq!(stripped(untold.object()), plain, "{door:?}");
        let mut text = String::new();
        yaml(&sent, 0, &mut text);
        assert_eq!(
            post("application/yaml", text.as_bytes()).await,
            plain,
            "{door:?}"
        );
        match protobuf::encode(&sent) {
            Some(bytes) => {
                let media = "application/vnd.kubernetes.protobuf";
                assert_eq!(post(media, &bytes).await, plain, "{door:?}");
            }
            None => assert!(
                door.row.group.contains("example.com")
                    || matches!(door.row.kind, "Module" | "CustomResourceDefinition"),
                "{door:?} has no protobuf form"
            ),
        }
        let refused = door
            .raw("POST", &path, &[("content-type", "application/cbor")], b"x")
            .await;
        assert_eq!(
            (refused.code, refused.reason()),
            (415, "UnsupportedMediaType"),
            "{door:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn every_kind_shows_as_a_table() {
    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";
    each_by_http(async |door| {
        let made = door.made(1).await;
        let one = format!("metadata.name={}", name_of(&made));
        let selected = [("fieldSelector", one.as_str())];
        let listed = door
            .accept(&door.path("", None, &selected), TABLE)
            .await
            .object();
        let single = door
            .accept(&door.path(name_of(&made), None, &[]), TABLE)
            .await
            .object();
        for table in [&listed, &single] {
            assert_eq!(
                (&table["kind"], &table["apiVersion"]),
                (&json!("Table"), &json!("meta.k8s.io/v1"))
            );
            let columns = table["columnDefinitions"].as_array().unwrap();
            let is_name = columns[0]["name"] == "Name";
            assert_eq!(columns[0]["format"] == "name", is_name, "{door:?}");
            let row = &table["rows"][0];
            let cells = row["cells"].as_array().unwrap();
            assert_eq!(cells.len(), columns.len(), "{door:?}");
            assert!(
                !cells.contains(&json!("<unreadable>")),
                "{door:?} {cells:?}"
            );
            assert_eq!(row["object"]["kind"], "PartialObjectMetadata", "{door:?}");
            // All but who owns what, which no column shows.
            let mut metadata = made["metadata"].clone();
            metadata.as_object_mut().unwrap().remove("managedFields");
            assert_eq!(row["object"]["metadata"], metadata, "{door:?}");
        }
        let whole = [selected[0], ("includeObject", "Object")];
        let whole = door
            .accept(&door.path("", None, &whole), TABLE)
            .await
            .object();
        assert_eq!(whole["rows"][0]["object"], made, "{door:?}");
        let none = [selected[0], ("includeObject", "None")];
        let none = door
            .accept(&door.path("", None, &none), TABLE)
            .await
            .object();
        assert!(none["rows"][0]["object"].is_null(), "{door:?}");
        let odd = door
            .accept(&door.path("", None, &[("includeObject", "Half")]), TABLE)
            .await;
        assert_eq!(odd.code, 400, "{door:?}");
        door.remove(name_of(&made)).await;
    })
    .await;
}

#[tokio::test]
async fn every_kind_shows_its_metadata_alone() {
    each_by_http(async |door| {
        let made = door.made(1).await;
        let one = format!("metadata.name={}", name_of(&made));
        let path = door.path("", None, &[("fieldSelector", &one)]);
        let list = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        let listed = door.accept(&path, list).await.object();
        assert_eq!(listed["kind"], "PartialObjectMetadataList", "{door:?}");
        let item = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        let single = door
            .accept(&door.path(name_of(&made), None, &[]), item)
            .await
            .object();
        for item in [&listed["items"][0], &single] {
            assert_eq!(item["metadata"], made["metadata"], "{door:?}");
            assert!(item.get("spec").is_none(), "{door:?}");
        }
        let refused = door.accept(&path, "application/xml").await;
        assert_eq!(
            (refused.code, refused.reason()),
            (406, "NotAcceptable"),
            "{door:?}"
        );
        door.remove(name_of(&made)).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_verb_or_no_place_is_said() {
    each_by_http(async |door| {
        let sent = object(door.row, 1);
        let name = name_of(&sent);
        let body = sent.to_string();
        let (all, one) = (door.path("", None, &[]), door.path(name, None, &[]));
        for (method, path, code) in [
            ("PUT", &all, 405),
            ("PATCH", &all, 405),
            ("POST", &one, 405),
            ("BREW", &one, 405),
            ("GET", &format!("{one}/nothing"), 404),
            ("GET", &format!("{all}x"), 404),
        ] {
            let headers = [("content-type", "application/json")];
            let answer = door.raw(method, path, &headers, body.as_bytes()).await;
            let is_refused =
                answer.code == code || (code == 405 && matches!(answer.code, 404 | 415));
            assert!(is_refused, "{door:?} {method} {path} {answer:?}");
            assert_eq!(answer.body["kind"], "Status", "{door:?} {method} {path}");
        }
        if door.row.namespaced {
            let elsewhere = all.replace("/namespaces/default/", "/namespaces/nowhere/");
            let answer = door.raw("POST", &elsewhere, &[], body.as_bytes()).await;
            assert_eq!(answer.code, 404, "{door:?} {answer:?}");
            assert_eq!(
                answer.body["message"], "namespaces \"nowhere\" not found",
                "{door:?}"
            );
            let mut foreign = sent.clone();
            foreign["metadata"]["namespace"] = json!("kube-system");
            let answer = door
                .raw("POST", &all, &[], foreign.to_string().as_bytes())
                .await;
            assert_eq!(answer.code, 400, "{door:?} {answer:?}");
        }
    })
    .await;
}

/// Each row and each of its subresources is announced with the verbs that it has.
#[tokio::test]
async fn every_kind_is_announced() {
    let world = World::new().await;
    let groups = world.ask("GET", "/apis", &[], b"").await.unwrap().object();
    let groups = groups["groups"].as_array().unwrap();
    for row in world.rows() {
        let is_found = |it: &Value| it["name"] == row.group;
        assert!(
            row.group.is_empty() || groups.iter().any(is_found),
            "{row:?}"
        );
        let root = if row.group.is_empty() { "api" } else { "apis" };
        let path = format!("/{root}/{}", row.api_version());
        let found = world.ask("GET", &path, &[], b"").await.unwrap().object();
        let resources = found["resources"].as_array().unwrap();
        let named = |name: &str| resources.iter().find(|it| it["name"] == name);
        let it = named(row.plural).unwrap();
        assert_eq!(
            (&it["kind"], &it["namespaced"]),
            (&json!(row.kind), &json!(row.namespaced))
        );
        for verb in [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ] {
            // Nobody loses all namespaces by leaving out a name.
            let is_there = (row.plural, verb) != ("namespaces", "deletecollection");
            assert_eq!(
                it["verbs"].as_array().unwrap().contains(&json!(verb)),
                is_there,
                "{row:?} {verb}"
            );
        }
        let short = it["shortNames"].as_array().map_or(0, Vec::len);
        assert_eq!(short, row.short_names().len(), "{row:?}");
        for below in row.subresources {
            let it = named(&format!("{}/{}", row.plural, below.name)).unwrap();
            assert_eq!(it["verbs"], json!(below.verbs), "{row:?} {}", below.name);
            let group = it["group"].as_str().unwrap_or(row.group);
            assert_eq!(group, below.group, "{row:?} {}", below.name);
        }
    }
}

#[tokio::test]
async fn a_slash_at_the_end_changes_nothing() {
    let world = World::new().await;
    for path in ["/version", "/api", "/apis/apps/v1", "/openapi/v3"] {
        let plain = world.ask("GET", path, &[], b"").await.unwrap();
        let slashed = world.ask("GET", &format!("{path}/"), &[], b"").await;
        assert_eq!(slashed.unwrap().object(), plain.object(), "{path}");
    }
}
