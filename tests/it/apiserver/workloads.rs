//! Evictions, usage and both versions of an autoscaler, as a client sees them.

use serde_json::json;

use super::harness::Cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const SCALERS: &str = "namespaces/default/horizontalpodautoscalers";

/// A running, ready pod, with nobody to run it.
async fn pod(cluster: &Cluster, name: &str) {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"nodeName": "nowhere", "containers": [{"name": "main", "image": "hello"}]}});
    let (code, mut made) = cluster.send("POST", PODS, &pod).await;
    assert_eq!(code, 201, "{made}");
    made["status"]["phase"] = "Running".into();
    made["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    let (code, told) = cluster
        .send("PUT", &format!("{PODS}/{name}/status"), &made)
        .await;
    assert_eq!(code, 200, "{told}");
}

#[tokio::test]
async fn an_eviction_that_a_budget_refuses_says_so() {
    let cluster = Cluster::start().await;
    pod(&cluster, "one").await;
    let budget = json!({"metadata": {"name": "all"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    let (code, mut made) = cluster.send("POST", BUDGETS, &budget).await;
    assert_eq!(code, 201, "{made}");
    made["status"] = json!({"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0,
        "expectedPods": 1, "observedGeneration": 1});
    cluster
        .send("PUT", &format!("{BUDGETS}/all/status"), &made)
        .await;
    let evict = |version: &str, name: &str| {
        let eviction =
            json!({"apiVersion": version, "kind": "Eviction", "metadata": {"name": name}});
        (format!("{PODS}/{name}/eviction"), eviction)
    };
    let (path, eviction) = evict("policy/v1beta1", "one");
    let (code, told) = cluster.send("POST", &path, &eviction).await;
    assert_eq!(
        (code, &told["reason"]),
        (429, &json!("TooManyRequests")),
        "{told}"
    );
    assert_eq!(
        told["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(
        told["details"]["causes"],
        json!([{"reason": "DisruptionBudget",
            "message": "The disruption budget all needs 1 healthy pods and has 1 currently"}])
    );
    let budget = format!("{BUDGETS}/all");
    let (code, told) = cluster.send("DELETE", &budget, &json!({})).await;
    assert_eq!(code, 200, "{told}");
    let (path, eviction) = evict("policy/v1", "one");
    let (code, told) = cluster.send("POST", &path, &eviction).await;
    assert_eq!((code, &told["status"]), (201, &json!("Success")), "{told}");
    let (_, pod) = cluster.get(&format!("{PODS}/one")).await;
    assert_eq!(
        pod["status"]["conditions"][1]["type"], "DisruptionTarget",
        "{pod}"
    );
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
}

#[tokio::test]
async fn usage_is_a_group_of_its_own_that_only_tells() {
    let cluster = Cluster::start().await;
    let (_, groups) = cluster.get("/apis").await;
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|group| group["name"].as_str())
        .collect();
    assert!(names.contains(&"metrics.k8s.io"), "{names:?}");
    let base = "/apis/metrics.k8s.io/v1beta1";
    let (_, resources) = cluster.get(base).await;
    assert_eq!(
        resources["resources"][1]["kind"], "PodMetrics",
        "{resources}"
    );
    let (code, list) = cluster
        .get(&format!("{base}/namespaces/default/pods"))
        .await;
    assert_eq!((code, &list["kind"]), (200, &json!("PodMetricsList")));
    assert_eq!(list["items"], json!([]));
    let (code, told) = cluster.get(&format!("{base}/nodes/none")).await;
    assert_eq!((code, &told["reason"]), (404, &json!("NotFound")));
    let (code, _) = cluster
        .send("POST", &format!("{base}/nodes"), &json!({}))
        .await;
    assert_eq!(code, 405);
}

#[tokio::test]
async fn both_versions_of_an_autoscaler_are_one_object() {
    let cluster = Cluster::start().await;
    let old = format!("/apis/autoscaling/v1/{SCALERS}");
    let new = format!("/apis/autoscaling/v2/{SCALERS}/web");
    let object = json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 5, "targetCPUUtilizationPercentage": 60,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    let (code, made) = cluster.send("POST", &old, &object).await;
    assert_eq!(
        (code, &made["apiVersion"]),
        (201, &json!("autoscaling/v1")),
        "{made}"
    );
    let (_, mut shown) = cluster.get(&new).await;
    assert_eq!(
        shown["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        60
    );
    // The autoscaler writes the status meanwhile, so the writes name no revision.
    shown["metadata"]["resourceVersion"].take();
    shown["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 5}});
    let (code, told) = cluster.send("PUT", &new, &shown).await;
    assert_eq!(code, 200, "{told}");
    // An old client reads, changes and writes back: nothing that it does not know is lost.
    let (_, mut shown) = cluster.get(&format!("{old}/web")).await;
    shown["metadata"]["resourceVersion"].take();
    shown["spec"]["maxReplicas"] = 7.into();
    let (code, told) = cluster.send("PUT", &format!("{old}/web"), &shown).await;
    assert_eq!(code, 200, "{told}");
    let (_, shown) = cluster.get(&new).await;
    assert_eq!(shown["spec"]["maxReplicas"], 7);
    assert_eq!(
        shown["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 5,
        "{shown}"
    );
}

#[tokio::test]
async fn a_body_about_another_object_than_the_path_is_refused() {
    let cluster = Cluster::start().await;
    pod(&cluster, "one").await;
    let bodies = |name: &str, namespace: &str| {
        let meta = json!({"name": name, "namespace": namespace});
        [
            (
                "Eviction",
                json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}),
            ),
            (
                "Binding",
                json!({"apiVersion": "v1", "kind": "Binding", "metadata": meta,
                    "target": {"kind": "Node", "name": "x"}}),
            ),
        ]
    };
    for name in ["two", ""] {
        for (kind, body) in bodies(name, "default") {
            let path = format!("{PODS}/one/{}", kind.to_lowercase());
            let (code, told) = cluster.send("POST", &path, &body).await;
            let expected = format!("name in URL does not match name in {kind} object");
            assert_eq!((code, &told["message"]), (400, &json!(expected)), "{told}");
        }
    }
    for (kind, body) in bodies("one", "kube-system") {
        let path = format!("{PODS}/one/{}", kind.to_lowercase());
        let (code, told) = cluster.send("POST", &path, &body).await;
        assert_eq!(code, 400, "{told}");
    }
    let (_, pod) = cluster.get(&format!("{PODS}/one")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
    assert_ne!(pod["spec"]["nodeName"], "x", "{pod}");
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let set = json!({"metadata": {"name": "one"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
    let (code, told) = cluster.send("POST", sets, &set).await;
    assert_eq!(code, 201, "{told}");
    let scale = json!({"metadata": {"name": "two"}, "spec": {"replicas": 3}});
    let (code, told) = cluster
        .send("PUT", &format!("{sets}/one/scale"), &scale)
        .await;
    let expected = "the name of the object (two) does not match the name on the URL (one)";
    assert_eq!((code, &told["message"]), (400, &json!(expected)), "{told}");
}
