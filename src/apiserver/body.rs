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
    let encoding = media::encoding(headers)?;
    let bytes = read(headers, body).await?;
    if bytes.is_empty() {
        return Err(Error::BadRequest(
            "the body of the request is empty; an object is expected".to_owned(),
        ));
    }
    decode(encoding, &bytes)
}

/// An object, or nothing if the body is empty (deletions).
pub(crate) async fn optional(headers: &HeaderMap, body: Body) -> Result<Option<Value>, Error> {
    let bytes = read(headers, body).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    decode(media::encoding(headers)?, &bytes).map(Some)
}

/// Decodes bytes into an object.
pub(crate) fn decode(encoding: Encoding, bytes: &[u8]) -> Result<Value, Error> {
    let value = match encoding {
        Encoding::Json => json(bytes)?,
        Encoding::Yaml => yaml(bytes)?,
        Encoding::Protobuf => protobuf::decode(bytes).map_err(|error| {
            Error::BadRequest(format!("the protobuf body cannot be decoded: {error}"))
        })?,
    };
    if value.is_object() || value.is_array() {
        Ok(value)
    } else {
        Err(Error::BadRequest(
            "the body of the request is not an object".to_owned(),
        ))
    }
}

pub(crate) fn json(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::BadRequest(format!("the body is not valid JSON: {error}")))
}

pub(crate) fn yaml(bytes: &[u8]) -> Result<Value, Error> {
    serde_saphyr::from_slice(bytes)
        .map_err(|error| Error::BadRequest(format!("the body is not valid YAML: {error}")))
}
