//! What a token says.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::ISSUER;
use crate::ids;

/// Tokens that Secrets hold end with their Secret and no sooner: a hundred years are for ever.
const FOR_EVER: SignedDuration = SignedDuration::from_hours(100 * 365 * 24);

/// The claims, in the order and the words of Kubernetes' own tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) cluster: Cluster,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// Whom the token names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) namespace: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) node: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) pod: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) secret: Option<Named>,
    pub(crate) serviceaccount: Named,
}

/// One object, by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Named {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }
}

impl Claims {
    /// The claims of the token of an account that a Secret holds.
    pub(crate) fn of_secret(account: &ObjectMeta, secret: &ObjectMeta, now: Timestamp) -> Self {
        let namespace = account.namespace.clone().unwrap_or_default();
        let name = account.name.as_deref().unwrap_or_default();
        Self {
            aud: vec![ISSUER.to_owned()],
            exp: (now + FOR_EVER).as_second(),
            iat: now.as_second(),
            iss: ISSUER.to_owned(),
            jti: ids::uid(),
            nbf: now.as_second(),
            sub: user(&namespace, name),
            cluster: Cluster {
                namespace,
                node: None,
                pod: None,
                secret: Some(Named::of(secret)),
                serviceaccount: Named::of(account),
            },
        }
    }
}

/// The user that a service account is.
pub(crate) fn user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}
