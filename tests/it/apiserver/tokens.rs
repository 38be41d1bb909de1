//! Tokens of service accounts over HTTP: who gets one, what it is worth, and until when.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
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
fn certificate(cluster: &Cluster, user: &str, group: &str) -> (String, String) {
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
    (certificate.pem(), key.serialize_pem())
}

/// Who the API says that the owner of this certificate is.
async fn named(
    cluster: &Cluster,
    identity: Option<(String, String)>,
) -> Result<UserInfo, kube::Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = std::fs::read(cluster.data().join("pki/ca.crt")).unwrap();
    let authority = CertificateDer::from_pem_slice(&authority).unwrap();
    let url = format!("https://{}", cluster.addresses.https);
    let mut config = kube::Config::new(url.parse().unwrap());
    config.root_cert = Some(vec![authority.to_vec()]);
    if let Some((certificate, key)) = identity {
        config.auth_info.client_certificate_data = Some(STANDARD.encode(certificate));
        config.auth_info.client_key_data = Some(STANDARD.encode(key).into());
    }
    let client = kube::Client::try_from(config)?;
    let api: kube::Api<SelfSubjectReview> = kube::Api::all(client);
    let review = SelfSubjectReview::default();
    let review = api
        .create(&kube::api::PostParams::default(), &review)
        .await?;
    Ok(review.status.unwrap().user_info.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_clusters_ca_names_its_user() {
    let cluster = Cluster::start().await;
    let user = named(&cluster, Some(certificate(&cluster, "jane", "dev")))
        .await
        .unwrap();
    assert_eq!(user.username.as_deref(), Some("jane"));
    assert_eq!(user.groups.unwrap(), ["dev", "system:authenticated"]);
    let nobody = named(&cluster, None).await.unwrap_err();
    assert!(nobody.to_string().contains("Unauthorized"), "{nobody}");
    // Signed by somebody else, it opens no connection.
    let other = Cluster::start().await;
    let foreign = certificate(&other, "jane", "system:masters");
    assert!(named(&cluster, Some(foreign)).await.is_err());
    other.stop().await;
    cluster.stop().await;
}

/// A Secret of the type is filled, its token is the account's, and both end with the account.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_holds_a_token_as_long_as_its_account_lives() {
    const SECRETS: &str = "/api/v1/namespaces/default/secrets";
    let cluster = Cluster::start().await;
    let nameless =
        json!({"metadata": {"name": "key"}, "type": "kubernetes.io/service-account-token"});
    let (code, refused) = cluster.send("POST", SECRETS, &nameless).await;
    assert_eq!(code, 422, "{refused}");
    let field = "metadata.annotations[kubernetes.io/service-account.name]";
    assert_eq!(refused["details"]["causes"][0]["field"], field);

    let account = json!({"metadata": {"name": "robot"}});
    let (_, account) = cluster.send("POST", ACCOUNTS, &account).await;
    let mut secret = nameless;
    secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "robot"});
    let (code, made) = cluster.send("POST", SECRETS, &secret).await;
    assert_eq!(code, 201, "{made}");
    let has_token = |secret: &Value| secret["data"]["token"].is_string();
    let filled = changed(&cluster, &made, has_token).await;
    let uid = &filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"];
    assert_eq!(*uid, account["metadata"]["uid"]);
    let text = |key: &str| {
        let value = filled["data"][key].as_str().unwrap();
        String::from_utf8(STANDARD.decode(value).unwrap()).unwrap()
    };
    assert_eq!(text("namespace"), "default");
    assert!(text("ca.crt").contains("BEGIN CERTIFICATE"));
    let (code, review) = who(&cluster, &text("token")).await;
    assert_eq!(code, 201, "{review}");
    let name = &review["status"]["userInfo"]["username"];
    assert_eq!(*name, "system:serviceaccount:default:robot");

    let path = format!("{ACCOUNTS}/robot");
    cluster.send("DELETE", &path, &json!({})).await;
    changed(&cluster, &filled, Value::is_null).await;
    assert_eq!(who(&cluster, &text("token")).await.0, 401);
}

/// The Secret `key` once it is as wanted, after it was as it is known; null when it is gone.
async fn changed(cluster: &Cluster, known: &Value, is_so: impl Fn(&Value) -> bool) -> Value {
    let revision = known["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!(
        "/api/v1/namespaces/default/secrets?watch=true&fieldSelector=metadata.name=key&resourceVersion={revision}"
    );
    let mut events = cluster.request("GET", &path).send().await.unwrap();
    let mut text = Vec::new();
    let wait = async {
        loop {
            text.extend_from_slice(&events.chunk().await.unwrap().unwrap());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).unwrap();
                let is_gone = event["type"] == "DELETED";
                let secret = if is_gone {
                    Value::Null
                } else {
                    event["object"].take()
                };
                if is_so(&secret) {
                    return secret;
                }
            }
        }
    };
    tokio::time::timeout(super::harness::WAIT, wait)
        .await
        .unwrap()
}
