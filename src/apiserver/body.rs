//! Reads a request's body, bounded, and decodes it into a value.
//!
//! JSON, YAML and Kubernetes' protobuf end in the same [`Value`]; nothing behind this file knows
//! which one was sent. Strictness about fields belongs to the registry, which knows the kind.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;

use crate::registry::decode::{Parsed, parse_json};

use super::error::Error;
use super::media::{self, Encoding};
use super::{OBJECT_LIMIT, protobuf};

/// The whole body, at most an object's size.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
    let too_large = || Error::TooLarge {
        limit: OBJECT_LIMIT,
    };
    if announced(headers).is_some_and(|length| length > OBJECT_LIMIT as u64) {
        return Err(too_large());
    }
    match Limited::new(body, OBJECT_LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Error::BadRequest(format!(
            "the body of the request broke off: {error}"
        ))),
    }
}

/// `Content-Length`, if there is one.
pub(crate) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// One object, in whatever encoding the headers say.
pub(crate) async fn object(headers: &HeaderMap, body: Body) -> Result<Value, Error> {
    Ok(parsed(headers, body).await?.value)
}

/// The same, with the keys that its text holds twice.
pub(crate) async fn parsed(headers: &HeaderMap, body: Body) -> Result<Parsed, Error> {
    let encoding = media::encoding(headers)?;
    let bytes = read(headers, body).await?;
    if bytes.is_empty() {
        return Err(empty());
    }
    decode(encoding, &bytes)
}

fn empty() -> Error {
    Error::BadRequest("the body of the request is empty; an object is expected".to_owned())
}

/// An object, or nothing if the body is empty (deletions).
pub(crate) async fn optional(headers: &HeaderMap, body: Body) -> Result<Option<Value>, Error> {
    let bytes = read(headers, body).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(decode(media::encoding(headers)?, &bytes)?.value))
}

/// Decodes bytes into an object.
fn decode(encoding: Encoding, bytes: &[u8]) -> Result<Parsed, Error> {
    let whole = |value| Parsed {
        value,
        duplicates: Vec::new(),
    };
    let parsed = match encoding {
        Encoding::Json => parse_json(bytes).map_err(|error| not_json(&error))?,
        Encoding::Yaml => whole(yaml(bytes)?),
        Encoding::Protobuf => whole(protobuf::decode(bytes).map_err(|error| {
            Error::BadRequest(format!("the protobuf body cannot be decoded: {error}"))
        })?),
    };
    if parsed.value.is_object() {
        Ok(parsed)
    } else {
        Err(Error::BadRequest(
            "the body of the request is not an object".to_owned(),
        ))
    }
}

pub(crate) fn json(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|error| not_json(&error))
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::BadRequest(format!("the body is not valid JSON: {error}"))
}

/// A manifest: JSON or YAML whatever the headers say. A key that occurs twice is an error.
pub(crate) fn manifest(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return yaml(bytes);
    }
    // YAML in flow style looks alike; whoever sends it gets YAML's answer.
    let Ok(parsed) = parse_json(bytes) else {
        return yaml(bytes);
    };
    match parsed.duplicates.first() {
        None => Ok(parsed.value),
        Some(path) => Err(Error::BadRequest(format!(
            "error decoding YAML: duplicate field \"{path}\""
        ))),
    }
}

/// YAML; a key that occurs twice is an error already here.
fn yaml(bytes: &[u8]) -> Result<Value, Error> {
    serde_saphyr::from_slice(bytes)
        .map_err(|error| Error::BadRequest(format!("the body is not valid YAML: {error}")))
}
