//! Whether those whom a token names live, and who its bearer therefore is.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::registry::{ApiKind, Caller, Registry};

use super::Rejected;
use super::claims::{Claims, Named, user};

/// How long after its deletion was asked for an object still vouches for a token: what ends in
/// order needs its rights to the end.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// The bearer of a token with these claims.
pub(crate) fn check(registry: &Registry, claims: &Claims) -> Result<Caller, Rejected> {
    let cluster = &claims.cluster;
    let (ns, account) = (cluster.namespace.as_str(), &cluster.serviceaccount);
    let user = user(ns, &account.name);
    if claims.sub != user {
        return Err(Rejected::Claims);
    }
    if !is_alive::<ServiceAccount>(registry, ns, account) {
        return Err(Rejected::Account);
    }
    let bound = [
        cluster
            .pod
            .as_ref()
            .map(|pod| is_alive::<Pod>(registry, ns, pod)),
        cluster
            .secret
            .as_ref()
            .map(|secret| is_alive::<Secret>(registry, ns, secret)),
    ];
    if bound.into_iter().flatten().any(|is_alive| !is_alive) {
        return Err(Rejected::Bound);
    }
    let mut extra = BTreeMap::new();
    let mut tell = |key: &str, value: &str| {
        let key = format!("authentication.kubernetes.io/{key}");
        extra.insert(key, vec![value.to_owned()]);
    };
    tell("credential-id", &format!("JTI={}", claims.jti));
    for (kind, named) in [("pod", &cluster.pod), ("node", &cluster.node)] {
        if let Some(named) = named {
            tell(&format!("{kind}-name"), &named.name);
            tell(&format!("{kind}-uid"), &named.uid);
        }
    }
    Ok(Caller {
        user,
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{ns}"),
            "system:authenticated".to_owned(),
        ],
        uid: Some(account.uid.clone()),
        extra,
    })
}

/// An object that cannot be read vouches for nobody.
fn is_alive<K: ApiKind>(registry: &Registry, ns: &str, named: &Named) -> bool {
    let api = registry.api::<K>(Caller::system("token-authenticator"));
    match api.try_get(ns, &named.name) {
        Ok(Some(found)) => vouches(registry, found.metadata(), &named.uid),
        Ok(None) | Err(_) => false,
    }
}

fn vouches(registry: &Registry, meta: &ObjectMeta, uid: &str) -> bool {
    let now = registry.clock().now();
    let deleted = meta.deletion_timestamp.as_ref().map(|time| time.0);
    meta.uid.as_deref() == Some(uid) && deleted.is_none_or(|at| at + GRACE > now)
}
