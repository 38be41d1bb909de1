//! Who may talk to the plain listener: names of this machine, and pages that it served itself.
//!
//! A browser sends `Host` of the page's URL and `Origin` of the page. A foreign site whose name
//! was re-pointed to 127.0.0.1 gives itself away by the first, a foreign page by the second.

use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Request};

use crate::apiserver::error::Error;

/// `Err` is the answer to who may not.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Box<Response>> {
    let authority = request
        .uri()
        .authority()
        .cloned()
        .or_else(|| header_authority(request.headers()));
    let refuse = |what: &str| {
        let message = format!(
            "forbidden: {what} on the plain http address; use http://127.0.0.1 or http://localhost, or https"
        );
        Err(Box::new(Error::Forbidden(message).into_response()))
    };
    let Some(authority) = authority.filter(|authority| is_local(authority.host())) else {
        return refuse("another Host than this machine");
    };
    match request.headers().get(ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.as_bytes() == format!("http://{authority}").as_bytes() => Ok(()),
        Some(_) => refuse("a page from another origin"),
    }
}

fn header_authority(headers: &HeaderMap) -> Option<Authority> {
    headers.get(HOST)?.to_str().ok()?.parse().ok()
}

fn is_local(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_its_own_pages() {
        let cases = [
            (Some("127.0.0.1:7070"), None, true),
            (Some("localhost:7070"), None, true),
            (Some("[::1]:7070"), None, true),
            (Some("localhost:7070"), Some("http://localhost:7070"), true),
            (Some("localhost:7070"), Some("http://localhost:9999"), false),
            (Some("localhost:7070"), Some("https://evil.example"), false),
            (Some("localhost:7070"), Some("null"), false),
            (Some("evil.example:7070"), None, false),
            (Some("localhost.evil.example"), None, false),
            (None, None, false),
        ];
        for (host, origin, expected) in cases {
            let mut request = Request::get("/api");
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            if let Some(origin) = origin {
                request = request.header(ORIGIN, origin);
            }
            let request = request.body(()).unwrap();
            assert_eq!(check(&request).is_ok(), expected, "{host:?} {origin:?}");
        }
    }
}
