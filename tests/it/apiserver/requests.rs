//! Status codes, Status bodies, identities, discovery, output forms.

use serde_json::{Value, json};

use super::harness::{Cluster, answer, body};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// `METHOD path`, a body or nothing, and `code reason …words of the message`; `~` is `MAPS`.
const FAILURES: &[(&str, &str, &str)] = &[
    (
        "PUT ~/taken",
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{}}"#,
        "400 BadRequest the name of the object (taken based on URL) was undeterminable: name must be provided",
    ),
    (
        "DELETE ~/taken",
        r#"{"kind":"ConfigMap","apiVersion":"v1"}"#,
        "400 BadRequest no kind \"ConfigMap\" is registered for version \"v1\"",
    ),
    (
        "GET /api/v1/namespaces/default/pods/nope",
        "",
        "404 NotFound pods \"nope\" not found",
    ),
    (
        "GET /apis/apps/v1/namespaces/default/deployments/x",
        "",
        "404 NotFound deployments.apps \"x\" not found",
    ),
    (
        "GET /api/v1/unicorns",
        "",
        "404 NotFound the server could not find the requested resource",
    ),
    ("GET /apis/none/v1/x", "", "404 NotFound could not find"),
    ("GET /apis/none", "", "404 NotFound could not find"),
    ("GET /nonsense", "", "404 NotFound could not find"),
    (
        "GET /api/v1/namespaces/default/pods/x/unheard",
        "",
        "404 NotFound could not find",
    ),
    (
        "POST /api/v1/configmaps",
        MAP,
        "405 MethodNotAllowed does not allow this method",
    ),
    ("POST ~/a", MAP, "405 MethodNotAllowed does not allow"),
    ("PUT /version", "{}", "405 MethodNotAllowed does not allow"),
    (
        "POST ~",
        TAKEN,
        "409 AlreadyExists configmaps \"taken\" already exists",
    ),
    ("POST ~", "[]", "400 BadRequest not an object"),
    ("POST ~", SECRET, "400 BadRequest Secret"),
    (
        "POST /api/v1/namespaces/none/configmaps",
        MAP,
        "404 NotFound namespaces \"none\" not found",
    ),
    (
        "POST ~",
        BAD_NAME,
        "422 Invalid metadata.name: Invalid value",
    ),
    ("POST ~?dryRun=Some", MAP, "422 Invalid dryRun"),
    (
        "POST ~?fieldValidation=Strict",
        TYPO,
        "400 BadRequest strict decoding error: unknown field \"daat\"",
    ),
    ("GET ~?labelSelector=a%3D%3D%3Db", "", "400 BadRequest "),
    (
        "GET ~?fieldSelector=spec.x%3Da",
        "",
        "400 BadRequest field label not supported: spec.x",
    ),
    ("GET ~?limit=x", "", "400 BadRequest limit"),
    ("GET ~?continue=x", "", "400 BadRequest continue"),
    ("GET ~?resourceVersion=x", "", "400 BadRequest "),
    (
        "GET ~?resourceVersionMatch=Exact",
        "",
        "422 Invalid resourceVersionMatch",
    ),
    (
        "GET ~?watch=1&sendInitialEvents=true",
        "",
        "422 Invalid sendInitialEvents",
    ),
    (
        "DELETE ~/taken?propagationPolicy=Later",
        "",
        "422 Invalid propagationPolicy",
    ),
    (
        "DELETE /api/v1/namespaces/kube-system",
        "",
        "403 Forbidden kube-system",
    ),
    (
        "POST /apis/apps/v1/namespaces/default/deployments",
        DEPLOYMENT,
        "422 Invalid Deployment.apps \"a\" is invalid: [",
    ),
];
const MAP: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
const TAKEN: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"taken"}}"#;
const BAD_NAME: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"Not Valid"}}"#;
const TYPO: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"daat":{}}"#;
const SECRET: &str = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}"#;
const DEPLOYMENT: &str =
    r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{}}"#;

#[tokio::test]
async fn every_failure_is_a_status() {
    let cluster = Cluster::start().await;
    cluster.create_config_map("taken", &json!({})).await;
    for (request, object, expected) in FAILURES {
        let (method, path) = request.split_once(' ').unwrap();
        let mut sent = cluster.request(method, &path.replacen('~', MAPS, 1));
        if !object.is_empty() {
            sent = sent.body(*object);
        }
        let mut parts = expected.splitn(3, ' ');
        let code: u16 = parts.next().unwrap().parse().unwrap();
        let (reason, message) = (parts.next().unwrap(), parts.next().unwrap());
        let (found, status) = answer(sent).await;
        assert_eq!(found, code, "{request}: {status}");
        assert_eq!(status["kind"], "Status", "{request}");
        assert_eq!(status["status"], "Failure", "{request}");
        assert_eq!(status["code"], code, "{request}");
        assert_eq!(status["reason"], reason, "{request}: {status}");
        let text = status["message"].as_str().unwrap();
        assert!(text.contains(message), "{request}: {text}");
    }
}

#[tokio::test]
async fn bodies_are_read_in_every_encoding_and_bounded() {
    let cluster = Cluster::start().await;
    let post = |media: &str, bytes: Vec<u8>| {
        let request = cluster.request("POST", MAPS).body(bytes);
        if media.is_empty() {
            request
        } else {
            request.header("content-type", media)
        }
    };
    let json = |name: &str| {
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#)
            .into_bytes()
    };
    let yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\n".to_vec();
    // k8s\0, Unknown{TypeMeta{v1, ConfigMap}, raw ConfigMap{metadata{name: proto}}}
    let protobuf =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x09\x0a\x07\x0a\x05proto".to_vec();
    let cases = [
        ("application/json", json("plain"), 201),
        ("", json("untyped"), 201),
        ("application/yaml", yaml, 201),
        ("application/vnd.kubernetes.protobuf", protobuf, 201),
        (
            "application/vnd.kubernetes.protobuf",
            b"k8s\0\xff".to_vec(),
            400,
        ),
        ("application/cbor", json("cbor"), 415),
        ("application/json", b"{".to_vec(), 400),
        ("application/json", Vec::new(), 400),
        ("application/yaml", b"a: [".to_vec(), 400),
        ("application/json", vec![b' '; (3 << 20) + 1], 413),
    ];
    for (media, bytes, code) in cases {
        let (found, status) = answer(post(media, bytes)).await;
        assert_eq!(found, code, "{media}: {status}");
    }
    let (code, list) = cluster.get(MAPS).await;
    assert_eq!(code, 200);
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .filter(|name| *name != "kube-root-ca.crt")
        .collect();
    assert_eq!(names, ["plain", "proto", "untyped", "yaml"]);
}

#[tokio::test]
async fn what_the_client_accepts_decides_the_form() {
    let cluster = Cluster::start().await;
    let made = cluster.create_config_map("a", &json!({"k": "v"})).await;
    let accept = |path: &str, media: &str| cluster.request("GET", path).header("accept", media);
    let one = format!("{MAPS}/a");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (code, shown) = answer(accept(&one, table)).await;
    assert_eq!((code, shown["kind"].as_str()), (200, Some("Table")));
    assert_eq!(shown["columnDefinitions"][0]["format"], "name");
    assert_eq!(shown["rows"][0]["cells"][0], "a");
    assert_eq!(shown["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let (_, shown) = answer(accept(&format!("{MAPS}?includeObject=Object"), table)).await;
    let rows = shown["rows"].as_array().unwrap();
    assert!(
        rows.iter()
            .any(|row| row["object"]["data"] == json!({"k": "v"}))
    );
    assert_eq!(
        answer(accept(&format!("{MAPS}?includeObject=Some"), table))
            .await
            .0,
        400
    );
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let (_, shown) = answer(accept(MAPS, partial)).await;
    assert_eq!(shown["kind"], "PartialObjectMetadataList");
    assert!(shown["items"][0].get("data").is_none());
    assert_eq!(
        answer(accept(&one, "application/vnd.kubernetes.protobuf"))
            .await
            .0,
        406
    );
    let both = "application/vnd.kubernetes.protobuf,application/json";
    let response = accept(&one, both).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-cache, private");
    assert!(response.headers().contains_key("audit-id"));
    assert_eq!(body(response).await, made);
}

#[tokio::test]
async fn writes_are_optimistic_and_warn() {
    let cluster = Cluster::start().await;
    let made = cluster.create_config_map("a", &json!({"k": "1"})).await;
    let one = format!("{MAPS}/a");
    let mut changed = made.clone();
    changed["data"]["k"] = json!("2");
    let (code, updated) = cluster.send("PUT", &one, &changed).await;
    assert_eq!(code, 200);
    let (code, status) = cluster.send("PUT", &one, &changed).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("Operation cannot be fulfilled on configmaps \"a\"")
    );

    let merge = |media: &str, patch: &Value| {
        cluster
            .request("PATCH", &one)
            .header("content-type", media)
            .body(patch.to_string())
    };
    let (code, patched) = answer(merge(
        "application/merge-patch+json",
        &json!({"data": {"k": null, "l": "3"}}),
    ))
    .await;
    assert_eq!((code, &patched["data"]), (200, &json!({"l": "3"})));
    assert_ne!(
        patched["metadata"]["resourceVersion"],
        updated["metadata"]["resourceVersion"]
    );
    let patch = json!([{"op": "add", "path": "/data/m", "value": "4"}]);
    let (code, patched) = answer(merge("application/json-patch+json", &patch)).await;
    assert_eq!(
        (code, &patched["data"]),
        (200, &json!({"l": "3", "m": "4"}))
    );
    assert_eq!(answer(merge("application/json", &patch)).await.0, 415);

    let unknown =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "daat": {}});
    let response = cluster
        .request("POST", MAPS)
        .json(&unknown)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(
        response.headers()["warning"],
        "299 - \"unknown field \\\"daat\\\"\""
    );
    let twice = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"1","a":"2"}}"#;
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let (code, status) = answer(cluster.request("POST", &strict).body(twice)).await;
    assert_eq!(code, 400);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("duplicate field"),
        "{status}"
    );

    let (code, _) = answer(cluster.request("DELETE", &format!("{one}?dryRun=All"))).await;
    assert_eq!(code, 200);
    let stale =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
    assert_eq!(cluster.send("DELETE", &one, &stale).await.0, 409);
    let (code, status) = answer(cluster.request("DELETE", &one)).await;
    assert_eq!((code, status["status"].as_str()), (200, Some("Success")));
    assert_eq!(status["details"]["uid"], made["metadata"]["uid"]);
    assert_eq!(cluster.get(&one).await.0, 404);
    let (code, list) =
        answer(cluster.request("DELETE", &format!("{MAPS}?fieldSelector=metadata.name%3Db"))).await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 1));
}

#[tokio::test]
async fn lists_are_paged() {
    let cluster = Cluster::start().await;
    for index in 0..5 {
        cluster
            .create_config_map(&format!("page-{index}"), &json!({}))
            .await;
    }
    let mut names: Vec<String> = Vec::new();
    let mut path = format!("{MAPS}?limit=2");
    loop {
        let (code, list) = cluster.get(&path).await;
        assert_eq!((code, list["kind"].as_str()), (200, Some("ConfigMapList")));
        let items = list["items"].as_array().unwrap();
        names.extend(
            items
                .iter()
                .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()),
        );
        match list["metadata"]["continue"].as_str() {
            Some(token) => path = format!("{MAPS}?limit=2&continue={token}"),
            None => break,
        }
    }
    names.retain(|name| name.starts_with("page-"));
    assert_eq!(names.len(), 5);
}

#[tokio::test]
async fn only_known_callers_get_in_and_only_as_far_as_they_may() {
    let cluster = Cluster::start().await;
    for path in [
        "/version", "/healthz", "/livez", "/readyz", "/cacerts", "/ui/",
    ] {
        let response = cluster.anonymous("GET", path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    for path in ["/api", "/apis", "/api/v1/pods", "/metrics", "/openapi/v3"] {
        let (code, status) = answer(cluster.anonymous("GET", path)).await;
        assert_eq!(
            (code, status["reason"].as_str()),
            (401, Some("Unauthorized")),
            "{path}"
        );
    }
    let wrong = cluster
        .anonymous("GET", "/api/v1/pods")
        .bearer_auth("wrong");
    assert_eq!(answer(wrong).await.0, 401);
    let foreign = |name: &str, value: &str| cluster.request("GET", "/api").header(name, value);
    assert_eq!(answer(foreign("host", "evil.example")).await.0, 403);
    assert_eq!(
        answer(foreign("origin", "https://evil.example")).await.0,
        403
    );

    let secret = cluster.join_token.rsplit('.').next().unwrap().to_owned();
    let node = |method: &str, path: &str| {
        cluster
            .anonymous(method, path)
            .bearer_auth(&secret)
            .header("x-wasmorch-node", "dev-1")
    };
    assert_eq!(answer(node("GET", "/api/v1/pods")).await.0, 200);
    assert_eq!(
        answer(node(
            "GET",
            "/api/v1/namespaces/kube-system/secrets/wasmorch-wire"
        ))
        .await
        .0,
        200
    );
    let own = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "dev-1"}});
    assert_eq!(
        answer(node("POST", "/api/v1/nodes").json(&own)).await.0,
        201
    );
    let other = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "dev-2"}});
    assert_eq!(
        answer(node("POST", "/api/v1/nodes").json(&other)).await.0,
        403
    );
    let (code, status) = answer(node("GET", "/apis/apps/v1/deployments")).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "deployments.apps is forbidden: User \"system:node:dev-1\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope"
    );
    let about = json!({"kind": "deployments", "group": "apps"});
    assert_eq!(status["details"], about);

    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "default"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, answered) = cluster.send("POST", path, &review).await;
    assert_eq!((code, &answered["status"]["allowed"]), (201, &json!(true)));
    let (code, answered) = answer(node("POST", path).json(&review)).await;
    assert_eq!((code, &answered["status"]["allowed"]), (201, &json!(false)));
}

#[tokio::test]
async fn discovery_comes_aggregated_to_who_wants_it_so() {
    let cluster = Cluster::start().await;
    let wanted = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let response = cluster
        .request("GET", "/apis")
        .header("accept", format!("{wanted},application/json"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], wanted);
    assert_eq!(body(response).await["kind"], "APIGroupDiscoveryList");
}

#[tokio::test]
async fn an_apply_is_yaml_and_in_a_name() {
    const YAML: &str = "application/apply-patch+yaml";
    let cluster = Cluster::start().await;
    let apply = |query: &str, media: &str, body: &'static str| {
        let path = format!("{MAPS}/a{query}");
        answer(
            cluster
                .request("PATCH", &path)
                .header("content-type", media)
                .body(body),
        )
    };
    let map = "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n";
    let (code, status) = apply("", YAML, map).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let cbor = "application/apply-patch+cbor";
    assert_eq!(apply("?fieldManager=me", cbor, map).await.0, 415);
    let dry = "?fieldManager=me&dryRun=All";
    assert_eq!(apply(dry, YAML, map).await.0, 201);
    let (code, made) = apply("?fieldManager=me", YAML, map).await;
    assert_eq!((code, &made["data"]["a"]), (201, &json!("b")));
    let (code, again) = apply("?fieldManager=me", YAML, map).await;
    assert_eq!((code, again), (200, made));
    let twice = r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1","a":"2"}}"#;
    assert_eq!(apply("?fieldManager=me", YAML, twice).await.0, 400);
    let theirs = "apiVersion: v1\nkind: ConfigMap\ndata: {a: c}\n";
    let (code, status) = apply("?fieldManager=they", YAML, theirs).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"me\"", "field": ".data.a"}])
    );
    let forced = apply("?fieldManager=they&force=true", YAML, theirs).await;
    assert_eq!(forced.1["data"]["a"], "c");
    let table = cluster
        .request("GET", MAPS)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let (_, table) = answer(table).await;
    assert_eq!(table["kind"], "Table");
    assert!(!table.to_string().contains("managedFields"), "{table}");
}

#[tokio::test]
async fn openapi_tells_what_kubectl_looks_for() {
    let cluster = Cluster::start().await;
    let (_, index) = cluster.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let (code, document) = cluster.get(url).await;
    assert_eq!(code, 200);
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let parameters: Vec<&str> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        parameters,
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    let types = patch["requestBody"]["content"].as_object().unwrap();
    assert!(types.contains_key("application/apply-patch+yaml"));
    let response = cluster
        .request("GET", "/openapi/v2")
        .header(
            "accept",
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        )
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    let tag = response.headers()["etag"].clone();
    let again = cluster
        .request("GET", "/openapi/v2")
        .header(
            "accept",
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        )
        .header("if-none-match", tag);
    assert_eq!(again.send().await.unwrap().status(), 304);
    let (_, version) = cluster.get("/version").await;
    assert_eq!(version["minor"], "34");
    let (code, metrics) = cluster.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(
        metrics
            .as_str()
            .unwrap()
            .contains("apiserver_request_total{verb=\"GET\""),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_deployment_is_scaled_through_its_subresource() {
    let cluster = Cluster::start().await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "hello"}]}}}});
    assert_eq!(cluster.send("POST", DEPLOYMENTS, &deployment).await.0, 201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let (code, mut scale) = cluster.get(&path).await;
    assert_eq!((code, scale["kind"].as_str()), (200, Some("Scale")));
    scale["spec"]["replicas"] = json!(4);
    // The controller may have written the status meanwhile; whoever names no revision does not mind.
    scale["metadata"]["resourceVersion"].take();
    let (code, scale) = cluster.send("PUT", &path, &scale).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(4)));
    let (_, deployment) = cluster.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_eq!(deployment["spec"]["replicas"], 4);
}

#[tokio::test]
async fn a_restart_keeps_every_acknowledged_object() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("kept");
    let first = Cluster::start_with(|args| args.data_dir.clone_from(&place)).await;
    let made = first.create_config_map("kept", &json!({"k": "v"})).await;
    let token = first.token.clone();
    first.stop().await;
    let second = Cluster::start_with(|args| args.data_dir.clone_from(&place)).await;
    assert_eq!(second.token, token);
    let (code, found) = second.get(&format!("{MAPS}/kept")).await;
    assert_eq!((code, found), (200, made));
}
