//! Protocol upgrades: WebSocket and whatever else two ends agree on.
//!
//! The upgrade is offered to the pod as the client asked for it. If the pod switches, the router
//! answers the client likewise and from then on copies bytes, until both sides have ended or
//! nothing was said for too long. Such a connection keeps one of the lane's places, like any other.

use std::sync::Arc;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;

use super::http::Answer;
use super::l4;
use super::lane::Lane;
use super::table::Service;
use super::upstream::InFlight;

/// A client's wish to switch.
pub(super) struct Wanted {
    protocol: HeaderValue,
    client: OnUpgrade,
}

impl Wanted {
    /// The wish of a request, if it has one.
    pub(super) fn of(request: &mut Request<Incoming>) -> Option<Self> {
        if request.version() != Version::HTTP_11 || !asks_for_upgrade(request.headers()) {
            return None;
        }
        let protocol = request.headers().get(UPGRADE)?.clone();
        // HTTP/2 is spoken by those who know that we do; nobody needs to upgrade to it.
        if protocol.as_bytes().eq_ignore_ascii_case(b"h2c") {
            return None;
        }
        Some(Self {
            protocol,
            client: hyper::upgrade::on(request),
        })
    }

    pub(super) fn protocol(&self) -> &HeaderValue {
        &self.protocol
    }

    /// The pod has switched: so does the client's side, and bytes flow.
    pub(super) fn accept(
        self,
        lane: &Arc<Lane>,
        mut answer: Response<Incoming>,
        in_flight: InFlight,
        service: &Arc<Service>,
        place: OwnedSemaphorePermit,
    ) -> Response<Answer> {
        let pod = hyper::upgrade::on(&mut answer);
        let traffic = &service.traffic;
        let patience = lane.front.limits.idle_timeout;
        let client = self.client;
        let under_way = traffic.began();
        lane.connections
            .spawn_contained("upgraded connection", async move {
                if let (Ok(client), Ok(pod)) = tokio::join!(client, pod) {
                    let (client, pod) = (TokioIo::new(client), TokioIo::new(pod));
                    l4::copy(client, pod, patience).await;
                }
                drop((under_way, in_flight, place));
            });
        let (mut head, _) = answer.into_parts();
        head.status = StatusCode::SWITCHING_PROTOCOLS;
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        Response::from_parts(head, Answer::none())
    }
}

fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let mut words = values.flat_map(|value| value.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}
