//! Requests that guests send.
//!
//! A name is resolved and routed as for a socket. A handler on this worker is then called as a
//! function: no connection, no bytes, no copy. Everybody else gets HTTP/1.1 over a virtual
//! connection, whatever plane that takes; the egress rules are the network's. With `https` the host
//! speaks TLS over that connection ([`tls`]); a handler has none to offer and is called by `http`.
//!
//! A handler that calls itself, directly or in a circle, would fill the worker with instances of
//! itself, so each request carries how many handlers it has passed ([`HOPS`]). Guests neither see
//! nor set it: it is taken off on the way in and put on here, from the request being served.
//!
//! The death of a pod is not its callers' failure: what no guest has seen is tried elsewhere,
//! always; what broke off without an answer, if doing it twice is as good as once. The rules are the
//! front door's (`router::http`), so that a service is as reliable from inside as from outside. When
//! everybody whom the routing table names is gone, the table is behind: a newer one is waited for.

mod attempt;
mod calls;
mod connect;
mod hooks;
mod repeat;
mod target;
pub(in crate::runtime) mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderName;
use http::uri::{Authority, Scheme};
use rustls_pki_types::ServerName;
use wasmtime_wasi_http::{Error as WasiHttpError, RequestOptions, WasiBody};

use attempt::{Attempt, Failure, Sent, Unconnected, Waits, judge, timely_retry};
pub(in crate::runtime) use calls::Calls;
pub(super) use connect::Destination;
pub(in crate::runtime) use hooks::Hooks;
use repeat::Repeat;
use target::Target;
use tls::Tls;

use super::pool::Pool;
use super::{Body, Handler};
use crate::api::unseen::{self, Unseen};
use crate::runtime::net::{ClusterNetwork, Owner, PodNet, Route};
use crate::runtime::pods::Pods;
use crate::runtime::spec::Protocol;
use crate::tasks::TaskGroup;

/// How many handlers a request has passed.
pub(super) const HOPS: HeaderName = HeaderName::from_static("x-wasmorch-hops");
/// A request that has passed more is taken for a loop.
pub(super) const MAX_HOPS: u32 = 16;
/// How often one request is sent at most.
const MAX_ATTEMPTS: usize = 4;
/// How often the network is asked for an endpoint that was not tried yet.
const MAX_CHOICES: usize = 4;

/// Sends requests in the name of one container.
pub(in crate::runtime) struct Client {
    pub(in crate::runtime) net: Arc<PodNet>,
    pub(in crate::runtime) owner: Owner,
    pub(in crate::runtime) cluster: Arc<dyn ClusterNetwork>,
    pub(in crate::runtime) pods: Arc<Pods>,
    pub(in crate::runtime) tasks: TaskGroup,
    tls: Arc<Tls>,
    calls: Calls,
    pool: Pool,
}

/// What all clients of a worker share.
pub(in crate::runtime) struct Shared {
    pub(in crate::runtime) cluster: Arc<dyn ClusterNetwork>,
    pub(in crate::runtime) pods: Arc<Pods>,
    pub(in crate::runtime) tasks: TaskGroup,
    pub(in crate::runtime) tls: Arc<Tls>,
}

/// What holds for all attempts of a request.
struct Way {
    /// Whose certificate has to be shown; `None` is plain HTTP.
    name: Option<ServerName<'static>>,
    waits: Waits,
}

/// What asking everybody whom the table names led to.
enum Round {
    Over(Sent),
    /// Nobody has seen the request, and who was asked last is gone: the table is behind.
    Gone(Sent),
}

impl Round {
    fn into_answer(self) -> Sent {
        match self {
            Self::Over(answer) | Self::Gone(answer) => answer,
        }
    }
}

impl Client {
    pub(in crate::runtime) fn new(
        net: Arc<PodNet>,
        owner: Owner,
        calls: Calls,
        shared: Shared,
    ) -> Arc<Self> {
        let Shared {
            cluster,
            pods,
            tasks,
            tls,
        } = shared;
        Arc::new(Self {
            net,
            owner,
            cluster,
            pods,
            tasks,
            tls,
            calls,
            pool: Pool::default(),
        })
    }

    /// Closes the kept connections; their tasks end with them.
    pub(in crate::runtime) fn close(&self) {
        self.pool.clear();
    }

    async fn send(
        &self,
        request: http::Request<WasiBody>,
        options: RequestOptions,
        hops: u32,
    ) -> Sent {
        let _call = self.calls.begin()?;
        let authority = request.uri().authority().cloned();
        let is_secure = request.uri().scheme() == Some(&Scheme::HTTPS);
        let mut repeat = Repeat::new(request, self.tasks.clone());
        let authority = authority.ok_or(WasiHttpError::HttpRequestUriInvalid)?;
        let way = Way {
            name: is_secure.then(|| server_name(&authority)).transpose()?,
            waits: options.into(),
        };
        let mut patience = unseen::patience();
        let mut use_kept = true;
        loop {
            let addresses = self.addresses(&authority, is_secure).await?;
            let round = self.ask(&addresses, &mut repeat, &mut use_kept, hops, &way);
            let answer = match round.await {
                Round::Over(answer) => return answer,
                Round::Gone(answer) => answer,
            };
            let Some(wait) = patience.next() else {
                return answer;
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks one after the other until somebody answers.
    async fn ask(
        &self,
        addresses: &[SocketAddr],
        repeat: &mut Repeat,
        use_kept: &mut bool,
        hops: u32,
        way: &Way,
    ) -> Round {
        let mut tried = Vec::new();
        let mut round = Round::Over(Err(WasiHttpError::DestinationNotFound));
        for address in addresses.iter().cycle().take(MAX_ATTEMPTS) {
            let target = match self.untried(*address, &tried) {
                Ok(Some(target)) => target,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%address, %error, "a guest's request has no way");
                    round = Round::Over(Err(error));
                    continue;
                }
            };
            target.mark(&mut repeat.head.headers, hops);
            let Some(request) = repeat.request() else {
                return Round::Over(round.into_answer());
            };
            match self.try_once(&target, request, *use_kept, way).await {
                Attempt::Done(answer) => return Round::Over(answer),
                Attempt::Unseen { answer, why } => {
                    if answer.is_ok() && matches!(target, Target::Outside(_)) {
                        return Round::Over(answer);
                    }
                    let to = target.address();
                    tracing::debug!(%to, ?why, ?answer, "no guest has seen a guest's request");
                    tried.push(to);
                    // Nobody routes to oneself by a table.
                    let is_gone = why == Unseen::Gone && !self.is_own(address.ip());
                    round = if is_gone {
                        Round::Gone(answer)
                    } else {
                        Round::Over(answer)
                    };
                }
                Attempt::Broken { error, was_kept } => {
                    if !repeat.is_idempotent() {
                        tracing::debug!(to = %target.address(), %error, was_kept, "a guest's request broke off");
                        return Round::Over(Err(error));
                    }
                    if !was_kept {
                        tried.push(target.address());
                    }
                    tracing::debug!(to = %target.address(), %error, was_kept, "a guest's request broke off");
                    round = Round::Over(Err(error));
                }
            }
            // Where one kept connection was dead, the others are likely to be.
            *use_kept = false;
        }
        round
    }

    /// Whom `address` leads to, other than those that were tried already.
    fn untried(
        &self,
        address: SocketAddr,
        tried: &[SocketAddr],
    ) -> Result<Option<Target>, WasiHttpError> {
        for _ in 0..MAX_CHOICES {
            let target = self.target(address)?;
            if !tried.contains(&target.address()) {
                return Ok(Some(target));
            }
        }
        Ok(None)
    }

    async fn try_once(
        &self,
        target: &Target,
        request: http::Request<WasiBody>,
        use_kept: bool,
        way: &Way,
    ) -> Attempt {
        match target {
            Target::Handler(..) if way.name.is_some() => {
                let words = "https to a handler of the cluster, which speaks http";
                Attempt::Done(Err(WasiHttpError::InternalError(Some(words.to_owned()))))
            }
            Target::Handler(handler, _) => {
                let called =
                    tokio::time::timeout(way.waits.first_byte, self.call(handler, request));
                let late = Attempt::Done(Err(WasiHttpError::ConnectionReadTimeout));
                called.await.unwrap_or(late)
            }
            Target::Gone(_) => Attempt::unconnected(WasiHttpError::ConnectionRefused, Unseen::Gone),
            Target::Pod(to) | Target::Outside(to) => {
                self.send_to(*to, request, use_kept, way).await
            }
        }
    }

    async fn call(&self, handler: &Arc<Handler>, request: http::Request<WasiBody>) -> Attempt {
        let request = request.map(Body::wasi);
        match handler.call(request).await {
            Ok(response) => Attempt::Done(Ok(response.map(Body::into_wasi))),
            Err(error) => {
                let answer = Ok(error.response().map(Body::into_wasi));
                match error.unseen() {
                    Some(why) => Attempt::Unseen { answer, why },
                    None => Attempt::Done(answer),
                }
            }
        }
    }

    /// One address: over a kept connection, else over a new one.
    async fn send_to(
        &self,
        to: SocketAddr,
        mut request: http::Request<WasiBody>,
        use_kept: bool,
        way: &Way,
    ) -> Attempt {
        let (waits, name) = (&way.waits, way.name.clone());
        let to = &Destination { address: to, name };
        let kept = if use_kept { self.pool.take(to) } else { None };
        if let Some(connection) = kept {
            let answered = self.exchange(to, connection, request);
            match timely_retry(waits.first_byte, answered).await {
                // It was closed under us and the request never left.
                Err(Failure::Unsent(unsent, _)) => request = *unsent,
                answered => return judge(answered, true, waits),
            }
        }
        let connecting = tokio::time::timeout(waits.connect, self.connect(to));
        match connecting.await.unwrap_or(Err(Unconnected::Late)) {
            Ok(connection) => {
                let answered = self.exchange(to, connection, request);
                judge(timely_retry(waits.first_byte, answered).await, false, waits)
            }
            Err(error) => error.into(),
        }
    }

    async fn addresses(
        &self,
        authority: &Authority,
        is_secure: bool,
    ) -> Result<Vec<SocketAddr>, WasiHttpError> {
        let usual = if is_secure { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(usual);
        let mut found: Vec<IpAddr> =
            self.net
                .lookup(authority.host())
                .await
                .map_err(|error| WasiHttpError::DnsError {
                    rcode: Some(error.to_string()),
                    info_code: None,
                })?;
        // Headless services answer with every pod: take turns, and prefer the pod's own family.
        let turn = crate::ids::index(found.len().max(1));
        found.rotate_left(turn);
        found.sort_by_key(|ip| ip.is_ipv4() != self.net.ip().is_ipv4());
        let addresses = found.into_iter();
        Ok(addresses.map(|ip| SocketAddr::new(ip, port)).collect())
    }

    fn target(&self, to: SocketAddr) -> Result<Target, WasiHttpError> {
        let to = if self.is_own(to.ip()) {
            SocketAddr::new(self.net.ip(), to.port())
        } else {
            match self.cluster.route(self.net.ip(), to, Protocol::Tcp) {
                Route::Pod(endpoint) => endpoint,
                Route::External(outside) if self.net.lets_out(outside) => {
                    return Ok(Target::Outside(outside));
                }
                Route::External(_) => return Err(WasiHttpError::HttpRequestDenied),
                Route::Refused => return Err(WasiHttpError::ConnectionRefused),
            }
        };
        if !self.net.lets_out(to) {
            return Err(WasiHttpError::HttpRequestDenied);
        }
        let Some(pod) = self.pods.find(to.ip()) else {
            return Ok(Target::Pod(to));
        };
        // The same answer as from a pod of another worker.
        if !pod.net().lets_in(self.net.ip(), to.port()) {
            return Err(WasiHttpError::ConnectionRefused);
        }
        Ok(match pod.handler(to.port()) {
            Some(handler) => Target::Handler(handler, to),
            None if pod.is_leaving() => Target::Gone(to),
            None => Target::Pod(to),
        })
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || ip == self.net.ip()
    }
}

fn server_name(authority: &Authority) -> Result<ServerName<'static>, WasiHttpError> {
    let host = authority.host().trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned());
    name.map_err(|_| WasiHttpError::HttpRequestUriInvalid)
}

#[cfg(test)]
mod tests;
