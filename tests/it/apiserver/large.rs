//! Large answers to clients that read gzip, and who may open streams at all.

use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::harness::{Cluster, answer};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let cluster = Cluster::start().await;
    let text = "text that repeats. ".repeat(5_000);
    for name in ["a", "b"] {
        cluster.create_config_map(name, &json!({"k": text})).await;
    }
    let get = async |path: &str, encoding: &str| {
        let request = cluster
            .request("GET", path)
            .header("accept-encoding", encoding);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let encoding = response.headers().get("content-encoding").cloned();
        let encoding = encoding.map(|it| it.to_str().unwrap().to_owned());
        (encoding, response)
    };
    let (encoding, response) = get(MAPS, "gzip, deflate").await;
    assert_eq!(encoding.as_deref(), Some("gzip"));
    assert_eq!(response.headers()["vary"], "Accept-Encoding");
    assert_eq!(response.headers()["content-type"], "application/json");
    let folded = response.bytes().await.unwrap();
    assert!(folded.len() < text.len());
    let mut whole = Vec::new();
    GzDecoder::new(&folded[..]).read_to_end(&mut whole).unwrap();
    let list: Value = serde_json::from_slice(&whole).unwrap();
    let ours = list["items"].as_array().unwrap().iter();
    assert_eq!(ours.filter(|it| it["data"]["k"] == text).count(), 2);
    for (path, encoding) in [
        (MAPS, "identity"),
        (&format!("{MAPS}/a"), "gzip"),
        (&format!("{MAPS}?watch=1&timeoutSeconds=1"), "gzip"),
    ] {
        assert_eq!(get(path, encoding).await.0, None, "{path} {encoding}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn streams_are_for_those_who_may() {
    let cluster = Cluster::start().await;
    let secret = cluster.join_token.rsplit('.').next().unwrap().to_owned();
    for (method, path, verb) in [
        ("GET", "pods/p/exec?command=true", "get"),
        ("POST", "pods/p/attach", "create"),
        ("POST", "pods/p/portforward", "create"),
        ("GET", "pods/p:80/proxy/", "get"),
        ("OPTIONS", "services/s/proxy/", "get"),
        ("PUT", "services/s/proxy/", "update"),
        ("PATCH", "services/s/proxy/", "patch"),
        ("DELETE", "services/s/proxy/", "delete"),
    ] {
        let path = format!("/api/v1/namespaces/default/{path}");
        let as_node = cluster
            .anonymous(method, &path)
            .header("x-wasmorch-node", "n")
            .bearer_auth(&secret);
        let (code, status) = answer(as_node).await;
        let message = status["message"].as_str().unwrap().to_owned();
        assert_eq!(code, 403, "{method} {path}: {message}");
        assert!(
            message.contains(&format!("cannot {verb} resource")),
            "{message}"
        );
        assert_eq!(answer(cluster.anonymous(method, &path)).await.0, 401);
    }
    cluster.stop().await;
}
