//! Pods, their templates, binding and scale.

use serde_json::{Value, json};
use wasmorch::registry::{Error, Patch, WriteOptions};

use super::{Fixture, NS, complaints, pod};

fn deployment() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}, "creationTimestamp": null}, "spec": {"containers": [{"name": "main", "image": "hello:v1"}]}}}})
}

#[tokio::test]
async fn a_pod_gets_kubernetes_defaults() {
    let fixture = Fixture::new().await;
    let mut object = pod("web");
    object["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    object["spec"]["containers"][0]["resources"] =
        json!({"limits": {"cpu": "1", "memory": "64Mi"}});
    object["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 80}});
    object["status"] = json!({"phase": "Running"});
    let created = fixture.created("pods", object).await;
    let spec = &created["spec"];
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("schedulerName", json!("default-scheduler")),
        ("serviceAccountName", json!("default")),
        ("serviceAccount", json!("default")),
        ("enableServiceLinks", json!(true)),
        ("securityContext", json!({})),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(
        container["resources"]["requests"],
        json!({"cpu": "1", "memory": "64Mi"})
    );
    assert_eq!(
        container["readinessProbe"],
        json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(
        created["status"],
        json!({"phase": "Pending", "qosClass": "Guaranteed"})
    );
}

/// One complaint, about `field`, when `value` stands at `pointer` of a pod.
async fn refuses(fixture: &Fixture, pointer: &str, value: Value, field: &str) {
    let mut object = pod("x");
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[name] = value;
    let found = complaints(fixture.create("pods", object).await);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("{field}: ")), "{found:?}");
}

#[tokio::test]
async fn what_a_pod_is_not_given_is_refused_in_words() {
    let fixture = Fixture::new().await;
    for (field, value) in [
        ("hostNetwork", json!(true)),
        ("hostPID", json!(true)),
        ("dnsPolicy", json!("None")),
        ("runtimeClassName", json!("kata")),
        ("hostAliases", json!([{"ip": "1.2.3.4"}])),
        ("schedulingGates", json!([{"name": "a"}])),
    ] {
        refuses(
            &fixture,
            &format!("/spec/{field}"),
            value,
            &format!("spec.{field}"),
        )
        .await;
    }
    for (source, value) in [
        ("nfs", json!({"server": "a", "path": "/"})),
        ("ephemeral", json!({})),
        ("image", json!({"reference": "a"})),
        ("csi", json!({"driver": "a"})),
    ] {
        let volumes = json!([{"name": "v", source: value}]);
        refuses(
            &fixture,
            "/spec/volumes",
            volumes,
            &format!("spec.volumes[0].{source}"),
        )
        .await;
    }
    let found = complaints(
        fixture
            .create(
                "pods",
                json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "A"}, {}]}}),
            )
            .await,
    );
    assert_eq!(found.len(), 4, "{found:?}");
}

#[tokio::test]
async fn what_a_container_is_not_given_is_refused_in_words() {
    let fixture = Fixture::new().await;
    for (field, value, rest) in [
        (
            "securityContext",
            json!({"privileged": true}),
            ".privileged",
        ),
        (
            "securityContext",
            json!({"capabilities": {"add": ["NET_ADMIN"]}}),
            ".capabilities.add",
        ),
        (
            "lifecycle",
            json!({"preStop": {"tcpSocket": {"port": 1}}}),
            ".preStop.tcpSocket",
        ),
        ("restartPolicy", json!("Always"), ""),
        ("image", json!("docker.io/library/nginx"), ""),
        (
            "livenessProbe",
            json!({"exec": {"command": []}}),
            ".exec.command",
        ),
        ("livenessProbe", json!({"grpc": {"port": 1}}), ".grpc"),
        (
            "livenessProbe",
            json!({"tcpSocket": {"port": 1}, "successThreshold": 2}),
            ".successThreshold",
        ),
        (
            "ports",
            json!([{"containerPort": 80, "hostPort": 80}]),
            "[0].hostPort",
        ),
        ("ports", json!([{"containerPort": 0}]), "[0].containerPort"),
        (
            "resources",
            json!({"requests": {"nvidia.com/gpu": "1"}}),
            ".requests[nvidia.com/gpu]",
        ),
        (
            "resources",
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            ".requests",
        ),
        (
            "volumeMounts",
            json!([{"name": "v", "mountPath": "/v"}]),
            "[0].name",
        ),
        ("env", json!([{"name": "A=B"}]), "[0].name"),
        (
            "env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.colour"}}}]),
            "[0].valueFrom.fieldRef.fieldPath",
        ),
        ("envFrom", json!([{}]), "[0]"),
    ] {
        let pointer = format!("/spec/containers/0/{field}");
        let path = format!("spec.containers[0].{field}{rest}");
        refuses(&fixture, &pointer, value, &path).await;
    }
}

#[tokio::test]
async fn what_the_sandbox_satisfies_is_accepted() {
    let fixture = Fixture::new().await;
    let mut object = pod("x");
    object["spec"]["automountServiceAccountToken"] = json!(false);
    object["spec"]["hostNetwork"] = json!(false);
    object["spec"]["volumes"] = json!([{"name": "d"}, {"name": "c", "configMap": {"name": "c"}},
        {"name": "p", "projected": {"sources": [{"secret": {"name": "s"}}, {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels['app']"}}]}}]}}]);
    object["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "d", "mountPath": "/data", "subPath": "a/b"}]);
    object["spec"]["containers"][0]["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": 1000, "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
    object["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 5}}});
    object["spec"]["initContainers"] = json!([{"name": "side", "image": "hello", "restartPolicy": "Always",
        "startupProbe": {"tcpSocket": {"port": 80}, "terminationGracePeriodSeconds": 1}}]);
    let created = fixture.created("pods", object).await;
    assert_eq!(created["spec"]["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(
        created["spec"]["volumes"][1]["configMap"]["defaultMode"],
        420
    );
}

#[tokio::test]
async fn a_pods_spec_is_fixed_at_birth() {
    let fixture = Fixture::new().await;
    let mut object = fixture.created("pods", pod("web")).await;
    object["spec"]["containers"][0]["image"] = json!("hello:v2");
    let mut object = fixture.update("pods", None, object).await.unwrap();
    assert_eq!(object["metadata"]["generation"], 2);
    object["spec"]["nodeName"] = json!("dev-1");
    let refused = complaints(fixture.update("pods", None, object).await);
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].starts_with("spec: Forbidden: pod updates may not change fields other than")
    );
    assert!(
        refused[0].ends_with("changed: spec.nodeName"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let fixture = Fixture::new().await;
    let created = fixture.created("pods", pod("web")).await;
    let uid = created["metadata"]["uid"].as_str();
    let bind = |uid, node| fixture.registry.bind("default", "web", uid, node);
    assert!(matches!(
        bind(Some("other"), "dev-1").await,
        Err(Error::Conflict { .. })
    ));
    bind(uid, "dev-1").await.unwrap();
    let again = bind(uid, "dev-2").await.unwrap_err().to_string();
    assert!(
        again.ends_with("pod web is already assigned to node \"dev-1\""),
        "{again}"
    );
    let bound = fixture.get("pods", "web").unwrap();
    assert_eq!(bound["spec"]["nodeName"], "dev-1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");

    let unknown = fixture.registry.bind("default", "none", None, "dev-3");
    assert!(matches!(unknown.await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_deployment_is_checked_before_it_makes_pods() {
    let fixture = Fixture::new().await;
    let created = fixture.created("deployments", deployment()).await;
    let spec = &created["spec"];
    assert_eq!(
        (
            &spec["replicas"],
            &spec["revisionHistoryLimit"],
            &spec["progressDeadlineSeconds"]
        ),
        (&json!(1), &json!(10), &json!(600))
    );
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert!(
        spec["template"]["metadata"]
            .get("creationTimestamp")
            .is_none()
    );
    let mut moved = created.clone();
    moved["spec"]["selector"] = json!({"matchLabels": {"app": "web", "x": "y"}});
    moved["spec"]["template"]["metadata"]["labels"] = json!({"app": "web", "x": "y"});
    let refused = complaints(fixture.update("deployments", None, moved).await);
    assert!(
        refused[0].starts_with("spec.selector: Invalid value"),
        "{refused:?}"
    );
    assert!(refused[0].ends_with("field is immutable"), "{refused:?}");

    let mut wrong = deployment();
    wrong["metadata"]["name"] = json!("other");
    wrong["spec"]["replicas"] = json!(-1);
    wrong["spec"]["template"]["metadata"]["labels"] = json!({"app": "db"});
    wrong["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    wrong["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}});
    let refused = complaints(fixture.create("deployments", wrong).await);
    assert_eq!(
        refused,
        [
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"db\"}: `selector` does not match template `labels`",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ]
    );
}

#[tokio::test]
async fn scale_is_the_replicas_and_nothing_else() {
    let fixture = Fixture::new().await;
    fixture.created("deployments", deployment()).await;
    let row = fixture.row("deployments");
    let scale = fixture.registry.scale(row, NS, "web").unwrap();
    assert_eq!(scale["spec"]["replicas"], 1);
    assert_eq!(
        scale["status"],
        json!({"replicas": 0, "selector": "app=web"})
    );
    let scaled = fixture
        .update(
            "deployments",
            Some("scale"),
            json!({"metadata": {"name": "web"}, "spec": {"replicas": 3}}),
        )
        .await
        .unwrap();
    assert_eq!(
        (
            &scaled["spec"]["replicas"],
            &scaled["metadata"]["generation"]
        ),
        (&json!(3), &json!(2))
    );
    let stale = fixture.update("deployments", Some("scale"), scale).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })));
    let options = WriteOptions::default();
    let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let patched = fixture
        .registry
        .patch(
            row,
            NS,
            "web",
            Some("scale"),
            patch,
            &options,
            &fixture.caller,
        )
        .await
        .unwrap();
    assert_eq!(patched.object.object["spec"]["replicas"], 5);
    let pods = fixture.registry.scale(fixture.row("pods"), NS, "web");
    assert!(pods.is_err());
}

#[tokio::test]
async fn rows_read_like_kubectl() {
    let fixture = Fixture::new().await;
    fixture.created("pods", pod("web")).await;
    let row = fixture.row("pods");
    let stored = fixture.registry.get(row, NS, "web").unwrap();
    assert_eq!(
        fixture.registry.cells(row, &stored)[..5],
        [
            json!("web"),
            json!("0/1"),
            json!("Pending"),
            json!("0"),
            json!("0s")
        ]
    );
    let row = fixture.row("services");
    let stored = fixture.registry.get(row, NS, "kubernetes").unwrap();
    assert_eq!(
        fixture.registry.cells(row, &stored)[..5],
        [
            json!("kubernetes"),
            json!("ClusterIP"),
            json!("10.43.0.1"),
            json!("<none>"),
            json!("443/TCP")
        ]
    );
}
