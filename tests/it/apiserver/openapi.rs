//! OpenAPI in its two versions and three encodings.

use serde_json::{Value, json};

use super::harness::{Cluster, body};

#[tokio::test]
async fn the_index_names_documents_by_their_hash() {
    let cluster = Cluster::start().await;
    let (code, index) = cluster.get("/openapi/v3").await;
    assert_eq!(code, 200);
    let paths = index["paths"].as_object().unwrap();
    for (path, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")));
        let response = cluster.request("GET", url).send().await.unwrap();
        let tag = response.headers()["etag"].clone();
        let hash = url.rsplit('=').next().unwrap();
        assert_eq!(tag.to_str().unwrap(), format!("\"{hash}\""));
        let document = body(response).await;
        assert_eq!(document["openapi"], "3.0.0", "{path}");
        dangles(&document, &document);
        let again = cluster.request("GET", url).header("if-none-match", tag);
        assert_eq!(again.send().await.unwrap().status(), 304, "{path}");
    }
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    let (code, _) = cluster.get("/openapi/v3/apis/nothing/v1").await;
    assert_eq!(code, 404);
}

/// Every reference leads somewhere.
fn dangles(node: &Value, document: &Value) {
    match node {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            fields.values().for_each(|inner| dangles(inner, document));
        }
        Value::Array(items) => items.iter().for_each(|inner| dangles(inner, document)),
        _ => {}
    }
}

#[tokio::test]
async fn fields_operations_and_patches_are_told() {
    let cluster = Cluster::start().await;
    let (_, apps) = cluster.get("/openapi/v3/apis/apps/v1").await;
    let schemas = &apps["components"]["schemas"];
    let container = &schemas["io.k8s.api.core.v1.Container"];
    assert_eq!(container["required"], json!(["name"]));
    let image = container["properties"]["image"]["description"].as_str();
    assert!(image.unwrap().contains("Container image name"));
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    let spec = &deployment["properties"]["spec"];
    assert_eq!(
        spec["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"
    );
    let item = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(item["patch"]["x-kubernetes-action"], "patch");
    let content = item["patch"]["requestBody"]["content"].as_object().unwrap();
    assert!(content.contains_key("application/strategic-merge-patch+json"));
    let parameters = item["patch"]["parameters"].as_array().unwrap();
    for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
        assert!(parameters.iter().any(|it| it["name"] == name), "{name}");
    }
    let scale = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"];
    assert_eq!(
        scale["put"]["x-kubernetes-group-version-kind"]["kind"],
        "Scale"
    );
}

#[tokio::test]
async fn version_two_is_json_or_protobuf() {
    let cluster = Cluster::start().await;
    let (_, document) = cluster.get("/openapi/v2").await;
    assert_eq!(document["swagger"], "2.0");
    dangles(&document, &document);
    let quantity = &document["definitions"]["io.k8s.apimachinery.pkg.api.resource.Quantity"];
    assert_eq!(quantity["type"], "string");
    let asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let get = || {
        cluster
            .request("GET", "/openapi/v2")
            .header("accept", asked)
    };
    let response = get().send().await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    let tag = response.headers()["etag"].clone();
    let bytes = response.bytes().await.unwrap();
    assert_eq!(&bytes[..5], b"\x0a\x032.0");
    let name = b"io.k8s.api.core.v1.EphemeralContainer";
    assert!(bytes.windows(name.len()).any(|window| window == name));
    let again = get().header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
}

/// A kind with two versions has a schema for each, and reviews have theirs.
#[tokio::test]
async fn every_kind_has_a_schema_of_its_own_in_all_forms() {
    let cluster = Cluster::start().await;
    let (_, v2) = cluster.get("/openapi/v2").await;
    let asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let response = cluster
        .request("GET", "/openapi/v2")
        .header("accept", asked);
    let protobuf = response.send().await.unwrap().bytes().await.unwrap();
    for (group, version, kind, name, field) in [
        (
            "autoscaling",
            "v1",
            "HorizontalPodAutoscaler",
            "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
            "targetCPUUtilizationPercentage",
        ),
        (
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
            "metrics",
        ),
        (
            "authorization.k8s.io",
            "v1",
            "SubjectAccessReview",
            "io.k8s.api.authorization.v1.SubjectAccessReview",
            "resourceAttributes",
        ),
        (
            "authentication.k8s.io",
            "v1",
            "TokenReview",
            "io.k8s.api.authentication.v1.TokenReview",
            "audiences",
        ),
    ] {
        let (code, v3) = cluster
            .get(&format!("/openapi/v3/apis/{group}/{version}"))
            .await;
        assert_eq!(code, 200, "{name}");
        let own = json!([{"group": group, "version": version, "kind": kind}]);
        for schemas in [&v2["definitions"], &v3["components"]["schemas"]] {
            assert_eq!(
                schemas[name]["x-kubernetes-group-version-kind"], own,
                "{name}"
            );
            let spec = &schemas[format!("{name}Spec")]["properties"];
            assert!(spec[field].is_object(), "{name} {field}");
        }
        for text in [name, field] {
            let mut windows = protobuf.windows(text.len());
            assert!(windows.any(|window| window == text.as_bytes()), "{text}");
        }
    }
    let (_, v3) = cluster
        .get("/openapi/v3/apis/authorization.k8s.io/v1")
        .await;
    let place = "/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews";
    let posted = &v3["paths"][place]["post"]["x-kubernetes-group-version-kind"];
    assert_eq!(posted["kind"], "LocalSubjectAccessReview");
    let (_, core) = cluster.get("/openapi/v3/api/v1").await;
    assert!(core["paths"]["/api/v1/namespaces"]["delete"].is_null());
}
