//! Questions about rights: reviews are created, answered at once and never kept.
//!
//! `kubectl auth can-i`, k9s and Headlamp ask these before they show a button. They are resources
//! that no registry row backs, so the dispatcher sends them here; [`REVIEWS`] is what discovery and
//! the dispatcher know of them.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::api::object;
use crate::registry::Caller;

use super::authorize::{self, Attributes};
use super::error::Error;
use super::request::{RequestInfo, Verb};
use super::{body, respond};

/// A resource that answers and keeps nothing.
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
}

pub(crate) const REVIEWS: &[Review] = &[
    Review {
        group: "authentication.k8s.io",
        plural: "selfsubjectreviews",
        kind: "SelfSubjectReview",
    },
    Review {
        group: "authorization.k8s.io",
        plural: "selfsubjectaccessreviews",
        kind: "SelfSubjectAccessReview",
    },
    Review {
        group: "authorization.k8s.io",
        plural: "selfsubjectrulesreviews",
        kind: "SelfSubjectRulesReview",
    },
    Review {
        group: "authorization.k8s.io",
        plural: "subjectaccessreviews",
        kind: "SubjectAccessReview",
    },
];

/// The review that a request is for.
pub(crate) fn find(info: &RequestInfo) -> Option<&'static Review> {
    REVIEWS.iter().find(|review| {
        review.group == info.group && info.version == "v1" && review.plural == info.resource
    })
}

/// Answers a review.
pub(crate) async fn create(
    review: &Review,
    info: &RequestInfo,
    caller: &Caller,
    (headers, body): (&HeaderMap, Body),
) -> Result<Response, Error> {
    if info.verb != Verb::Create || info.name.is_some() {
        return Err(Error::MethodNotAllowed);
    }
    let mut object = body::object(headers, body).await?;
    object::prune_nulls(&mut object);
    let spec = object.get("spec").cloned().unwrap_or_else(|| json!({}));
    let status = match review.kind {
        "SelfSubjectReview" => json!({
            "userInfo": {"username": caller.user, "groups": caller.groups},
        }),
        "SelfSubjectAccessReview" => access(caller, &spec),
        "SubjectAccessReview" => access(&subject(&spec), &spec),
        _ => rules(caller),
    };
    let answer = json!({
        "kind": review.kind,
        "apiVersion": format!("{}/v1", review.group),
        "metadata": {"creationTimestamp": null},
        "spec": spec,
        "status": status,
    });
    Ok(respond::json(StatusCode::CREATED, &answer))
}

fn subject(spec: &Value) -> Caller {
    Caller {
        user: object::str_at(spec, &["user"])
            .unwrap_or_default()
            .to_owned(),
        groups: spec
            .get("groups")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|group| group.as_str().map(str::to_owned))
            .collect(),
    }
}

fn access(caller: &Caller, spec: &Value) -> Value {
    let answer = if let Some(wanted) = spec.get("resourceAttributes") {
        let text = |field: &str| object::str_at(wanted, &[field]).filter(|text| !text.is_empty());
        authorize::authorize(
            caller,
            Attributes {
                verb: text("verb").unwrap_or_default(),
                group: text("group").unwrap_or_default(),
                resource: text("resource").unwrap_or_default(),
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
            },
        )
    } else if let Some(path) = object::str_at(spec, &["nonResourceAttributes", "path"]) {
        if authorize::authorize_path(Some(caller), path) {
            Ok(())
        } else {
            Err(String::new())
        }
    } else {
        Err("neither resourceAttributes nor nonResourceAttributes are given".to_owned())
    };
    match answer {
        Ok(()) => json!({"allowed": true}),
        Err(reason) => json!({"allowed": false, "reason": reason}),
    }
}

fn rules(caller: &Caller) -> Value {
    let (resource_rules, non_resource_rules) = authorize::rules_of(caller);
    json!({
        "resourceRules": resource_rules,
        "nonResourceRules": non_resource_rules,
        "incomplete": false,
    })
}
