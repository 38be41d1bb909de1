//! How an answer is written: YAML for those who take that first, JSON on many lines for people.
//!
//! Handlers answer compact JSON; what is made of it here, after they have answered, concerns the text
//! alone. Streams, and what is passed on from others, stay as they are.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::media;
use super::query::Query;

/// Programs that people read in, as Kubernetes has them.
const PEOPLE: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// How many answers are written so at once: the tree of a long list takes many times its text.
pub(crate) const WRITERS: usize = 2;

/// What is wanted instead of compact JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Yaml,
    Pretty,
}

/// The style that a request wants; `pretty` decides, else who asks.
pub(crate) fn wanted(headers: &HeaderMap, query: &Query) -> Option<Style> {
    if media::is_yaml(headers) {
        return Some(Style::Yaml);
    }
    let agent = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let is_pretty = match query.get("pretty") {
        Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => agent.is_some_and(|agent| PEOPLE.iter().any(|name| agent.starts_with(name))),
    };
    is_pretty.then_some(Style::Pretty)
}

/// Writes an answer of ready JSON in that style.
pub(crate) async fn restyle(response: Response, style: Style, writers: &Semaphore) -> Response {
    let kind = response.headers().get(CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind == "application/json");
    if !is_json || response.body().size_hint().exact().is_none() {
        return response;
    }
    // Nobody closes it; the answer waits until it is its turn.
    let _place = writers.acquire().await;
    let (mut parts, body) = response.into_parts();
    let whole = match body.collect().await {
        Ok(whole) => whole.to_bytes(),
        // A body of ready bytes does not fail.
        Err(error) => {
            let failed = futures::stream::iter([Err::<bytes::Bytes, _>(error)]);
            return Response::from_parts(parts, Body::from_stream(failed));
        }
    };
    // A long list takes a while, in which others are served.
    let written = tokio::task::spawn_blocking(move || match style {
        Style::Pretty => Some(pretty(&whole)),
        Style::Yaml => yaml(&whole),
    });
    let Ok(Some(text)) = written.await else {
        return super::error::Error::Internal {
            operation: "write the answer",
            source: "it is no JSON".into(),
        }
        .into_response();
    };
    if style == Style::Yaml {
        let kind = HeaderValue::from_static(media::YAML);
        parts.headers.insert(CONTENT_TYPE, kind);
    }
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}

fn yaml(json: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(json).ok()?;
    serde_saphyr::to_string(&value).ok().map(String::into_bytes)
}

/// The same JSON with a line for each value, indented by two as Go does it. No tree is built: a list
/// may be long.
fn pretty(json: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    let line = |text: &mut Vec<u8>, depth: usize| {
        text.push(b'\n');
        text.resize(text.len() + 2 * depth, b' ');
    };
    for (at, byte) in json.iter().enumerate() {
        if is_string {
            text.push(*byte);
            is_string = is_escaped || *byte != b'"';
            is_escaped = !is_escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'{' | b'[' => {
                text.push(*byte);
                if !matches!(json.get(at + 1), Some(b'}' | b']')) {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            b'}' | b']' => {
                if !matches!(
                    at.checked_sub(1).and_then(|at| json.get(at)),
                    Some(b'{' | b'[')
                ) {
                    depth = depth.saturating_sub(1);
                    line(&mut text, depth);
                }
                text.push(*byte);
            }
            b',' => {
                text.push(b',');
                line(&mut text, depth);
            }
            b':' => text.extend_from_slice(b": "),
            b'"' => {
                is_string = true;
                text.push(b'"');
            }
            other => text.push(*other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pretty_json_is_as_the_library_has_it() {
        for value in [
            json!({}),
            json!([]),
            json!("x"),
            json!({"a": {"b": [1, {"c": null}, [], {}], "d": "{[,:\\\"]}"}, "e": "\\"}),
        ] {
            let expected = serde_json::to_string_pretty(&value).unwrap();
            let found = String::from_utf8(pretty(value.to_string().as_bytes())).unwrap();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn people_read_many_lines_and_programs_do_not() {
        let check = |agent: &'static str, query: &str| {
            let agent = (USER_AGENT, HeaderValue::from_static(agent));
            wanted(&HeaderMap::from_iter([agent]), &Query::parse(query))
        };
        assert_eq!(check("curl/8.1", ""), Some(Style::Pretty));
        assert_eq!(check("curl/8.1", "pretty=false"), None);
        assert_eq!(check("kubectl/v1.32", ""), None);
        assert_eq!(check("kubectl/v1.32", "pretty=true"), Some(Style::Pretty));
        let yaml = (
            http::header::ACCEPT,
            HeaderValue::from_static("application/yaml"),
        );
        let yaml = HeaderMap::from_iter([yaml]);
        assert_eq!(wanted(&yaml, &Query::default()), Some(Style::Yaml));
    }

    #[tokio::test]
    async fn yaml_says_the_same() {
        let value = json!({"kind": "Status", "code": 404, "message": "a: b", "items": ["1", 1]});
        let answer = super::super::respond::json(http::StatusCode::NOT_FOUND, &value);
        let answer = restyle(answer, Style::Yaml, &Semaphore::new(1)).await;
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/yaml");
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let read: Value = serde_saphyr::from_slice(&text).unwrap();
        assert_eq!(read, value);
    }
}
