//! How answers are written: YAML, and JSON on many lines.

use serde_json::{Value, json};

use super::harness::{Cluster, answer};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn answers_are_yaml_or_on_many_lines_for_those_who_ask() {
    let cluster = Cluster::start().await;
    cluster.create_config_map("a", &json!({"k": "1"})).await;
    let one = format!("{MAPS}/a");
    let absent = format!("{MAPS}/absent");
    for (path, code) in [(MAPS, 200), (one.as_str(), 200), (absent.as_str(), 404)] {
        let plain = answer(cluster.request("GET", path)).await;
        assert_eq!(plain.0, code);
        let asked = cluster.request("GET", path);
        let response = asked.header("accept", "application/yaml").send();
        let response = response.await.unwrap();
        assert_eq!(response.status(), code);
        assert_eq!(response.headers()["content-type"], "application/yaml");
        let text = response.text().await.unwrap();
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        // Others write meanwhile: the revision of a list may be another.
        for field in ["kind", "items", "data", "message", "code"] {
            assert_eq!(read[field], plain.1[field], "{text}");
        }

        let asked = cluster.request("GET", &format!("{path}?pretty=true"));
        let text = asked.send().await.unwrap().text().await.unwrap();
        assert!(
            text.starts_with("{\n  \"kind\"") || text.starts_with("{\n  \"apiVersion\""),
            "{text}"
        );
    }
    for path in [format!("{MAPS}?watch=1"), "/openapi/v2".to_owned()] {
        let asked = cluster.request("GET", &path);
        let (code, status) = answer(asked.header("accept", "application/yaml")).await;
        assert_eq!(code, 406, "{status}");
    }
    cluster.stop().await;
}
