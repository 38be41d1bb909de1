//! OpenAPI: what clients must know of every kind before they write.
//!
//! kubectl refuses to create or apply without these documents, explains fields from them, and computes
//! patches by what they say of lists. They are made of the schemas that the registry generates from its
//! types ([`crate::registry::schemas`]) and of those that custom resources bring. Nothing is made before
//! the first request: a server that nobody asks pays nothing. What is made is kept encoded, until a
//! definition of a custom resource changes.

mod custom;
mod dialect;
mod document;
mod gnostic;
mod operations;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::api::image::Digest;
use crate::registry::Registry;

use super::error::Error;
use super::media;
use super::respond;

use self::document::Kinds;

const PROTOBUF_ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// With a dot: Go's parser of media types refuses the `@` that its client asks with.
const PROTOBUF_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const JSON: &str = "application/json";

/// A document with the hash of its bytes.
struct Document {
    bytes: Bytes,
    hash: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            hash: Digest::of(&bytes).hex().to_owned(),
            bytes: bytes.into(),
        })
    }

    fn serve(&self, headers: &HeaderMap, content_type: &'static str) -> Response {
        let tag = format!("\"{}\"", self.hash);
        let is_current = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|sent| sent.to_str().ok())
            .flat_map(|sent| sent.split(','))
            .map(|sent| sent.trim().trim_start_matches("W/"))
            .any(|sent| sent == tag || sent == "*");
        let mut response = if is_current {
            respond::bytes(StatusCode::NOT_MODIFIED, Bytes::new())
        } else {
            respond::bytes(StatusCode::OK, self.bytes.clone())
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

/// The documents of version 3: an index, and one per group and version.
struct Version3 {
    index: Arc<Document>,
    /// By path: `api/v1`, `apis/apps/v1`.
    versions: BTreeMap<String, Arc<Document>>,
}

/// What has been made so far, for one state of the custom resources.
#[derive(Default)]
struct Made {
    /// See [`Registry::kinds_version`].
    state: u64,
    v3: Option<Arc<Version3>>,
    v2: Option<Arc<Document>>,
    v2_protobuf: Option<Arc<Document>>,
}

/// All documents, made when they are asked for.
#[derive(Default)]
pub(crate) struct Documents(Mutex<Made>);

impl Documents {
    /// Answers a path below `/openapi`; `None` if it is none.
    pub(crate) fn serve(
        &self,
        registry: &Registry,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Result<Response, Error>> {
        let path = path.strip_prefix("/openapi/")?;
        Some(match path.trim_end_matches('/') {
            "v2" if media::accepts(headers, PROTOBUF_ACCEPT) => {
                Ok(self.v2_protobuf(registry).serve(headers, PROTOBUF_TYPE))
            }
            "v2" => media::json_only(headers).map(|_| self.v2(registry).serve(headers, JSON)),
            "v3" => media::json_only(headers).map(|_| self.v3(registry).index.serve(headers, JSON)),
            path => match path
                .strip_prefix("v3/")
                .and_then(|path| self.v3(registry).versions.get(path).cloned())
            {
                Some(document) => media::json_only(headers).map(|_| document.serve(headers, JSON)),
                None => Err(Error::UnknownPath),
            },
        })
    }

    /// The lock is held while documents are made, so that they are made once.
    fn made<T>(&self, registry: &Registry, make: impl FnOnce(&mut Made) -> T) -> T {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = registry.kinds_version();
        if made.state != state {
            *made = Made {
                state,
                ..Made::default()
            };
        }
        make(&mut made)
    }

    fn v3(&self, registry: &Registry) -> Arc<Version3> {
        self.made(registry, |made| {
            Arc::clone(
                made.v3
                    .get_or_insert_with(|| Arc::new(Version3::new(registry))),
            )
        })
    }

    fn v2(&self, registry: &Registry) -> Arc<Document> {
        self.made(registry, |made| {
            Arc::clone(made.v2.get_or_insert_with(|| {
                let document = Kinds::of(registry).v2();
                Document::new(document.to_string().into_bytes())
            }))
        })
    }

    fn v2_protobuf(&self, registry: &Registry) -> Arc<Document> {
        self.made(registry, |made| {
            Arc::clone(made.v2_protobuf.get_or_insert_with(|| {
                let document = Kinds::of(registry).v2();
                Document::new(gnostic::encode(&document))
            }))
        })
    }
}

impl Version3 {
    fn new(registry: &Registry) -> Self {
        let kinds = Kinds::of(registry);
        let versions: BTreeMap<String, Arc<Document>> = kinds
            .roots()
            .into_iter()
            .map(|root| {
                let document = kinds.v3(&root).to_string().into_bytes();
                (root, Document::new(document))
            })
            .collect();
        let paths: BTreeMap<&String, Value> = versions
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path, json!({"serverRelativeURL": url}))
            })
            .collect();
        let index = Document::new(json!({"paths": paths}).to_string().into_bytes());
        Self { index, versions }
    }
}
