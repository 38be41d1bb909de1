//! Answers: objects and lists in the form that the client accepts.
//!
//! A stored object is encoded once and its bytes are shared; lists splice those bytes and never
//! build a tree. `Warning` headers carry what a write has to say beside its result.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::registry::{List, Registry, ResourceInfo, Written};
use crate::store::Stored;

use super::error::Error;
use super::media::Output;
use super::query::Query;
use super::table::{self, Include};

/// A JSON answer made of ready bytes.
pub(crate) fn bytes(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    bytes(status, body.to_string().into())
}

/// Plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// One object.
pub(crate) fn object(
    registry: &Registry,
    resource: &'static ResourceInfo,
    stored: &Arc<Stored>,
    (output, query): (Output, &Query),
    status: StatusCode,
) -> Result<Response, Error> {
    Ok(match output {
        Output::Object => bytes(status, stored.json().clone()),
        Output::Table { version } => {
            let include = Include::of(query)?;
            let mut table = table::head(resource, version, true);
            table["metadata"] = json!({"resourceVersion": stored.revision.0.to_string()});
            table["rows"] = json!([table::row(registry, resource, stored, include)]);
            json(status, &table)
        }
        Output::Partial { version } => json(status, &table::partial(stored, version)),
    })
}

/// What a write made, with its warnings.
pub(crate) fn written(
    registry: &Registry,
    resource: &'static ResourceInfo,
    written: &Written,
    (output, query): (Output, &Query),
) -> Result<Response, Error> {
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = object(registry, resource, &written.object, (output, query), status)?;
    add_warnings(&mut response, &written.warnings);
    Ok(response)
}

/// Letters of all warnings of an answer: a head that is too long is no answer. Beyond it each is
/// cut, and what is beyond it then is left out, as in Kubernetes.
const WARNINGS: usize = 4096;
const WARNING: usize = 256;

/// `Warning: 299 - "text"`, one header for each.
pub(crate) fn add_warnings(response: &mut Response, warnings: &[String]) {
    let total: usize = warnings.iter().map(|warning| warning.chars().count()).sum();
    let (each, count) = if total > WARNINGS {
        (WARNING, WARNINGS / WARNING)
    } else {
        (WARNINGS, usize::MAX)
    };
    for warning in warnings.iter().take(count) {
        let escaped: String = warning
            .chars()
            .take(each)
            .filter(|letter| !letter.is_control())
            .flat_map(|letter| match letter {
                '"' | '\\' => vec!['\\', letter],
                _ if letter.is_ascii() => vec![letter],
                _ => vec!['?'],
            })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response
                .headers_mut()
                .append(HeaderName::from_static("warning"), value);
        }
    }
}

/// A list.
pub(crate) fn list(
    registry: &Registry,
    resource: &'static ResourceInfo,
    list: &List,
    (output, query): (Output, &Query),
) -> Result<Response, Error> {
    let mut metadata = json!({"resourceVersion": list.revision.to_string()});
    if let Some(token) = &list.continue_token {
        metadata["continue"] = token.as_str().into();
    }
    if let Some(remaining) = list.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    Ok(match output {
        Output::Object => bytes(
            StatusCode::OK,
            splice(
                &resource.list_kind(),
                &resource.api_version(),
                &metadata,
                &list.items,
            ),
        ),
        Output::Table { version } => {
            let include = Include::of(query)?;
            let mut table = table::head(resource, version, true);
            table["metadata"] = metadata;
            table["rows"] = list
                .items
                .iter()
                .map(|stored| table::row(registry, resource, stored, include))
                .collect();
            json(StatusCode::OK, &table)
        }
        Output::Partial { version } => {
            let items: Vec<Value> = list
                .items
                .iter()
                .map(|stored| table::partial(stored, version))
                .collect();
            json(
                StatusCode::OK,
                &json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": metadata,
                    "items": items,
                }),
            )
        }
    })
}

/// A list's bytes out of its items' bytes.
fn splice(kind: &str, api_version: &str, metadata: &Value, items: &[Arc<Stored>]) -> Bytes {
    let head = format!(
        r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#
    );
    let total: usize = items.iter().map(|item| item.json().len() + 1).sum();
    let mut body = Vec::with_capacity(head.len() + total + 2);
    body.extend_from_slice(head.as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item.json());
    }
    body.extend_from_slice(b"]}");
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_do_not_outgrow_a_head() {
        for (warnings, count, longest) in [
            (vec!["a".repeat(300); 2], 2, 300),
            (vec!["a".repeat(70_000)], 1, 256),
            (vec!["\"".repeat(300); 5000], 16, 512),
        ] {
            let mut response = Response::new(Body::empty());
            add_warnings(&mut response, &warnings);
            let headers: Vec<_> = response.headers().get_all("warning").iter().collect();
            assert_eq!(headers.len(), count);
            assert_eq!(headers[0].len(), longest + "299 - \"\"".len());
        }
    }
}
