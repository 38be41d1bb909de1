//! What changes on the way through a proxy: headers of one hop, and whatever tells who the caller is.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, EXPECT, HOST, LOCATION, SEC_WEBSOCKET_PROTOCOL, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use hyper::body::{Frame, Incoming, SizeHint};

use super::target::Address;
use crate::apiserver::error::Error;
use crate::apiserver::shares::Permit;

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// A browser's way to send its token.
const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// Whether a request wants to change the protocol.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && words(headers, &CONNECTION).any(|word| word == "upgrade")
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + 'a {
    let values = headers.get_all(name).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(','));
    words.map(|word| word.trim().to_ascii_lowercase())
}

/// Removes what concerns one hop only.
pub(super) fn clean(headers: &mut HeaderMap) {
    let named: Vec<String> = words(headers, &CONNECTION).collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The request as the receiver gets it.
pub(super) fn request(
    parts: &Parts,
    body: Body,
    prefix: &str,
    to: &Address<'_>,
    is_upgrade: bool,
) -> Result<Request<Body>, Error> {
    let bad = |error: http::Error| Error::BadRequest(error.to_string());
    let path = if to.path.is_empty() { "/" } else { to.path };
    let query = parts.uri.query().map(|query| format!("?{query}"));
    let mut request = Request::builder()
        .method(parts.method.clone())
        .version(Version::HTTP_11)
        .uri(format!("{path}{}", query.unwrap_or_default()))
        .body(body)
        .map_err(bad)?;
    let mut headers = parts.headers.clone();
    let protocol = headers.get(UPGRADE).cloned().filter(|_| is_upgrade);
    clean(&mut headers);
    headers.remove(AUTHORIZATION);
    without_impersonation(&mut headers);
    headers.remove(EXPECT);
    without_token(&mut headers);
    let host = headers.remove(HOST);
    let authority = parts.uri.authority().map(Authority::as_str);
    let host = host.or_else(|| HeaderValue::from_str(authority?).ok());
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
    if let Ok(uri) = HeaderValue::from_str(&format!("{prefix}{path}")) {
        headers.insert(FORWARDED_URI, uri);
    }
    if let Some(protocol) = protocol {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    if let Some(host) = &to.host {
        let host = HeaderValue::from_str(host);
        headers.insert(HOST, host.map_err(|error| bad(error.into()))?);
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// Who the caller acted as is the server's business, and a pod must not take it for its own.
fn without_impersonation(headers: &mut HeaderMap) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Takes a token out of the offered subprotocols.
fn without_token(headers: &mut HeaderMap) {
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL);
    let Some(offered) = offered.and_then(|value| value.to_str().ok()) else {
        return;
    };
    let offers = offered.split(',').map(str::trim);
    let rest: Vec<&str> = offers
        .filter(|it| !it.starts_with(WEBSOCKET_TOKEN))
        .collect();
    match HeaderValue::from_str(&rest.join(", ")) {
        Ok(rest) if !rest.is_empty() => headers.insert(SEC_WEBSOCKET_PROTOCOL, rest),
        Ok(_) | Err(_) => headers.remove(SEC_WEBSOCKET_PROTOCOL),
    };
}

/// A redirect within the receiver stays behind the proxy.
pub(super) fn relocate(headers: &mut HeaderMap, prefix: &str) {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let inside = location.filter(|it| it.starts_with('/') && !it.starts_with("//"));
    let moved = inside.and_then(|path| HeaderValue::from_str(&format!("{prefix}{path}")).ok());
    if let Some(moved) = moved {
        headers.insert(LOCATION, moved);
    }
}

/// A body that holds its place among the streams until it ends.
pub(super) struct Held {
    body: Incoming,
    _permit: Permit,
}

impl Held {
    pub(super) fn new(body: Incoming, permit: Permit) -> Self {
        Self {
            body,
            _permit: permit,
        }
    }
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(headers: &[(&'static str, &'static str)], is_upgrade: bool) -> Request<Body> {
        let mut request = Request::builder().uri("/ignored?a=b%20c");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let to = Address {
            host: Some("10.0.0.1:80".to_owned()),
            path: "/x%2Fy",
        };
        request_for(&parts, &to, is_upgrade)
    }

    fn request_for(parts: &Parts, to: &Address<'_>, is_upgrade: bool) -> Request<Body> {
        request(parts, Body::empty(), "/proxy", to, is_upgrade).unwrap()
    }

    #[test]
    fn the_callers_rights_stay_here() {
        let token = "base64url.bearer.authorization.k8s.io.abc, chat";
        let request = forwarded(
            &[
                ("authorization", "Bearer secret"),
                ("sec-websocket-protocol", token),
                ("connection", "keep-alive, x-one-hop"),
                ("x-one-hop", "1"),
                ("host", "cluster"),
                ("cookie", "a=b"),
            ],
            false,
        );
        let header = |name: &str| request.headers().get(name).map(|it| it.to_str().unwrap());
        assert_eq!(request.uri(), "/x%2Fy?a=b%20c");
        assert_eq!(header("authorization"), None);
        assert_eq!(header("sec-websocket-protocol"), Some("chat"));
        assert_eq!((header("connection"), header("x-one-hop")), (None, None));
        assert_eq!(header("host"), Some("10.0.0.1:80"));
        assert_eq!(header("x-forwarded-host"), Some("cluster"));
        assert_eq!(header("x-forwarded-uri"), Some("/proxy/x%2Fy"));
        assert_eq!(header("cookie"), Some("a=b"));
    }

    #[test]
    fn an_upgrade_is_passed_on() {
        let asked = [("connection", "Upgrade"), ("upgrade", "chat")];
        let request = forwarded(&asked, true);
        assert!(is_upgrade(request.headers()));
        assert!(!is_upgrade(forwarded(&asked, false).headers()));
    }

    #[test]
    fn redirects_stay_behind_the_proxy() {
        let moved = |location: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(location));
            relocate(&mut headers, "/p/proxy");
            headers[LOCATION].to_str().unwrap().to_owned()
        };
        assert_eq!(moved("/login"), "/p/proxy/login");
        assert_eq!(moved("login"), "login");
        assert_eq!(moved("https://elsewhere/"), "https://elsewhere/");
        assert_eq!(moved("//elsewhere/"), "//elsewhere/");
    }
}
