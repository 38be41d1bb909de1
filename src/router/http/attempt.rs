//! Sending a request to one endpoint after the other until one answers or nobody is left.
//!
//! Nobody left is not the end when the endpoint asked last is gone, which its worker says: then the
//! table is behind, and a newer one is waited for (`api::unseen`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use super::body::{self, Answer, Carried, Sent};
use super::head;
use super::reply::Reply;
use super::site::Target;
use super::{Client, upgrade};
use crate::api::unseen::{self, Unseen};
use crate::backoff::Doubling;
use crate::errors::chain;
use crate::router::balance;
use crate::router::lane::Lane;
use crate::router::table::{Endpoint, Key, Port};
use crate::router::tunnel::{self, Source};
use crate::router::upstream::InFlight;
use crate::{ids, router::dial};

/// Endpoints that one request may try.
const MOST_ENDPOINTS: usize = 4;
/// Sends of one request, dead kept connections and newer tables included.
const MOST_SENDS: usize = 24;

/// Why no endpoint has answered.
#[derive(Debug)]
pub(super) enum Failure {
    NotReady,
    Unreachable(dial::Error),
    Handshake(hyper::Error),
    Broken(hyper::Error),
    /// Every worker said that its guest has not seen the request.
    Turned(Unseen),
    Timeout,
    /// Its network policies do not let the client in.
    Denied,
}

impl Failure {
    /// Whether the endpoint is there no more.
    fn is_gone(&self) -> bool {
        match self {
            Self::Turned(why) => *why == Unseen::Gone,
            Self::Unreachable(error) if is_answer(error, tunnel::Answer::NoSuchPod) => true,
            Self::NotReady
            | Self::Unreachable(_)
            | Self::Handshake(_)
            | Self::Broken(_)
            | Self::Timeout
            | Self::Denied => false,
        }
    }

    pub(super) fn reply(self, target: &Target) -> Reply {
        let service = Key::new(&target.service.namespace, &target.service.name);
        match self {
            Self::NotReady => Reply::NotReady(service),
            Self::Unreachable(error) => Reply::Unreachable {
                service,
                reason: chain(&error).to_string(),
            },
            Self::Handshake(error) | Self::Broken(error) => Reply::Broken {
                service,
                reason: chain(&error).to_string(),
            },
            Self::Turned(_) => Reply::Unreachable {
                service,
                reason: "its pods take no more requests now".to_owned(),
            },
            Self::Timeout => Reply::Timeout(service),
            Self::Denied => Reply::Denied(service),
        }
    }
}

/// One request's way.
pub(super) struct Plan<'a> {
    lane: &'a Arc<Lane>,
    client: &'a Client,
    target: Target,
    tried: Vec<SocketAddr>,
    patience: Doubling,
}

/// A request to be sent as often as it takes: its head, and its body as far as it is remembered.
struct Said {
    head: request::Parts,
    body: body::Said,
}

impl Said {
    fn new(request: Request<Incoming>, patience: Duration) -> Self {
        let (head, body) = request.into_parts();
        let body = body::Said::new(body, patience);
        Self { head, body }
    }

    /// Method, address and headers; extensions are of the client's connection.
    fn request(&self) -> Option<Request<Sent>> {
        let mut request = Request::new(self.body.send()?);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.version_mut() = self.head.version;
        request.headers_mut().clone_from(&self.head.headers);
        Some(request)
    }
}

/// A connection to an endpoint.
struct Found {
    sender: SendRequest<Sent>,
    is_reused: bool,
    /// Whether it may carry requests of other clients next.
    is_shared: bool,
}

/// What one send led to.
enum Sending {
    Answered(Response<Incoming>, SendRequest<Sent>),
    /// Nothing was sent; here is the request back.
    Unsent(Box<Request<Sent>>),
    /// Something was sent, and the connection broke.
    Broken(hyper::Error),
    Timeout,
}

impl<'a> Plan<'a> {
    pub(super) fn new(lane: &'a Arc<Lane>, client: &'a Client, target: Target) -> Self {
        lane.retries.earn();
        Self {
            lane,
            client,
            target,
            tried: Vec::new(),
            patience: unseen::patience(),
        }
    }

    pub(super) async fn run(
        mut self,
        request: Request<Incoming>,
        upgrade: Option<upgrade::Wanted>,
    ) -> Result<Response<Answer>, Failure> {
        let patience = self.lane.front.limits.idle_timeout;
        let said = Said::new(request, patience);
        let is_idempotent = is_idempotent(&said.head.method);
        let Some(mut request) = said.request() else {
            return Err(Failure::NotReady);
        };
        let mut failure = Failure::NotReady;
        for _ in 0..MOST_SENDS {
            let Some(endpoint) = self.choose() else {
                if failure.is_gone() && self.renew().await {
                    continue;
                }
                return Err(failure);
            };
            let in_flight = InFlight::enter(self.lane.upstreams.get(endpoint.addr));
            let found = match self.connection(&endpoint, &in_flight).await {
                Ok(found) => found,
                // It is well; the client is not welcome, and is at none of its kind.
                Err(Failure::Denied) => return Err(Failure::Denied),
                Err(error) => {
                    failure = error;
                    self.rest(&endpoint, &in_flight);
                    continue;
                }
            };
            let (is_reused, is_shared) = (found.is_reused, found.is_shared);
            match self.send(found.sender, request).await {
                Sending::Answered(answer, sender) => {
                    in_flight.upstream().succeeded();
                    if let Some(why) = Unseen::read(answer.status(), answer.headers())
                        && let Some(again) = said.request()
                    {
                        failure = Failure::Turned(why);
                        self.tried.push(endpoint.addr);
                        self.target.service.traffic.retried();
                        request = again;
                        continue;
                    }
                    let limits = &self.lane.front.limits;
                    let kept = if is_shared { limits.idle_upstreams } else { 0 };
                    return Ok(self.pass_on(answer, (sender, kept), in_flight, upgrade));
                }
                Sending::Unsent(again) => {
                    request = *again;
                    // A kept connection that has died says nothing about the endpoint.
                    if !is_reused {
                        self.rest(&endpoint, &in_flight);
                    }
                }
                Sending::Broken(error) => {
                    if !is_reused {
                        self.rest(&endpoint, &in_flight);
                    }
                    let may_retry = is_idempotent && self.lane.retries.spend();
                    match said.request().filter(|_| may_retry) {
                        Some(again) => request = again,
                        None => return Err(Failure::Broken(error)),
                    }
                    self.target.service.traffic.retried();
                    failure = Failure::Broken(error);
                }
                Sending::Timeout => return Err(Failure::Timeout),
            }
        }
        Err(failure)
    }

    /// Waits for a newer table; `false` when it has taken too long or the table names nobody.
    async fn renew(&mut self) -> bool {
        let Some(wait) = self.patience.next() else {
            return false;
        };
        let mut changes = self.lane.front.changes();
        // Every wait ends in another try, news or not.
        let _ = tokio::time::timeout(wait, changes.changed()).await;
        let Some(target) = self.target.renewed(&self.lane.front.table()) else {
            return false;
        };
        self.target = target;
        self.tried.clear();
        self.port().is_some_and(|port| !port.ready.is_empty())
    }

    fn port(&self) -> Option<&Port> {
        self.target.port()
    }

    fn choose(&self) -> Option<Endpoint> {
        let port = self.port()?;
        if self.tried.len() >= MOST_ENDPOINTS {
            return None;
        }
        let is_tried = |it: &Endpoint| self.tried.contains(&it.addr);
        if port.is_sticky()
            && let Some(endpoint) = port.pick(self.client.addr.ip())
            && !is_tried(endpoint)
        {
            return Some(endpoint.clone());
        }
        let now = Instant::now();
        let index = balance::choose(
            port.ready.len(),
            |index| is_tried(&port.ready[index]),
            |index| self.lane.upstreams.load(port.ready[index].addr, now),
            ids::index,
        )?;
        Some(port.ready[index].clone())
    }

    fn rest(&mut self, endpoint: &Endpoint, in_flight: &InFlight) {
        in_flight.upstream().failed(Instant::now());
        self.tried.push(endpoint.addr);
    }

    async fn connection(
        &self,
        endpoint: &Endpoint,
        in_flight: &InFlight,
    ) -> Result<Found, Failure> {
        if let Some(sender) = in_flight.upstream().take_idle() {
            return Ok(Found {
                sender,
                is_reused: true,
                is_shared: true,
            });
        }
        let opened = self.lane.open(endpoint, Source::Requests).await;
        let is_shared =
            !matches!(&opened, Err(error) if is_answer(error, tunnel::Answer::Isolated));
        let opened = if is_shared {
            opened
        } else {
            let client = Source::Peer(self.client.addr);
            self.lane.open(endpoint, client).await
        };
        let stream = opened.map_err(|error| match error {
            error if is_answer(&error, tunnel::Answer::Denied) => Failure::Denied,
            error => Failure::Unreachable(error),
        })?;
        let sender = self
            .lane
            .handshake(stream)
            .await
            .map_err(Failure::Handshake)?;
        Ok(Found {
            sender,
            is_reused: false,
            is_shared,
        })
    }

    async fn send(&self, mut sender: SendRequest<Sent>, request: Request<Sent>) -> Sending {
        // A kept connection may still be busy with the end of its last answer.
        if !sender.is_ready() && sender.ready().await.is_err() {
            return Sending::Unsent(Box::new(request));
        }
        let sending = sender.try_send_request(request);
        let limit = self.lane.front.limits.response_timeout;
        match tokio::time::timeout(limit, sending).await {
            Ok(Ok(answer)) => Sending::Answered(answer, sender),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => Sending::Unsent(Box::new(request)),
                None => Sending::Broken(error.into_error()),
            },
            Err(_) => Sending::Timeout,
        }
    }

    fn pass_on(
        &self,
        mut answer: Response<Incoming>,
        (sender, most_idle): (SendRequest<Sent>, usize),
        in_flight: InFlight,
        upgrade: Option<upgrade::Wanted>,
    ) -> Response<Answer> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match upgrade {
                Some(wanted) => match self.lane.place() {
                    Some(place) => {
                        let service = &self.target.service;
                        wanted.accept(self.lane, answer, in_flight, service, place)
                    }
                    None => Reply::Full.response(),
                },
                None => Reply::Broken {
                    service: Key::new(&self.target.service.namespace, &self.target.service.name),
                    reason: "it switched protocols without being asked".to_owned(),
                }
                .response(),
            };
        }
        head::clean_answer(answer.headers_mut());
        let limits = &self.lane.front.limits;
        let carried = Carried {
            sender,
            in_flight,
            most_idle,
        };
        let service = Arc::clone(&self.target.service);
        answer.map(|body| Answer::stream(body, limits.idle_timeout, carried, service))
    }
}

/// Whether it is just this that the worker said.
fn is_answer(error: &dial::Error, wanted: tunnel::Answer) -> bool {
    matches!(error, dial::Error::Answered { answer, .. } if *answer == wanted)
}

/// Whether doing it twice is as good as once.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}
