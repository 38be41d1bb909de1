//! The dashboard's files, embedded at build time: a page that uses the public API like anyone else.
//!
//! `/ui/assets/*` carry a hash in their names and never change; everything else is asked for anew
//! each time. A path without a file is the page itself (its router takes it from there), except
//! below `assets/`: an old tab that asks for a chunk of the last release must get 404, not a page in
//! place of a script.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rust_embed::RustEmbed;

use super::media;
use crate::api::image::Digest;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/web/dist"]
struct Files;

const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Answers a path below `/ui/`, or `/` for a browser; `None` if the path is neither.
pub(crate) fn serve(path: &str, headers: &HeaderMap) -> Option<Response> {
    if path == "/ui" || (path == "/" && media::accepts(headers, "text/html")) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::FOUND;
        response
            .headers_mut()
            .insert(header::LOCATION, HeaderValue::from_static("/ui/"));
        return Some(response);
    }
    let file = path.strip_prefix("/ui/")?;
    Some(match (Files::get(file), file) {
        (Some(found), name) if !name.is_empty() => answer(name, found, headers),
        (_, name) if name.starts_with("assets/") => not_found(),
        _ => match Files::get("index.html") {
            Some(found) => answer("index.html", found, headers),
            None => not_found(),
        },
    })
}

fn not_found() -> Response {
    let mut response = Response::new(Body::from("no such file"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn answer(name: &str, file: rust_embed::EmbeddedFile, headers: &HeaderMap) -> Response {
    let tag = etag(&file.metadata.sha256_hash());
    let is_current = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|sent| sent.as_bytes() == tag.as_bytes());
    let mut response = if is_current {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(file.data))
    };
    let caching = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(name));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn etag(hash: &[u8]) -> String {
    format!("\"{}\"", &Digest::from_sha256(hash).hex()[..24])
}

fn content_type(name: &str) -> HeaderValue {
    let extension = name.rsplit('.').next().unwrap_or_default();
    HeaderValue::from_static(match extension {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "map" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_asset_is_missing_and_a_missing_page_is_the_page() {
        let headers = HeaderMap::new();
        let status = |path: &str| serve(path, &headers).map(|response| response.status().as_u16());
        assert_eq!(status("/ui/"), Some(200));
        assert_eq!(status("/ui/pods/default/x"), Some(200));
        assert_eq!(status("/ui/assets/old-1234.js"), Some(404));
        assert_eq!(status("/ui"), Some(302));
        assert_eq!(status("/"), None);
        let page = serve("/ui/index.html", &headers).unwrap();
        let tag = page.headers()[header::ETAG].clone();
        let again = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        assert_eq!(serve("/ui/", &again).unwrap().status(), 304);
    }
}
