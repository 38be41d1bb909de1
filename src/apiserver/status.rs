//! The one mapping from errors to `Status`: code, reason, message, details.
//!
//! Clients branch on `reason`, then on the code; people read the message, which is Kubernetes' own
//! wherever Kubernetes has one. A 500 means a bug: it is logged here with its whole chain, and the
//! client is told nothing of our inside.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::errors;
use crate::modules::refusal::Refusal;
use crate::registry::{self, FieldError};

use super::error::Error;

/// A `Status` in its parts.
struct Failure {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Value,
}

impl Failure {
    fn new(code: StatusCode, reason: &'static str, message: String) -> Self {
        Self {
            code,
            reason,
            message,
            details: json!({}),
        }
    }

    fn details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code.as_u16(),
        });
        if self
            .details
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
            && let Some(body) = body.as_object_mut()
        {
            body.remove("details");
        }
        body
    }
}

/// The `Status` object of an error, for an `ERROR` event of a watch.
pub(crate) fn status_object(error: &Error) -> Value {
    describe(error).body()
}

/// What a completed action answers when there is no object to show.
pub(crate) fn success(details: &Value) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}

/// The resource, its group and the name, as `details` wants them: `deployments.apps` is taken apart.
pub(crate) fn object_details(resource: &str, name: &str) -> Value {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let mut details = json!({"name": name, "kind": plural});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    details
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let failure = describe(&self);
        if failure.code == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %errors::chain(&self), "internal error");
        }
        let mut response = Response::new(Body::from(failure.body().to_string()));
        *response.status_mut() = failure.code;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = failure.details["retryAfterSeconds"].as_u64() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn describe(error: &Error) -> Failure {
    use StatusCode as S;
    let text = || error.to_string();
    match error {
        Error::Registry(error) => describe_registry(error),
        Error::UnknownPath => Failure::new(S::NOT_FOUND, "NotFound", text()),
        Error::NotFound(message) => Failure::new(S::NOT_FOUND, "NotFound", message.clone()),
        Error::MethodNotAllowed => Failure::new(S::METHOD_NOT_ALLOWED, "MethodNotAllowed", text()),
        Error::Unauthorized => Failure::new(S::UNAUTHORIZED, "Unauthorized", text()),
        Error::Forbidden(message) => Failure::new(S::FORBIDDEN, "Forbidden", message.clone()),
        Error::Denied(denial) => Failure::new(S::FORBIDDEN, "Forbidden", denial.message.clone())
            .details(denial.details.clone()),
        Error::BadRequest(message) => Failure::new(S::BAD_REQUEST, "BadRequest", message.clone()),
        Error::Unprocessable { message, field } => {
            Failure::new(S::UNPROCESSABLE_ENTITY, "Invalid", message.clone()).details(json!({
                "causes": [{"reason": "FieldValueInvalid", "message": message, "field": field}],
            }))
        }
        Error::NotAcceptable(_) => Failure::new(S::NOT_ACCEPTABLE, "NotAcceptable", text()),
        Error::UnsupportedMedia(_) => {
            Failure::new(S::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", text())
        }
        Error::TooLarge { .. } => {
            Failure::new(S::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", text())
        }
        Error::Refused { file, refusal } => describe_refusal(file, refusal),
        Error::Conflict {
            message,
            kind,
            name,
        } => Failure::new(S::CONFLICT, "Conflict", message.clone())
            .details(object_details(kind, name)),
        Error::Busy => Failure::new(S::TOO_MANY_REQUESTS, "TooManyRequests", text())
            .details(json!({"retryAfterSeconds": 1})),
        Error::Timeout { .. } => Failure::new(S::GATEWAY_TIMEOUT, "Timeout", text()),
        Error::Unavailable(message) => Failure::new(
            S::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message.clone(),
        ),
        Error::Internal { operation, .. } => internal(operation),
    }
}

fn internal(operation: &str) -> Failure {
    let message = format!("Internal error occurred: {operation} failed; the server's log says why");
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "InternalError",
        message.clone(),
    )
    .details(json!({"causes": [{"message": message}]}))
}

fn describe_refusal(file: &str, refusal: &Refusal) -> Failure {
    let (code, reason) = match refusal {
        Refusal::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
        Refusal::Browser { .. }
        | Refusal::Imports(_)
        | Refusal::NotWasm(_)
        | Refusal::Emscripten { .. }
        | Refusal::Threads
        | Refusal::Invalid { .. }
        | Refusal::NothingToRun { .. }
        | Refusal::NotYetComponent { .. }
        | Refusal::Files { .. }
        | Refusal::TooDeep { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
    };
    let mut causes =
        vec![json!({"reason": refusal.code(), "message": refusal.what(file), "field": file})];
    let because = refusal.because();
    if !because.is_empty() {
        causes.push(json!({"reason": "Because", "message": because}));
    }
    causes.push(json!({"reason": "Help", "message": refusal.help(file)}));
    Failure::new(code, reason, refusal.message(file)).details(json!({
        "name": file,
        "kind": "modules",
        "group": "wasmorch.dev",
        "causes": causes,
    }))
}

fn describe_registry(error: &registry::Error) -> Failure {
    use StatusCode as S;
    use registry::Error as E;
    let text = || error.to_string();
    match error {
        E::NotFound { resource, name } => Failure::new(S::NOT_FOUND, "NotFound", text())
            .details(object_details(resource, name)),
        E::AlreadyExists { resource, name } => Failure::new(S::CONFLICT, "AlreadyExists", text())
            .details(object_details(resource, name)),
        E::Conflict { resource, name, .. } => Failure::new(S::CONFLICT, "Conflict", text())
            .details(object_details(resource, name)),
        E::ApplyConflict(conflicts) => {
            let causes: Vec<Value> = conflicts
                .iter()
                .map(|conflict| {
                    json!({
                        "reason": "FieldManagerConflict",
                        "message": format!("conflict with {}", conflict.manager),
                        "field": conflict.field,
                    })
                })
                .collect();
            Failure::new(S::CONFLICT, "Conflict", text()).details(json!({"causes": causes}))
        }
        E::Invalid {
            group,
            kind,
            name,
            errors,
        } => invalid(group, kind, name, errors, text()),
        E::BadRequest(message) => Failure::new(S::BAD_REQUEST, "BadRequest", message.clone()),
        E::Forbidden {
            resource,
            name,
            cause,
            message,
        } => {
            let mut details = object_details(resource, name);
            if let Some(cause) = cause {
                details["causes"] = json!([{"reason": cause, "message": message}]);
            }
            Failure::new(S::FORBIDDEN, "Forbidden", text()).details(details)
        }
        E::DisruptionBudget { cause, retry_after } => {
            let mut details =
                json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]});
            if let Some(seconds) = retry_after {
                details["retryAfterSeconds"] = (*seconds).into();
            }
            Failure::new(S::TOO_MANY_REQUESTS, "TooManyRequests", text()).details(details)
        }
        E::SeveralBudgets => Failure::new(S::INTERNAL_SERVER_ERROR, "InternalError", text()),
        E::Expired => Failure::new(S::GONE, "Expired", text()),
        E::FutureRevision { requested, current } => Failure::new(
            S::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Too large resource version: {requested}, current: {current}"),
        )
        .details(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        })),
        E::MethodNotAllowed | E::CreateNotAllowed => Failure::new(S::METHOD_NOT_ALLOWED, "MethodNotAllowed", text()),
        E::NoStrategicPatch => {
            Failure::new(S::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", text())
        }
        E::Store(_) => internal("the store"),
        E::Corrupt { .. } => internal("reading a stored object"),
    }
}

fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError], text: String) -> Failure {
    let causes: Vec<Value> = errors
        .iter()
        .map(
            |error| json!({"reason": error.reason, "message": error.message, "field": error.field}),
        )
        .collect();
    let mut details = json!({"name": name, "kind": kind, "causes": causes});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", text).details(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_objects_list_every_mistake() {
        let field = |field: &str| FieldError {
            reason: "FieldValueRequired",
            field: field.to_owned(),
            message: "Required value".to_owned(),
        };
        let error = Error::Registry(registry::Error::Invalid {
            group: "apps".to_owned(),
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
            errors: vec![field("a"), field("b.c")],
        });
        let body = status_object(&error);
        assert_eq!(
            body["message"],
            "Deployment.apps \"web\" is invalid: [a: Required value, b.c: Required value]"
        );
        assert_eq!(body["details"]["causes"][1]["field"], "b.c");
        assert_eq!(body["code"], 422);
    }

    #[test]
    fn a_mistake_is_told_once_and_its_causes_each_time() {
        let field = FieldError {
            reason: "FieldValueRequired",
            field: "a".to_owned(),
            message: "Required value".to_owned(),
        };
        let error = Error::Registry(registry::Error::Invalid {
            group: String::new(),
            kind: "Pod".to_owned(),
            name: "web".to_owned(),
            errors: vec![field.clone(), field],
        });
        let body = status_object(&error);
        assert_eq!(body["message"], "Pod \"web\" is invalid: a: Required value");
        assert_eq!(body["details"]["causes"][1]["field"], "a");
    }

    #[test]
    fn details_name_the_plural_and_its_group() {
        let error = Error::Registry(registry::Error::NotFound {
            resource: "deployments.apps".to_owned(),
            name: "web".to_owned(),
        });
        let body = status_object(&error);
        assert_eq!(body["message"], "deployments.apps \"web\" not found");
        assert_eq!(
            body["details"],
            json!({"name": "web", "kind": "deployments", "group": "apps"})
        );
        assert!(status_object(&Error::Unauthorized).get("details").is_none());
    }
}
