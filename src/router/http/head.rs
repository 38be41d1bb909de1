//! Heads: what is checked, what is not passed on, what is added.
//!
//! The message is parsed once, here, and framed anew towards the pod, so that two parsers can never
//! disagree about where a request ends. Whoever sent a head cannot speak for the router: forwarding
//! headers of clients are thrown away, not extended.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Version};

use super::Client;
use super::reply::Reply;
use super::site::origin_form;
use crate::api::unseen::RETRIABLE;
use crate::router::upgrade;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP: HeaderValue = HeaderValue::from_static("http");

/// Refuses requests whose end two readers could see in different places.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Reply> {
    let headers = request.headers();
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
    if lengths > 1 || (lengths == 1 && is_chunked) {
        return Err(Reply::Ambiguous);
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Reply::Ambiguous);
    }
    if request.method() == http::Method::CONNECT {
        return Err(Reply::NoTunnel);
    }
    Ok(())
}

/// Makes a client's head the head of a request to a pod.
pub(super) fn rewrite<B>(
    request: &mut Request<B>,
    client: &Client,
    upgrade: Option<&upgrade::Wanted>,
) {
    let authority = request.uri().authority().cloned();
    let uri = origin_form(request.uri());
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    let takes_trailers = takes_trailers(headers);
    strip_hop_by_hop(headers);
    for name in [
        &header::FORWARDED,
        &X_FORWARDED_PORT,
        &X_REAL_IP,
        &RETRIABLE,
    ] {
        headers.remove(name);
    }
    if let Some(authority) = authority
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(header::HOST, host);
    }
    match headers.get(header::HOST).cloned() {
        Some(host) => headers.insert(X_FORWARDED_HOST, host),
        None => headers.remove(X_FORWARDED_HOST),
    };
    headers.insert(X_FORWARDED_FOR, client.forwarded_for.clone());
    headers.insert(X_FORWARDED_PROTO, HTTP);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade.protocol().clone());
    }
}

/// Removes what concerns one connection only.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // A client must not take away what tells the message's end or its host.
            .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in [
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &header::PROXY_AUTHENTICATE,
        &header::PROXY_AUTHORIZATION,
        &header::TE,
        &header::TRANSFER_ENCODING,
        &header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Whether the client wants the fields behind a body; every HTTP/2 client that does says so, too.
fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Makes a pod's answer the router's.
pub(super) fn clean_answer(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(RETRIABLE);
}

#[cfg(test)]
mod tests {
    use super::super::site::Site;
    use super::*;

    fn names(headers: &HeaderMap) -> String {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names.join(" ")
    }

    #[test]
    fn clients_speak_for_themselves_only() {
        let mut request = Request::get("http://Shop.test:81/a?b=c")
            .version(Version::HTTP_2)
            .header("connection", "close, X-Secret, content-length")
            .header("content-length", "0")
            .header("x-secret", "1")
            .header("keep-alive", "1")
            .header("te", "trailers")
            .header("upgrade", "h2c")
            .header("x-forwarded-for", "1.2.3.4")
            .header("x-real-ip", "1.2.3.4")
            .header("forwarded", "for=1.2.3.4")
            .header("x-wasmorch-retriable", "1")
            .header("accept", "*/*")
            .body(())
            .unwrap();
        let client = Client {
            site: Site::Front,
            addr: "192.0.2.1:5000".parse().unwrap(),
            forwarded_for: HeaderValue::from_static("192.0.2.1"),
        };
        rewrite(&mut request, &client, None);
        assert_eq!(request.uri(), "/a?b=c");
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.headers()["host"], "Shop.test:81");
        assert_eq!(request.headers()["x-forwarded-for"], "192.0.2.1");
        assert_eq!(request.headers()["connection"], "te");
        assert_eq!(
            names(request.headers()),
            "accept connection content-length host te x-forwarded-for x-forwarded-host x-forwarded-proto"
        );
    }

    #[test]
    fn requests_with_two_ends_are_refused() {
        let cases: [(&[(&str, &str)], bool); 5] = [
            (&[("content-length", "3")], true),
            (&[("transfer-encoding", "chunked")], true),
            (&[("content-length", "3"), ("content-length", "4")], false),
            (
                &[("content-length", "3"), ("transfer-encoding", "chunked")],
                false,
            ),
            (&[("host", "a"), ("host", "b")], false),
        ];
        for (headers, accepted) in cases {
            let mut request = Request::post("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(()).unwrap();
            assert_eq!(check(&request).is_ok(), accepted, "{headers:?}");
        }
    }
}
