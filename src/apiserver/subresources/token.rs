//! `serviceaccounts/{name}/token`: a token of the account, signed and not kept.
//!
//! It may be bound to a pod or a secret, and ends with it. A worker gets tokens for the pods that run
//! on it and for nothing else.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use crate::api::object;
use crate::apiserver::error::Error;
use crate::apiserver::handlers::Context;
use crate::apiserver::tokens::ISSUER;
use crate::apiserver::tokens::claims::{Claims, Cluster, Named, user};
use crate::apiserver::{body, respond};
use crate::ids;
use crate::registry::{self, Caller, FieldError};

const USUAL: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
/// What is given to whoever asks for more.
const YEAR: i64 = 365 * 24 * 3600;
/// Audiences of one token.
const AUDIENCES: usize = 32;

pub(crate) async fn create(ctx: &Context, body: Body) -> Result<Response, Error> {
    let (ns, name) = (ctx.namespace().ok_or(Error::UnknownPath)?, ctx.name()?);
    let mut request = body::object(&ctx.headers, body).await?;
    object::prune_nulls(&mut request);
    let api = ctx
        .registry()
        .api::<ServiceAccount>(Caller::system("token-request"));
    let account = api.get(ns, name)?;
    let seconds = seconds(ctx, &request["spec"])?;
    let audiences = audiences(&request["spec"])?;
    let bound = bound(ctx, ns, name, &request["spec"]["boundObjectRef"])?;
    check_node(ctx, &bound)?;

    let now = ctx.registry().clock().now();
    let expires = now + SignedDuration::from_secs(seconds.min(YEAR));
    let claims = Claims {
        aud: audiences.clone(),
        exp: expires.as_second(),
        iat: now.as_second(),
        iss: ISSUER.to_owned(),
        jti: ids::uid(),
        nbf: now.as_second(),
        sub: user(ns, name),
        cluster: Cluster {
            namespace: ns.to_owned(),
            node: bound.node,
            pod: bound.pod.map(|(named, _)| named),
            secret: bound.secret,
            serviceaccount: Named::of(&account.metadata),
        },
    };
    let token = ctx.server.signer.sign(&claims);
    let token = token.map_err(|_| Error::Internal {
        operation: "sign a token",
        source: "the key refuses to sign".into(),
    })?;
    Ok(respond::json(
        StatusCode::CREATED,
        &answer(ctx, &request, (seconds, audiences), (&token, now, expires)),
    ))
}

fn answer(
    ctx: &Context,
    request: &Value,
    (seconds, audiences): (i64, Vec<String>),
    (token, now, expires): (&str, Timestamp, Timestamp),
) -> Value {
    let at = |time: Timestamp| json!(Time(time.round(jiff::Unit::Second).unwrap_or(time)));
    let mut answer = json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": ctx.info.name,
            "namespace": ctx.info.namespace,
            "creationTimestamp": at(now),
        },
        "spec": {"audiences": audiences, "expirationSeconds": seconds},
        "status": {"token": token, "expirationTimestamp": at(expires)},
    });
    if let Some(bound) = request["spec"].get("boundObjectRef") {
        answer["spec"]["boundObjectRef"] = bound.clone();
    }
    answer
}

fn invalid(ctx: &Context, field: &str, message: String) -> Error {
    Error::Registry(registry::Error::Invalid {
        group: "authentication.k8s.io".to_owned(),
        kind: "TokenRequest".to_owned(),
        name: ctx.info.name.clone().unwrap_or_default(),
        errors: vec![FieldError {
            reason: "FieldValueInvalid",
            field: field.to_owned(),
            message,
        }],
    })
}

fn seconds(ctx: &Context, spec: &Value) -> Result<i64, Error> {
    let Some(given) = spec.get("expirationSeconds") else {
        return Ok(USUAL);
    };
    let complaint = match given.as_i64() {
        Some(seconds) if seconds < SHORTEST => "may not specify a duration less than 10 minutes",
        Some(seconds) if seconds > LONGEST => "may not specify a duration larger than 2^32 seconds",
        Some(seconds) => return Ok(seconds),
        None => "must be a number of seconds",
    };
    let message = format!("Invalid value: {given}: {complaint}");
    Err(invalid(ctx, "spec.expirationSeconds", message))
}

/// A token for whoever was not meant could be used against him; so what cannot be read is refused.
fn audiences(spec: &Value) -> Result<Vec<String>, Error> {
    let refused = || {
        let text = "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: spec.audiences must be a list of strings";
        Error::BadRequest(text.to_owned())
    };
    let given: Vec<String> = match spec.get("audiences") {
        None => Vec::new(),
        Some(Value::Array(given)) => given
            .iter()
            .map(|one| one.as_str().map(str::to_owned).ok_or_else(refused))
            .collect::<Result<_, Error>>()?,
        Some(_) => return Err(refused()),
    };
    if given.len() > AUDIENCES {
        return Err(Error::BadRequest(format!(
            "a token is for {AUDIENCES} audiences at most"
        )));
    }
    Ok(if given.is_empty() {
        vec![ISSUER.to_owned()]
    } else {
        given
    })
}

/// What the token is bound to.
#[derive(Default)]
struct Bound {
    /// The pod, and the node that it runs on.
    pod: Option<(Named, Option<String>)>,
    secret: Option<Named>,
    node: Option<Named>,
}

fn bound(ctx: &Context, ns: &str, account: &str, reference: &Value) -> Result<Bound, Error> {
    if reference.is_null() {
        return Ok(Bound::default());
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    let caller = || Caller::system("token-request");
    match (version, kind) {
        ("v1" | "", "Pod") => {
            let pod = ctx.registry().api::<Pod>(caller()).get(ns, text("name"))?;
            check_uid(ctx, &pod.metadata, text("uid"))?;
            let spec = pod.spec.as_ref();
            let its = spec.and_then(|spec| spec.service_account_name.as_deref());
            if its != Some(account) {
                return Err(Error::BadRequest(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            let node = spec.and_then(|spec| spec.node_name.clone());
            Ok(Bound {
                node: node.as_deref().and_then(|node| node_named(ctx, node)),
                pod: Some((Named::of(&pod.metadata), node)),
                secret: None,
            })
        }
        ("v1" | "", "Secret") => {
            let api = ctx.registry().api::<Secret>(caller());
            let secret = api.get(ns, text("name"))?;
            check_uid(ctx, &secret.metadata, text("uid"))?;
            Ok(Bound {
                secret: Some(Named::of(&secret.metadata)),
                ..Bound::default()
            })
        }
        _ => Err(Error::BadRequest(format!(
            "cannot bind token for serviceaccount to object of type {version}, Kind={kind}"
        ))),
    }
}

fn node_named(ctx: &Context, name: &str) -> Option<Named> {
    let row = ctx.registry().find("", "v1", "nodes")?;
    let node = ctx.registry().get(row, None, name).ok()?;
    Some(Named {
        name: name.to_owned(),
        uid: object::uid(&node.object).to_owned(),
    })
}

fn check_uid(ctx: &Context, meta: &ObjectMeta, given: &str) -> Result<(), Error> {
    let uid = meta.uid.as_deref().unwrap_or_default();
    if given.is_empty() || given == uid {
        return Ok(());
    }
    Err(Error::Registry(registry::Error::Conflict {
        resource: ctx.resource.qualified.to_owned(),
        name: ctx.info.name.clone().unwrap_or_default(),
        message: format!(
            "the UID in the bound object reference ({given}) does not match the UID in record. The object might have been deleted and then recreated"
        ),
    }))
}

/// A worker asks for its own pods only.
fn check_node(ctx: &Context, bound: &Bound) -> Result<(), Error> {
    if !ctx.caller.is_member("system:nodes") {
        return Ok(());
    }
    let node = ctx.caller.user.strip_prefix("system:node:");
    match &bound.pod {
        Some((_, on)) if on.is_some() && on.as_deref() == node => Ok(()),
        Some(_) => Err(Error::Forbidden(
            "node requested token bound to a pod scheduled on a different node".to_owned(),
        )),
        None => Err(Error::Forbidden(
            "node requested token not bound to a pod".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_a_list_of_strings_or_nothing() {
        let read = |spec: &Value| audiences(spec).ok();
        let own = Some(vec![ISSUER.to_owned()]);
        assert_eq!(read(&json!({})), own);
        assert_eq!(read(&json!({"audiences": []})), own);
        assert_eq!(
            read(&json!({"audiences": ["vault"]})),
            Some(vec!["vault".to_owned()])
        );
        for wrong in [
            json!("vault"),
            json!([1]),
            json!(["vault", null]),
            json!({"a": "b"}),
        ] {
            assert_eq!(read(&json!({"audiences": wrong})), None, "{wrong}");
        }
    }
}
