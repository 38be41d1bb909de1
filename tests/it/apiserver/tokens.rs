//! Tokens of service accounts over HTTP: who gets one, what it is worth, and until when.

use serde_json::{Value, json};

use super::harness::{Cluster, answer};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn token(cluster: &Cluster, account: &str, spec: &Value) -> (u16, Value) {
    let path = format!("{ACCOUNTS}/{account}/token");
    cluster.send("POST", &path, &json!({"spec": spec})).await
}

async fn who(cluster: &Cluster, token: &str) -> (u16, Value) {
    let request = cluster.anonymous("POST", WHO).bearer_auth(token);
    answer(request.json(&json!({}))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_lives_in_its_token_and_no_longer() {
    let cluster = Cluster::start().await;
    let account = json!({"metadata": {"name": "robot"}});
    cluster.send("POST", ACCOUNTS, &account).await;
    let (code, made) = token(&cluster, "robot", &json!({})).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["kind"], "TokenRequest");
    assert_eq!(made["spec"]["expirationSeconds"], 3600);
    assert!(
        made["status"]["expirationTimestamp"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    let text = made["status"]["token"].as_str().unwrap();
    let (code, review) = who(&cluster, text).await;
    assert_eq!(code, 201, "{review}");
    let user = &review["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );

    // Its rights are those of its bindings.
    let pods = "/api/v1/namespaces/default/pods";
    let list = || answer(cluster.anonymous("GET", pods).bearer_auth(text));
    let (code, refused) = list().await;
    assert_eq!(code, 403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("User \"system:serviceaccount:default:robot\" cannot list")
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"metadata": {"name": "pods"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]});
    cluster.send("POST", &format!("{rbac}/roles"), &role).await;
    let binding = json!({"metadata": {"name": "pods"}, "roleRef": {"kind": "Role", "name": "pods"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot"}]});
    cluster
        .send("POST", &format!("{rbac}/rolebindings"), &binding)
        .await;
    assert_eq!(list().await.0, 200);

    // The key is public to the accounts.
    let keys = answer(
        cluster
            .anonymous("GET", "/openid/v1/jwks")
            .bearer_auth(text),
    )
    .await;
    assert_eq!(keys.1["keys"][0]["alg"], "ES256");
    let tokens = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (_, review) = cluster
        .send("POST", tokens, &json!({"spec": {"token": text}}))
        .await;
    assert_eq!(review["status"]["authenticated"], true, "{review}");

    // Another account of the same name is somebody else.
    cluster
        .send("DELETE", &format!("{ACCOUNTS}/robot"), &json!({}))
        .await;
    assert_eq!(who(&cluster, text).await.0, 401);
    cluster.send("POST", ACCOUNTS, &account).await;
    assert_eq!(who(&cluster, text).await.0, 401);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_audiences_and_bindings_are_kept() {
    let cluster = Cluster::start().await;
    let (code, refused) = token(&cluster, "default", &json!({"expirationSeconds": 599})).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "TokenRequest.authentication.k8s.io \"default\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"
    );
    assert_eq!(token(&cluster, "nobody", &json!({})).await.0, 404);
    let (_, made) = token(&cluster, "default", &json!({"audiences": ["vault"]})).await;
    let text = made["status"]["token"].as_str().unwrap();
    assert_eq!(
        who(&cluster, text).await.0,
        401,
        "it is for another audience"
    );
    let review = json!({"spec": {"token": text, "audiences": ["vault", "other"]}});
    let tokens = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (_, review) = cluster.send("POST", tokens, &review).await;
    assert_eq!(review["status"]["audiences"], json!(["vault"]), "{review}");

    let secrets = "/api/v1/namespaces/default/secrets";
    cluster
        .send("POST", secrets, &json!({"metadata": {"name": "s"}}))
        .await;
    let reference = json!({"kind": "Secret", "apiVersion": "v1", "name": "s"});
    let (_, made) = token(&cluster, "default", &json!({"boundObjectRef": reference})).await;
    let text = made["status"]["token"].as_str().unwrap();
    assert_eq!(who(&cluster, text).await.0, 201);
    cluster
        .send("DELETE", &format!("{secrets}/s"), &json!({}))
        .await;
    assert_eq!(who(&cluster, text).await.0, 401);
    let other = json!({"boundObjectRef": {"kind": "ConfigMap", "name": "x"}});
    assert_eq!(token(&cluster, "default", &other).await.0, 400);

    // A worker gets none that is not bound to a pod of its own.
    let secret = cluster.join_token.rsplit('.').next().unwrap();
    let request = cluster
        .anonymous("POST", &format!("{ACCOUNTS}/default/token"))
        .bearer_auth(secret)
        .header("x-wasmorch-node", "dev-1")
        .json(&json!({"spec": {}}));
    let (code, refused) = answer(request).await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap()),
        (403, "node requested token not bound to a pod")
    );
    cluster.stop().await;
}

/// A certificate that the cluster's CA signs for a user and their groups.
fn certificate(cluster: &Cluster, user: &str, group: &str) -> String {
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
    let read = |file: &str| std::fs::read_to_string(cluster.data().join("pki").join(file)).unwrap();
    let authority = KeyPair::from_pem(&read("ca.key")).unwrap();
    let mut of_ca = CertificateParams::default();
    of_ca.distinguished_name = rcgen::DistinguishedName::new();
    of_ca
        .distinguished_name
        .push(DnType::CommonName, "wasmorch CA");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    params
        .distinguished_name
        .push(DnType::OrganizationName, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::from_params(&of_ca, authority);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_clusters_ca_names_its_user() {
    let cluster = Cluster::start().await;
    let authority = std::fs::read(cluster.data().join("pki/ca.crt")).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority).unwrap();
    let url = format!("https://{}{WHO}", cluster.addresses.https);
    let client = |identity: Option<&str>| {
        let builder = reqwest::Client::builder().tls_certs_only([authority.clone()]);
        match identity {
            Some(pem) => builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap()),
            None => builder,
        }
        .build()
        .unwrap()
    };
    let jane = certificate(&cluster, "jane", "dev");
    let request = client(Some(&jane)).post(&url).json(&json!({}));
    let (code, review) = answer(request).await;
    assert_eq!(code, 201, "{review}");
    let user = &review["status"]["userInfo"];
    assert_eq!(user["username"], "jane");
    assert_eq!(user["groups"], json!(["dev", "system:authenticated"]));
    let (code, _) = answer(client(None).post(&url).json(&json!({}))).await;
    assert_eq!(code, 401);
    // Signed by somebody else, it opens no connection.
    let other = Cluster::start().await;
    let foreign = certificate(&other, "jane", "system:masters");
    let refused = client(Some(&foreign))
        .post(&url)
        .json(&json!({}))
        .send()
        .await;
    assert!(refused.is_err());
    other.stop().await;
    cluster.stop().await;
}
