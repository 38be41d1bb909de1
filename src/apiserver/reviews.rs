//! Questions about rights and identities: reviews are created, answered at once and never kept.
//!
//! `kubectl auth can-i`, k9s and Headlamp ask these before they show a button. They are resources
//! that no registry row backs, so the dispatcher sends them here; [`REVIEWS`] is what discovery and
//! the dispatcher know of them.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::api::object;
use crate::registry::rbac::{Rbac, Wanted};
use crate::registry::schemas::Typed;
use crate::registry::strategy::{SchemaOf, schema_of};
use crate::registry::{self, Caller, FieldError};

use super::authorize::{self, Attributes};
use super::error::Error;
use super::request::{RequestInfo, Verb};
use super::{Server, body, respond};

/// A resource that answers and keeps nothing.
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    schema: SchemaOf,
    answers: Answers,
}

/// What a review is about.
#[derive(Clone, Copy)]
enum Answers {
    Who,
    Token,
    OwnAccess,
    Access,
    OwnRules,
}

const fn review<K: k8s_openapi::Resource + JsonSchema>(answers: Answers) -> Review {
    Review {
        group: K::GROUP,
        version: K::VERSION,
        plural: K::URL_PATH_SEGMENT,
        kind: K::KIND,
        namespaced: false,
        schema: schema_of::<K>,
        answers,
    }
}

pub(crate) const REVIEWS: &[Review] = &[
    review::<SelfSubjectReview>(Answers::Who),
    review::<TokenReview>(Answers::Token),
    Review {
        namespaced: true,
        ..review::<LocalSubjectAccessReview>(Answers::Access)
    },
    review::<SelfSubjectAccessReview>(Answers::OwnAccess),
    review::<SelfSubjectRulesReview>(Answers::OwnRules),
    review::<SubjectAccessReview>(Answers::Access),
];

impl Review {
    /// The kind, for its schema.
    pub(crate) fn typed(&self) -> Typed {
        Typed {
            group: self.group,
            version: self.version,
            kind: self.kind,
            schema: self.schema,
        }
    }
}

/// The review that a request is for.
pub(crate) fn find(info: &RequestInfo) -> Option<&'static Review> {
    REVIEWS.iter().find(|review| {
        (review.group, review.version, review.plural)
            == (&info.group, &info.version, &info.resource)
    })
}

/// Answers a review.
pub(crate) async fn create(
    server: &Server,
    review: &Review,
    info: &RequestInfo,
    caller: &Caller,
    (headers, body): (&HeaderMap, Body),
) -> Result<Response, Error> {
    if review.namespaced != info.namespace.is_some() {
        return Err(Error::UnknownPath);
    }
    if info.verb != Verb::Create || info.name.is_some() {
        return Err(Error::MethodNotAllowed);
    }
    let mut object = body::object(headers, body).await?;
    object::prune_nulls(&mut object);
    let spec = object.get("spec").cloned().unwrap_or_else(|| json!({}));
    let rbac = server.registry.rbac();
    let status = match review.answers {
        Answers::Who => json!({"userInfo": user_info(caller)}),
        Answers::Token => token(server, &spec)?,
        Answers::OwnAccess => {
            check_access(review, &spec, false)?;
            access(rbac, caller, &spec)
        }
        Answers::Access => {
            check_access(review, &spec, true)?;
            check_namespace(info, &spec)?;
            access(rbac, &subject(&spec), &spec)
        }
        Answers::OwnRules => {
            let namespace = object::str_at(&spec, &["namespace"]).unwrap_or_default();
            if namespace.is_empty() {
                return Err(Error::BadRequest("no namespace on request".to_owned()));
            }
            rules(rbac, caller, namespace)
        }
    };
    let mut metadata = json!({"creationTimestamp": null});
    if let Some(namespace) = &info.namespace {
        metadata["namespace"] = json!(namespace);
    }
    let answer = json!({
        "kind": review.kind,
        "apiVersion": format!("{}/{}", review.group, review.version),
        "metadata": metadata,
        "spec": spec,
        "status": status,
    });
    Ok(respond::json(StatusCode::CREATED, &answer))
}

fn user_info(caller: &Caller) -> Value {
    let mut info = json!({"username": caller.user, "groups": caller.groups});
    if let Some(uid) = &caller.uid {
        info["uid"] = json!(uid);
    }
    if !caller.extra.is_empty() {
        info["extra"] = json!(caller.extra);
    }
    info
}

/// Whose token it is, if anybody's.
fn token(server: &Server, spec: &Value) -> Result<Value, Error> {
    let token = object::str_at(spec, &["token"]).unwrap_or_default();
    if token.is_empty() {
        return Err(invalid(
            "TokenReview",
            ("spec.token", "FieldValueRequired", "Required value"),
        ));
    }
    let audiences = strings(spec.get("audiences"));
    Ok(match server.token_owner(token, &audiences) {
        Ok((caller, audiences)) => json!({
            "authenticated": true,
            "user": user_info(&caller),
            "audiences": audiences,
        }),
        Err(reason) => json!({"user": {}, "error": reason}),
    })
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

fn subject(spec: &Value) -> Caller {
    let extra = spec.get("extra").and_then(Value::as_object);
    Caller {
        user: object::str_at(spec, &["user"])
            .unwrap_or_default()
            .to_owned(),
        groups: strings(spec.get("groups")),
        uid: object::str_at(spec, &["uid"]).map(str::to_owned),
        extra: extra
            .into_iter()
            .flatten()
            .map(|(key, values)| (key.clone(), strings(Some(values))))
            .collect(),
    }
}

fn invalid(kind: &str, (field, reason, message): (&str, &'static str, &str)) -> Error {
    Error::Registry(registry::Error::Invalid {
        group: String::new(),
        kind: kind.to_owned(),
        name: String::new(),
        errors: vec![FieldError {
            reason,
            field: field.to_owned(),
            message: message.to_owned(),
        }],
    })
}

fn check_access(review: &Review, spec: &Value, names_somebody: bool) -> Result<(), Error> {
    let (resource, path) = ("resourceAttributes", "nonResourceAttributes");
    let refused = |field: &str, message: &str| {
        let message = format!("Invalid value: {message}");
        let error = (field, "FieldValueInvalid", message.as_str());
        Err(invalid(review.kind, error))
    };
    match (spec.get(resource).is_some(), spec.get(path).is_some()) {
        (true, true) => refused(
            "spec.nonResourceAttributes",
            "cannot be specified in combination with resourceAttributes",
        ),
        (false, false) => refused(
            "spec.resourceAttributes",
            "null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ if names_somebody && is_nobody(&subject(spec)) => refused(
            "spec.user",
            "\"\": at least one of user or group must be specified",
        ),
        _ => Ok(()),
    }
}

fn is_nobody(caller: &Caller) -> bool {
    caller.user.is_empty() && caller.groups.is_empty()
}

/// A local review asks about its own namespace.
fn check_namespace(info: &RequestInfo, spec: &Value) -> Result<(), Error> {
    let Some(namespace) = &info.namespace else {
        return Ok(());
    };
    let asked = object::str_at(spec, &["resourceAttributes", "namespace"]);
    if asked == Some(namespace) {
        return Ok(());
    }
    Err(Error::BadRequest(format!(
        "spec.resourceAttributes.namespace must match namespace: {namespace}"
    )))
}

fn access(rbac: &Rbac, caller: &Caller, spec: &Value) -> Value {
    let at = |place: &str, field: &str| {
        object::str_at(spec, &[place, field]).filter(|text| !text.is_empty())
    };
    let wanted = if spec.get("resourceAttributes").is_some() {
        let text = |field| at("resourceAttributes", field);
        Wanted::Resource(Attributes {
            verb: text("verb").unwrap_or_default(),
            group: text("group").unwrap_or_default(),
            resource: text("resource").unwrap_or_default(),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
        })
    } else {
        Wanted::Path {
            verb: at("nonResourceAttributes", "verb").unwrap_or_default(),
            path: at("nonResourceAttributes", "path").unwrap_or_default(),
        }
    };
    let (allowed, reason) = match authorize::decide(rbac, caller, wanted) {
        Ok(reason) => (true, reason),
        Err(amiss) => (false, amiss.unwrap_or_default()),
    };
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    status
}

fn rules(rbac: &Rbac, caller: &Caller, namespace: &str) -> Value {
    let (resource_rules, non_resource_rules) = authorize::rules_of(rbac, caller, Some(namespace));
    json!({
        "resourceRules": resource_rules,
        "nonResourceRules": non_resource_rules,
        "incomplete": false,
    })
}
