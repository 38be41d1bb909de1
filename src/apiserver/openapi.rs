//! OpenAPI, generated from the registry's table: what clients must know before they write.
//!
//! kubectl refuses to create or apply without these documents: it looks there whether the server
//! knows the kind, whether it validates fields itself and whether it can run dry. That much is told,
//! truthfully and for every kind. Schemas say no more than that a kind is an object with whatever
//! fields: the server validates, and a schema that names no field cannot contradict it. So patches
//! are announced without the strategic kind: kubectl then computes those from its own knowledge of
//! built-in kinds instead of from a schema that has none.

mod operations;
mod v2;

use std::collections::BTreeMap;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::api::image::Digest;
use crate::registry::ResourceInfo;

use super::error::Error;
use super::respond;
use super::{VERSION, media};

const PROTOBUF_ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// With a dot: Go's parser of media types refuses the `@` that its client asks with.
const PROTOBUF_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A document with the hash of its bytes.
struct Document {
    bytes: Bytes,
    hash: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            hash: Digest::of(&bytes).hex().to_owned(),
            bytes: bytes.into(),
        }
    }

    fn serve(&self, headers: &HeaderMap, content_type: &'static str) -> Response {
        let tag = format!("\"{}\"", self.hash);
        let is_current = headers
            .get(header::IF_NONE_MATCH)
            .is_some_and(|sent| sent.as_bytes() == tag.as_bytes());
        let mut response = if is_current {
            respond::bytes(StatusCode::NOT_MODIFIED, Bytes::new())
        } else {
            respond::bytes(StatusCode::OK, self.bytes.clone())
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

/// All documents, made once: the table does not change while the server runs.
pub(crate) struct Documents {
    index: Document,
    /// By path: `api/v1`, `apis/apps/v1`.
    versions: BTreeMap<String, Document>,
    v2_json: Document,
    v2_protobuf: Document,
}

impl Documents {
    pub(crate) fn new(resources: &'static [ResourceInfo]) -> Self {
        let mut by_version: BTreeMap<String, Vec<&'static ResourceInfo>> = BTreeMap::new();
        for resource in resources {
            by_version.entry(root(resource)).or_default().push(resource);
        }
        let versions: BTreeMap<String, Document> = by_version
            .into_iter()
            .map(|(path, rows)| (path, Document::new(v3(&rows).to_string().into_bytes())))
            .collect();
        let paths: BTreeMap<&String, Value> = versions
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path, json!({"serverRelativeURL": url}))
            })
            .collect();
        let index = Document::new(json!({"paths": paths}).to_string().into_bytes());
        let document = v2::document(resources);
        Self {
            index,
            versions,
            v2_json: Document::new(document.to_string().into_bytes()),
            v2_protobuf: Document::new(v2::protobuf(&document)),
        }
    }

    /// Answers a path below `/openapi`; `None` if it is none.
    pub(crate) fn serve(&self, path: &str, headers: &HeaderMap) -> Option<Result<Response, Error>> {
        const JSON: &str = "application/json";
        let path = path.strip_prefix("/openapi/")?;
        Some(match path.trim_end_matches('/') {
            "v2" if media::accepts(headers, PROTOBUF_ACCEPT) => {
                Ok(self.v2_protobuf.serve(headers, PROTOBUF_TYPE))
            }
            "v2" => media::output(headers).map(|_| self.v2_json.serve(headers, JSON)),
            "v3" => media::output(headers).map(|_| self.index.serve(headers, JSON)),
            path => match path
                .strip_prefix("v3/")
                .and_then(|path| self.versions.get(path))
            {
                Some(document) => media::output(headers).map(|_| document.serve(headers, JSON)),
                None => Err(Error::UnknownPath),
            },
        })
    }
}

/// Where a group and version live: `api/v1`, `apis/apps/v1`.
fn root(resource: &ResourceInfo) -> String {
    if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}", resource.api_version())
    }
}

/// The name of a kind's schema in Kubernetes' fashion: `io.k8s.api.apps.v1.Deployment`.
fn schema_name(resource: &ResourceInfo) -> String {
    let version = resource.version;
    let kind = resource.kind;
    match resource.group {
        "" => format!("io.k8s.api.core.{version}.{kind}"),
        "wasmorch.dev" => format!("dev.wasmorch.{version}.{kind}"),
        group => {
            let short = group.split('.').next().unwrap_or(group);
            format!("io.k8s.api.{short}.{version}.{kind}")
        }
    }
}

fn group_version_kind(resource: &ResourceInfo) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

/// What is said of a kind.
fn schema(resource: &ResourceInfo) -> Value {
    json!({
        "description": format!(
            "{} ({}). Fields are those of Kubernetes 1.34; the server refuses what it does not implement.",
            resource.kind,
            resource.api_version()
        ),
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-group-version-kind": [group_version_kind(resource)],
    })
}

fn info() -> Value {
    json!({"title": "wasmorch", "version": VERSION})
}

fn v3(resources: &[&'static ResourceInfo]) -> Value {
    let schemas: BTreeMap<String, Value> = resources
        .iter()
        .map(|resource| (schema_name(resource), schema(resource)))
        .collect();
    let paths: BTreeMap<String, Value> = resources
        .iter()
        .flat_map(|resource| operations::paths(resource, operations::Dialect::V3))
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {"schemas": schemas},
    })
}
