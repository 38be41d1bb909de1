//! Rights by roles, as clients meet them over HTTP.

use serde_json::{Value, json};

use super::harness::{Cluster, answer};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A user of tokens.json and what they may send.
struct User<'a> {
    cluster: &'a Cluster,
    name: &'static str,
}

impl User<'_> {
    /// By impersonation, which an administrator may.
    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.cluster.request(method, path);
        request = request.header("Impersonate-User", self.name);
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request).await
    }
}

fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user}]})
}

/// Waits until the aggregated roles have their rules.
async fn aggregated(cluster: &Cluster) {
    for role in ["view", "edit", "admin"] {
        let path = format!("{RBAC}/clusterroles/{role}");
        crate::cluster::until(&format!("the rules of {role}"), || async {
            let (_, role) = cluster.get(&path).await;
            // What comes from `view`, the last in the chain to arrive.
            role["rules"].to_string().contains("pods/log").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_counts_at_once_and_only_where_it_is() {
    let cluster = Cluster::start().await;
    aggregated(&cluster).await;
    let jane = User {
        cluster: &cluster,
        name: "jane",
    };
    let pods = "/api/v1/namespaces/default/pods";
    let (code, refused) = jane.send("GET", pods, None).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let (code, made) = cluster
        .send("POST", &bindings, &binding("jane", "view", "jane"))
        .await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(jane.send("GET", pods, None).await.0, 200);
    for (method, path, expected) in [
        ("GET", "/api/v1/namespaces/default/services", 200),
        ("GET", "/apis/apps/v1/namespaces/default/deployments", 200),
        ("GET", "/api/v1/namespaces/default/pods/x/log", 404),
        ("GET", "/api/v1/namespaces/default/secrets", 403),
        ("GET", "/api/v1/pods", 403),
        ("GET", "/api/v1/namespaces/kube-system/pods", 403),
        ("GET", "/api/v1/nodes", 403),
        ("DELETE", "/api/v1/namespaces/default/pods/x", 403),
        ("GET", "/apis", 200),
        ("GET", "/metrics", 403),
    ] {
        assert_eq!(
            jane.send(method, path, None).await.0,
            expected,
            "{method} {path}"
        );
    }
    let (_, refused) = jane.send("GET", "/metrics", None).await;
    assert_eq!(
        refused["message"],
        "forbidden: User \"jane\" cannot get path \"/metrics\""
    );
    // The role of a binding stays.
    let path = format!("{bindings}/jane");
    let (code, refused) = cluster
        .send("PUT", &path, &binding("jane", "edit", "jane"))
        .await;
    assert_eq!(code, 422);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("cannot change roleRef"), "{message}");
    cluster.send("DELETE", &path, &json!({})).await;
    assert_eq!(jane.send("GET", pods, None).await.0, 403);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hands_out_what_he_has_not_got() {
    let cluster = Cluster::start().await;
    aggregated(&cluster).await;
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let roles = format!("{RBAC}/namespaces/default/roles");
    cluster
        .send("POST", &bindings, &binding("jane", "admin", "jane"))
        .await;
    let jane = User {
        cluster: &cluster,
        name: "jane",
    };
    let role = |name: &str, resource: &str| {
        json!({"metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get", "list"]}]})
    };
    let (code, made) = jane.send("POST", &roles, Some(&role("pods", "pods"))).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = jane
        .send("POST", &roles, Some(&role("nodes", "nodes")))
        .await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "roles.rbac.authorization.k8s.io \"nodes\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}"
    );
    // Neither by changing a role, nor by binding a greater one, nor by applying.
    let path = format!("{roles}/pods");
    assert_eq!(
        jane.send("PUT", &path, Some(&role("pods", "nodes")))
            .await
            .0,
        403
    );
    let (code, _) = jane
        .send(
            "POST",
            &bindings,
            Some(&binding("up", "cluster-admin", "jane")),
        )
        .await;
    assert_eq!(code, 403);
    let (code, made) = jane
        .send("POST", &bindings, Some(&binding("john", "view", "john")))
        .await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = jane
        .send("POST", &bindings, Some(&binding("no", "nothing", "john")))
        .await;
    assert_eq!(code, 404, "{refused}");
    // The verb `bind` is enough to bind.
    let binder = json!({"metadata": {"name": "binder"}, "rules": [
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"]}]});
    cluster
        .send("POST", &format!("{RBAC}/clusterroles"), &binder)
        .await;
    let path = format!("{RBAC}/clusterrolebindings");
    cluster
        .send("POST", &path, &binding("binder", "binder", "jane"))
        .await;
    let (code, made) = jane
        .send(
            "POST",
            &bindings,
            Some(&binding("up", "cluster-admin", "jane")),
        )
        .await;
    assert_eq!(code, 201, "{made}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impersonation_is_a_right_like_any_other() {
    let cluster = Cluster::start().await;
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let request = cluster
        .request("POST", who)
        .header("Impersonate-User", "jane")
        .header("Impersonate-Group", "dev")
        .header("Impersonate-Uid", "7")
        .json(&json!({}));
    let (code, review) = answer(request).await;
    assert_eq!(code, 201);
    let user = &review["status"]["userInfo"];
    assert_eq!(
        *user,
        json!({"username": "jane", "uid": "7", "groups": ["dev", "system:authenticated"]})
    );
    // A router has a token and no such right.
    let kubeconfig = std::fs::read_to_string(cluster.data().join("router.kubeconfig")).unwrap();
    let kubeconfig: Value = serde_json::from_str(&kubeconfig).unwrap();
    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
    let request = cluster
        .anonymous("POST", who)
        .bearer_auth(token)
        .header("Impersonate-User", "jane")
        .json(&json!({}));
    let (code, refused) = answer(request).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "users \"jane\" is forbidden: User \"system:router\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_answer_for_oneself_and_for_others() {
    let cluster = Cluster::start().await;
    aggregated(&cluster).await;
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    cluster
        .send("POST", &bindings, &binding("jane", "view", "jane"))
        .await;
    let jane = User {
        cluster: &cluster,
        name: "jane",
    };
    let wanted = |verb: &str| json!({"verb": verb, "resource": "pods", "namespace": "default"});
    let own = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let ask = |verb: &str| json!({"spec": {"resourceAttributes": wanted(verb)}});
    let (code, review) = jane.send("POST", own, Some(&ask("list"))).await;
    assert_eq!(code, 201);
    assert_eq!(
        review["status"],
        json!({"allowed": true, "reason": "RBAC: allowed by RoleBinding \"jane/default\" of ClusterRole \"view\" to User \"jane\""})
    );
    let (_, review) = jane.send("POST", own, Some(&ask("delete"))).await;
    assert_eq!(review["status"], json!({"allowed": false}));
    let (code, _) = jane.send("POST", own, Some(&json!({"spec": {}}))).await;
    assert_eq!(code, 422);

    let others = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let about = json!({"spec": {"user": "jane", "resourceAttributes": wanted("get")}});
    assert_eq!(jane.send("POST", others, Some(&about)).await.0, 403);
    let (_, review) = cluster.send("POST", others, &about).await;
    assert_eq!(review["status"]["allowed"], true);
    let local = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    let (_, review) = cluster.send("POST", local, &about).await;
    assert_eq!(review["status"]["allowed"], true);
    let elsewhere =
        "/apis/authorization.k8s.io/v1/namespaces/kube-system/localsubjectaccessreviews";
    assert_eq!(cluster.send("POST", elsewhere, &about).await.0, 400);

    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (_, review) = jane
        .send(
            "POST",
            rules,
            Some(&json!({"spec": {"namespace": "default"}})),
        )
        .await;
    let shown = review["status"]["resourceRules"].to_string();
    assert!(
        shown.contains("pods/log") && !shown.contains("\"secrets\""),
        "{shown}"
    );
    let (_, review) = jane
        .send(
            "POST",
            rules,
            Some(&json!({"spec": {"namespace": "other"}})),
        )
        .await;
    let shown = review["status"]["resourceRules"].to_string();
    assert!(!shown.contains("pods/log"), "{shown}");

    let tokens = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (_, review) = cluster
        .send("POST", tokens, &json!({"spec": {"token": cluster.token}}))
        .await;
    assert_eq!(review["status"]["user"]["username"], "admin", "{review}");
    let (_, review) = cluster
        .send("POST", tokens, &json!({"spec": {"token": "x"}}))
        .await;
    let error = review["status"]["error"].as_str().unwrap();
    assert!(error.starts_with("invalid bearer token"), "{error}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_says_what_is_used() {
    let cluster = Cluster::start().await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"services": "2", "count/services": "2"}}});
    cluster.send("POST", quotas, &quota).await;
    let path = format!("{quotas}/q");
    // Service `kubernetes` is there from the beginning.
    for (more, used) in [(None, "1"), (Some("a"), "2")] {
        if let Some(name) = more {
            let service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
            cluster
                .send("POST", "/api/v1/namespaces/default/services", &service)
                .await;
        }
        crate::cluster::until("the quota's status", || async {
            let (_, quota) = cluster.get(&path).await;
            let status = &quota["status"];
            (status["used"]["services"] == used && status["hard"]["services"] == "2").then_some(())
        })
        .await;
    }
    cluster.stop().await;
}
