//! The start of a stream: which protocol a client offers, and the answer that takes it.
//!
//! WebSocket names what is spoken inside in `Sec-WebSocket-Protocol`, SPDY in
//! `X-Stream-Protocol-Version`. The connection is handed to a task of the worker, for the request's
//! own ends with the answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::future::BoxFuture;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Refusal, Shared};

/// A message of a client; keyboards are slower and files are cut by the client.
const MAX_MESSAGE: usize = 1 << 20;
const SPDY: &str = "SPDY/3.1";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What an endpoint speaks, best first.
pub(super) struct Spoken {
    pub(super) websocket: &'static [&'static str],
    pub(super) spdy: &'static [&'static str],
}

/// A connection that has switched.
pub(super) enum Switched {
    WebSocket(Box<WebSocket>, &'static str),
    Spdy(TokioIo<Upgraded>),
}

/// A client's wish to switch, settled but for the answer.
pub(super) enum Upgrade {
    WebSocket(Box<WebSocketUpgrade>, &'static str),
    Spdy(OnUpgrade, &'static str),
}

impl Upgrade {
    /// The best protocol that both speak.
    pub(super) async fn of(parts: &mut Parts, spoken: &Spoken) -> Result<Self, Refusal> {
        let bad = |text: String| (StatusCode::BAD_REQUEST, text);
        let upgrade = offers(&parts.headers, &header::UPGRADE);
        if upgrade.eq_ignore_ascii_case(SPDY) {
            let protocol = settle_spdy(&parts.headers, spoken.spdy)?;
            let on = parts.extensions.remove::<OnUpgrade>();
            let on = on.ok_or_else(|| bad("this connection cannot be upgraded".to_owned()))?;
            return Ok(Self::Spdy(on, protocol));
        }
        let offered = offers(&parts.headers, &header::SEC_WEBSOCKET_PROTOCOL);
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
        let upgrade = upgrade.map_err(|refusal| bad(refusal.to_string()))?;
        let known = spoken.websocket;
        let protocol = best(&offered, known).ok_or_else(|| {
            bad(format!(
                "only {} are spoken here",
                known.join(" ").trim_end()
            ))
        })?;
        Ok(Self::WebSocket(Box::new(upgrade), protocol))
    }

    /// What was settled.
    pub(super) fn protocol(&self) -> &'static str {
        match self {
            Self::WebSocket(_, protocol) | Self::Spdy(_, protocol) => protocol,
        }
    }

    /// Answers, and lets a task of the worker serve the connection.
    pub(super) fn serve(
        self,
        shared: &Shared,
        session: impl FnOnce(Switched) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Response {
        let place = match place(shared) {
            Ok(place) => place,
            Err(refusal) => return refusal.into_response(),
        };
        match self {
            Self::WebSocket(upgrade, protocol) => {
                let (sender, receiver) = oneshot::channel();
                run(shared, place, async move {
                    if let Ok(socket) = receiver.await {
                        session(Switched::WebSocket(Box::new(socket), protocol)).await;
                    }
                });
                let upgrade = match protocol {
                    "" => *upgrade,
                    named => upgrade.protocols([named]),
                };
                upgrade
                    .max_message_size(MAX_MESSAGE)
                    .on_upgrade(|socket| async {
                        // A receiver that is gone means that the worker stops; the socket closes
                        // with it.
                        let _ = sender.send(socket);
                    })
            }
            Self::Spdy(on, protocol) => {
                run(shared, place, async move {
                    if let Ok(upgraded) = on.await {
                        session(Switched::Spdy(TokioIo::new(upgraded))).await;
                    }
                });
                let mut headers = HeaderMap::new();
                headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
                switching(SPDY, headers)
            }
        }
    }
}

/// A place for a connection that has switched.
pub(super) fn place(shared: &Shared) -> Result<OwnedSemaphorePermit, Refusal> {
    let place = Arc::clone(&shared.streams).try_acquire_owned();
    place.map_err(|_| {
        let text = "this node has as many streams as it may have";
        (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
    })
}

/// Runs a session until it ends or the worker stops.
pub(super) fn run(
    shared: &Shared,
    place: OwnedSemaphorePermit,
    session: impl Future<Output = ()> + Send + 'static,
) {
    let stopping = shared.tasks.cancelled();
    shared.tasks.spawn_contained("remote stream", async move {
        tokio::select! {
            () = session => {}
            () = stopping.cancelled() => {}
        }
        drop(place);
    });
}

/// The answer that a connection changes its protocol now.
pub(super) fn switching(protocol: &'static str, mut headers: HeaderMap) -> Response {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

fn settle_spdy(headers: &HeaderMap, known: &[&'static str]) -> Result<&'static str, Refusal> {
    let offered = offers(headers, &STREAM_PROTOCOL);
    if offered.is_empty() {
        let text = "unable to upgrade: X-Stream-Protocol-Version header is required";
        return Err((StatusCode::BAD_REQUEST, text.to_owned()));
    }
    best(&offered, known).ok_or_else(|| {
        // As Kubernetes has it, status and words.
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            offered.replace(',', " "),
            known.join(" ")
        );
        (StatusCode::FORBIDDEN, text)
    })
}

fn offers(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

fn best(offered: &str, known: &[&'static str]) -> Option<&'static str> {
    let is_offered = |known: &&&str| offered.split(',').any(|offer| offer.trim() == **known);
    known.iter().find(is_offered).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::COMMAND_PROTOCOLS;

    #[test]
    fn the_best_of_what_is_offered() {
        let check = |offered: &str| best(offered, &COMMAND_PROTOCOLS);
        assert_eq!(
            check("v4.channel.k8s.io, v5.channel.k8s.io"),
            Some("v5.channel.k8s.io")
        );
        assert_eq!(
            check("channel.k8s.io,v4.channel.k8s.io"),
            Some("v4.channel.k8s.io")
        );
        let base64 = "base64.channel.k8s.io";
        assert_eq!(check(base64), Some(base64));
        assert_eq!(check("v9.channel.k8s.io"), None);
        assert_eq!(check(""), Some(""), "who offers none has the oldest");
        assert_eq!(best("", &["v4.channel.k8s.io"]), None);
    }

    #[test]
    fn spdy_is_settled_in_kubernetes_words() {
        let settle = |offered: &'static str| {
            let mut headers = HeaderMap::new();
            for offer in offered.split(' ').filter(|offer| !offer.is_empty()) {
                headers.append(STREAM_PROTOCOL, HeaderValue::from_static(offer));
            }
            settle_spdy(&headers, &["v4.channel.k8s.io"])
        };
        let all = "v4.channel.k8s.io v3.channel.k8s.io channel.k8s.io";
        assert_eq!(settle(all), Ok("v4.channel.k8s.io"));
        assert_eq!(settle("").unwrap_err().0, StatusCode::BAD_REQUEST);
        let (status, text) = settle("v2.channel.k8s.io channel.k8s.io").unwrap_err();
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(
            text.contains("client supports [v2.channel.k8s.io channel.k8s.io]"),
            "{text}"
        );
    }
}
