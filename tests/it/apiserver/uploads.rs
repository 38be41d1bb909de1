//! Modules over HTTP, and pods in one request: all or nothing, and never a vague answer.

use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::harness::{Cluster, answer};

const BASE: &str = "/apis/wasmorch.dev/v1/namespaces/default";
const LIMIT: u64 = 1 << 20;

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn command() -> Vec<u8> {
    wat(r#"(module (memory (export "memory") 1) (func (export "_start")))"#)
}

fn handler() -> Vec<u8> {
    wat(
        r#"(component (instance $empty) (export "wasi:http/incoming-handler@0.2.3" (instance $empty)))"#,
    )
}

async fn cluster() -> Cluster {
    Cluster::start_with(|args| args.max_module_size = LIMIT).await
}

fn blobs(cluster: &Cluster) -> usize {
    std::fs::read_dir(cluster.data().join("blobs/sha256"))
        .unwrap()
        .count()
}

async fn count(cluster: &Cluster, path: &str) -> usize {
    let (code, list) = cluster.get(path).await;
    assert_eq!(code, 200);
    list["items"].as_array().unwrap().len()
}

async fn push(cluster: &Cluster, name: &str, bytes: Vec<u8>) -> (u16, Value) {
    let path = format!("{BASE}/modules/{name}/content");
    answer(cluster.request("PUT", &path).body(bytes)).await
}

async fn upload(cluster: &Cluster, form: Form) -> (u16, Value) {
    answer(
        cluster
            .request("POST", &format!("{BASE}/uploads"))
            .multipart(form),
    )
    .await
}

fn file(name: &str, bytes: Vec<u8>) -> Part {
    Part::bytes(bytes).file_name(name.to_owned())
}

#[tokio::test]
async fn a_module_is_pushed_tagged_fetched_and_deleted() {
    let cluster = cluster().await;
    let (code, module) = push(&cluster, "hello", command()).await;
    assert_eq!((code, module["kind"].as_str()), (201, Some("Module")));
    let version = &module["spec"]["versions"][0];
    assert_eq!(
        (version["role"].as_str(), version["format"].as_str()),
        (Some("Command"), Some("CoreModule"))
    );
    let digest = version["digest"].as_str().unwrap().to_owned();
    assert_eq!(module["spec"]["tags"]["latest"], digest);

    let (code, again) = push(&cluster, "hello", command()).await;
    assert_eq!(
        (code, &again),
        (200, &module),
        "the same bytes change nothing"
    );
    let path = format!("{BASE}/modules/hello/content?tag=v2");
    let (code, tagged) = answer(cluster.request("POST", &path).body(handler())).await;
    assert_eq!(code, 200);
    assert_eq!(tagged["spec"]["versions"].as_array().unwrap().len(), 2);
    assert_eq!(tagged["spec"]["tags"]["latest"], digest);

    let fetch =
        |query: String| cluster.request("GET", &format!("{BASE}/modules/hello/content{query}"));
    let bytes = fetch(String::new())
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(bytes, command());
    let bytes = fetch("?tag=v2".to_owned())
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(bytes, handler());
    let response = fetch(format!("?digest={digest}")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/wasm");
    assert_eq!(answer(fetch("?tag=none".to_owned())).await.0, 404);
    assert_eq!(
        answer(fetch(format!("?digest=sha256:{}", "0".repeat(64))))
            .await
            .0,
        404
    );
    assert_eq!(blobs(&cluster), 2);
    let (code, _) = answer(cluster.request("DELETE", &format!("{BASE}/modules/hello"))).await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn what_cannot_run_is_refused_in_words_and_leaves_nothing() {
    let cluster = cluster().await;
    let mut large = command();
    large.resize(usize::try_from(LIMIT).unwrap() + 1, 0);
    let cases: Vec<(Vec<u8>, u16, &str, &str)> = vec![
        (
            b"<!DOCTYPE html><html>".to_vec(),
            422,
            "W0104",
            "a web page",
        ),
        (b"PK\x03\x04zipzip".to_vec(), 422, "W0104", "unzip"),
        (b"(module)".to_vec(), 422, "W0104", "wasm-tools parse"),
        (Vec::new(), 422, "W0104", "is empty"),
        (large, 413, "W0106", "1 MiB"),
        (
            wat(r#"(module (import "__wbindgen_placeholder__" "x" (func)))"#),
            422,
            "W0101",
            "wasm32-wasip2",
        ),
        (
            wat(r#"(component (import "acme:billing/ledger@1.0.0" (instance)))"#),
            422,
            "W0103",
            "acme:billing/ledger@1.0.0",
        ),
        (
            wat(r#"(module (import "env" "x" (func)))"#),
            422,
            "W0107",
            "wasi-sdk",
        ),
        (
            wat("(module (memory 1 2 shared))"),
            422,
            "W0108",
            "shared memory",
        ),
        (command()[..20].to_vec(), 422, "W0109", "cut short"),
        (
            wat(r#"(module (func (export "add")))"#),
            422,
            "W0110",
            "`add`",
        ),
    ];
    for (bytes, code, word, message) in cases {
        let form = Form::new().part("file", file("hello.wasm", bytes.clone()));
        for (found, status) in [
            push(&cluster, "hello", bytes).await,
            upload(&cluster, form).await,
        ] {
            assert_eq!(found, code, "{word}: {status}");
            let text = status["message"].as_str().unwrap();
            assert!(
                text.starts_with(&format!("{word}: ")) && text.contains(message),
                "{text}"
            );
            assert_eq!(status["details"]["causes"][0]["reason"], word);
        }
    }
    assert_eq!(push(&cluster, "Not-A-Name", command()).await.0, 422);
    let path = format!("{BASE}/modules/hello/content?tag=a%20b");
    assert_eq!(
        answer(cluster.request("PUT", &path).body(command()))
            .await
            .0,
        400
    );
    let nowhere = "/apis/wasmorch.dev/v1/namespaces/none/modules/hello/content";
    assert_eq!(
        answer(cluster.request("PUT", nowhere).body(command()))
            .await
            .0,
        404
    );
    assert_eq!(blobs(&cluster), 0);
    assert_eq!(count(&cluster, &format!("{BASE}/modules")).await, 0);
}

#[tokio::test]
async fn a_service_in_one_request() {
    let cluster = cluster().await;
    let form = Form::new()
        .text("replicas", "2")
        .part("file", file("hello_http.wasm", handler()));
    let (code, list) = upload(&cluster, form).await;
    assert_eq!(code, 201, "{list}");
    let kinds: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["Module", "Deployment", "Service"]);
    let (_, deployment) = cluster
        .get("/apis/apps/v1/namespaces/default/deployments/hello-http")
        .await;
    assert_eq!(deployment["spec"]["replicas"], 2);
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap();
    assert!(image.starts_with("hello-http@sha256:"), "{image}");
    let (_, service) = cluster
        .get("/api/v1/namespaces/default/services/hello-http")
        .await;
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);
    assert_eq!(blobs(&cluster), 1);

    // Again: the module is the same, but the Deployment exists; nothing new, nothing lost.
    let form = Form::new().part("file", file("hello_http.wasm", handler()));
    let (code, status) = upload(&cluster, form).await;
    assert_eq!(
        (code, status["reason"].as_str()),
        (409, Some("AlreadyExists"))
    );
    assert_eq!(blobs(&cluster), 1);
}

#[tokio::test]
async fn a_manifest_and_its_modules_or_nothing() {
    let cluster = cluster().await;
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: pair}\nspec:\n  containers:\n  - {name: a, image: front}\n  - {name: b, image: 'back:latest'}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n";
    let form = |manifest: &str| {
        Form::new()
            .text("manifest", manifest.to_owned())
            .part("one", file("front.wasm", handler()))
            .part("two", file("back.wasm", command()))
    };
    let failing = [
        (
            manifest.replace("kind: Pod", "kind: Unicorn"),
            400,
            "no matches for kind",
        ),
        (
            manifest.replace("{name: pair}", "{name: 'Not Valid'}"),
            422,
            "metadata.name",
        ),
        (
            manifest.replace("{name: settings}", "{name: settings, namespace: other}"),
            400,
            "namespace",
        ),
        ("a: [".to_owned(), 400, "not valid YAML"),
        (String::new(), 400, "the manifest is empty"),
        (
            manifest.replace("kind: ConfigMap", "kind: Namespace"),
            400,
            "not a Namespace",
        ),
    ];
    for (manifest, code, message) in failing {
        let (found, status) = upload(&cluster, form(&manifest)).await;
        assert_eq!(found, code, "{status}");
        assert!(
            status["message"].as_str().unwrap().contains(message),
            "{status}"
        );
    }
    let unknown = Form::new()
        .text("colour", "red")
        .part("file", file("a.wasm", command()));
    assert_eq!(upload(&cluster, unknown).await.0, 400);
    assert_eq!(upload(&cluster, Form::new().text("name", "x")).await.0, 400);
    assert_eq!(blobs(&cluster), 0, "a failing manifest leaves no blob");
    assert_eq!(
        count(&cluster, &format!("{BASE}/modules")).await,
        0,
        "and no module"
    );
    assert_eq!(count(&cluster, "/api/v1/namespaces/default/pods").await, 0);

    let (code, list) = upload(&cluster, form(manifest)).await;
    assert_eq!(code, 201, "{list}");
    let (_, pod) = cluster.get("/api/v1/namespaces/default/pods/pair").await;
    for (index, name) in ["front@sha256:", "back:latest@sha256:"]
        .into_iter()
        .enumerate()
    {
        let image = pod["spec"]["containers"][index]["image"].as_str().unwrap();
        assert!(image.starts_with(name), "{image}");
    }
    assert_eq!(blobs(&cluster), 2);
}
