//! What a worker says of a request that no guest has seen, and what whoever asked may do then.
//!
//! The answer is a `503` with `X-Wasmorch-Retriable: gone` or `busy`. Both mean that the request may
//! be sent elsewhere whatever its method. They differ when nobody else is left to ask: a pod that is
//! *gone* was listed by a routing table that is behind, so a newer table is worth a wait
//! ([`patience`]); one that is *busy* will be as busy in a moment, so the client is told at once.
//! The front door and the guests' own client follow the same rules, so that a service is as reliable
//! from inside as from outside.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::backoff::Doubling;

/// The header; never from or for a client.
pub const RETRIABLE: HeaderName = HeaderName::from_static("x-wasmorch-retriable");

/// Why no guest has seen a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// The pod stops, or has stopped.
    Gone,
    /// The pod has no room for one more.
    Busy,
}

impl Unseen {
    /// The header's value.
    pub fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gone => "gone",
            Self::Busy => "busy",
        })
    }

    /// What an answer says; `None` if a guest may have seen the request.
    pub fn read(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        if status != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let value = headers.get(RETRIABLE)?;
        [Self::Gone, Self::Busy]
            .into_iter()
            .find(|unseen| value == unseen.value())
    }
}

/// How long to wait for a newer routing table when everybody in this one is gone.
pub const fn patience() -> Doubling {
    Doubling::new(Duration::from_millis(50), Duration::from_secs(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marked_503_was_seen_by_nobody() {
        let cases = [
            (503, Some("gone"), Some(Unseen::Gone)),
            (503, Some("busy"), Some(Unseen::Busy)),
            (503, Some("1"), None),
            (503, None, None),
            (200, Some("gone"), None),
        ];
        for (status, value, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(RETRIABLE, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                Unseen::read(status, &headers),
                expected,
                "{status} {value:?}"
            );
        }
    }
}
