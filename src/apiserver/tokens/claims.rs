//! What a token says.

use serde::{Deserialize, Serialize};

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

/// The user that a service account is.
pub(crate) fn user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}
