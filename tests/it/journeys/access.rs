//! What one may do, with the real kubectl: as somebody with few rights, and as a service account.

use crate::cluster::{Cluster, until};

use super::with_hello;

/// What kubectl printed, and whether it succeeded.
fn told(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    let output = cluster.try_kubectl(arguments).unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_as_somebody_with_few_rights() {
    let cluster = Cluster::start(&[]).await;
    if cluster.try_kubectl(&["version"]).is_none() {
        eprintln!("no kubectl here; its journey is not made");
        return;
    }
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    kubectl(&["create", "namespace", "shop"]);
    a_viewer(&cluster).await;
    roles_of_ones_own(&cluster);
    a_robot(&cluster);
    reconcile(&cluster);
    bounded(&cluster).await;
    let _ = cluster.stop();
}

/// Somebody who may look at one namespace.
async fn a_viewer(cluster: &Cluster) {
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    kubectl(&[
        "create",
        "rolebinding",
        "jane",
        "--clusterrole=view",
        "--user=jane",
        "-n",
        "shop",
    ]);
    let jane =
        |arguments: &[&str]| told(cluster, &[arguments, &["--as=jane", "-n", "shop"]].concat());
    until("the rules of view", async || {
        jane(&["get", "pods"]).0.then_some(())
    })
    .await;
    let (_, shown) = jane(&["auth", "whoami"]);
    assert!(shown.contains("jane"), "{shown}");
    for (arguments, expected) in [
        (["list", "pods"], "yes"),
        (["get", "pods/log"], "yes"),
        (["delete", "pods"], "no"),
        (["list", "secrets"], "no"),
    ] {
        let (_, answer) = jane(&[&["auth", "can-i"], &arguments[..]].concat());
        assert!(answer.starts_with(expected), "{arguments:?}: {answer}");
    }
    let (_, list) = jane(&["auth", "can-i", "--list"]);
    assert!(
        list.contains("deployments.apps") && list.contains("[get list watch]"),
        "{list}"
    );
    assert!(!list.contains("*.*"), "{list}");
    let (is_done, refused) = jane(&["create", "configmap", "x"]);
    assert!(!is_done);
    assert!(
        refused.contains("error: failed to create configmap: configmaps is forbidden: User \"jane\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"shop\""),
        "{refused}"
    );
    let (is_done, refused) = told(cluster, &["get", "pods", "--as=jane"]);
    assert!(
        !is_done && refused.contains("in the namespace \"default\""),
        "{refused}"
    );
}

/// In every way that kubectl makes them.
fn roles_of_ones_own(cluster: &Cluster) {
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    kubectl(&[
        "create",
        "role",
        "reader",
        "--verb=get,list",
        "--resource=secrets,deployments.apps",
        "-n",
        "shop",
    ]);
    kubectl(&[
        "create",
        "clusterrole",
        "health",
        "--verb=get",
        "--non-resource-url=/metrics",
    ]);
    kubectl(&[
        "create",
        "clusterrolebinding",
        "health",
        "--clusterrole=health",
        "--group=ops",
    ]);
    kubectl(&["create", "serviceaccount", "robot", "-n", "shop"]);
    kubectl(&[
        "create",
        "rolebinding",
        "robot",
        "--role=reader",
        "--serviceaccount=shop:robot",
        "-n",
        "shop",
    ]);
    let shown = kubectl(&["get", "rolebinding", "robot", "-n", "shop", "-o", "wide"]);
    assert!(
        shown.contains("Role/reader") && shown.contains("shop/robot"),
        "{shown}"
    );
    let shown = kubectl(&["describe", "clusterrole", "view"]);
    assert!(shown.contains("deployments.apps/scale"), "{shown}");
    let shown = kubectl(&["get", "--raw", "/metrics", "--as=john", "--as-group=ops"]);
    assert!(shown.contains("apiserver_request"), "{shown}");
}

/// A service account's token, by itself.
fn a_robot(cluster: &Cluster) {
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    let token = kubectl(&["create", "token", "robot", "-n", "shop"]);
    let token = format!("--token={}", token.trim());
    let robot = |arguments: &[&str]| told(cluster, &[arguments, &[&token, "-n", "shop"]].concat());
    let (is_done, secrets) = robot(&["get", "secrets"]);
    assert!(is_done, "{secrets}");
    let (is_done, refused) = robot(&["get", "pods"]);
    assert!(
        !is_done && refused.contains("User \"system:serviceaccount:shop:robot\""),
        "{refused}"
    );
    let (_, who) = robot(&["auth", "whoami"]);
    assert!(who.contains("system:serviceaccounts:shop"), "{who}");
    kubectl(&["delete", "serviceaccount", "robot", "-n", "shop"]);
    let (is_done, refused) = robot(&["get", "secrets"]);
    assert!(!is_done && refused.contains("Unauthorized"), "{refused}");
}

/// What is there already is completed.
fn reconcile(cluster: &Cluster) {
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    let manifest = cluster.root().join("roles.yaml");
    std::fs::write(
        &manifest,
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: reader, namespace: shop }
rules:
  - { apiGroups: [''], resources: [pods], verbs: [get] }
",
    )
    .unwrap();
    let done = kubectl(&["auth", "reconcile", "-f", manifest.to_str().unwrap()]);
    assert!(
        done.contains("role.rbac.authorization.k8s.io/reader reconciled"),
        "{done}"
    );
    let shown = kubectl(&["describe", "role", "reader", "-n", "shop"]);
    assert!(
        shown.contains("secrets") && shown.contains("pods"),
        "{shown}"
    );
}

/// A quota is described and kept.
async fn bounded(cluster: &Cluster) {
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    kubectl(&[
        "create",
        "quota",
        "small",
        "--hard=pods=2,count/configmaps=3",
        "-n",
        "shop",
    ]);
    until("the quota's status", async || {
        let shown = kubectl(&["describe", "quota", "small", "-n", "shop"]);
        // The cluster's certificate is one.
        shown.contains("count/configmaps  1     3").then_some(())
    })
    .await;
    kubectl(&["create", "configmap", "a", "-n", "shop"]);
    kubectl(&["create", "configmap", "b", "-n", "shop"]);
    let (is_done, refused) = told_in(cluster, &["create", "configmap", "c"]);
    assert!(!is_done && refused.contains("exceeded quota: small, requested: count/configmaps=1, used: count/configmaps=3, limited: count/configmaps=3"), "{refused}");
}

fn told_in(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    told(cluster, &[arguments, &["-n", "shop"]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_its_accounts_token_and_reaches_the_api() {
    let cluster = with_hello(1).await;
    if cluster.try_kubectl(&["version"]).is_none() {
        eprintln!("no kubectl here; its journey is not made");
        return;
    }
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    kubectl(&["create", "serviceaccount", "robot"]);
    kubectl(&[
        "create",
        "role",
        "reader",
        "--verb=list",
        "--resource=services",
    ]);
    kubectl(&[
        "create",
        "rolebinding",
        "robot",
        "--role=reader",
        "--serviceaccount=default:robot",
    ]);
    kubectl(&["set", "serviceaccount", "deployment", "hello", "robot"]);
    cluster.wait_for_rollout("hello").await;
    let pod = until("the pod of the account", async || {
        let pods = cluster.pods("app=hello").await;
        let has_account = |pod: &&k8s_openapi::api::core::v1::Pod| {
            pod.metadata.deletion_timestamp.is_none()
                && pod.spec.as_ref().unwrap().service_account_name.as_deref() == Some("robot")
        };
        let pod = pods.iter().find(has_account)?;
        pod.metadata.name.clone()
    })
    .await;
    let place = "/var/run/secrets/kubernetes.io/serviceaccount";
    let read = |file: &str| kubectl(&["exec", &pod, "--", "cat", &format!("{place}/{file}")]);
    assert_eq!(read("namespace"), "default");
    assert!(read("ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    let token = format!("--token={}", read("token"));
    let (is_done, services) = told(&cluster, &["get", "services", &token]);
    assert!(is_done && services.contains("hello"), "{services}");
    // The API is where every client looks for it, under a certificate that the worker trusts: this
    // guest asks for `/version` some twenty times a second.
    cluster.push("shopper", "shopper");
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: shopper }
spec:
  containers:
    - name: shopper
      image: shopper
      env: [{ name: SHOP, value: "https://kubernetes.default.svc/version?" }]
"#,
    );
    until("the guest to be served", async || {
        let log = cluster.try_kubectl(&["logs", "shopper"])?;
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        let served: u32 = log.split(' ').next()?.parse().ok()?;
        (served > 0).then_some(())
    })
    .await;
    // With the pod goes what its token is worth.
    kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    until("the token to be worth nothing", async || {
        let (is_done, _) = told(&cluster, &["get", "services", &token]);
        (!is_done).then_some(())
    })
    .await;
    let _ = cluster.stop();
}
