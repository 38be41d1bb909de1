//! A container that answers requests.
//!
//! A request takes an instance (fresh, unless the container asked for reuse), and its work is an
//! [`Exchange`]. The handler admits it, counts it and, when it fails, tells the container's log why;
//! the client learns a status only.
//!
//! Reuse is sequential: an instance serves one request at a time, is kept for a moment after a
//! request that ended well, and is never entered again after a trap.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::HOST;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wasmtime::PoolConcurrencyLimitError;

use super::exchange::Exchange;
use super::instance::Instance;
use super::outgoing::{HOPS, MAX_HOPS};
use super::{Body, Error};
use crate::runtime::artifact::Artifact;
use crate::runtime::cpu::{KilledError, Metered};
use crate::runtime::exit::{oom_message, trap_message};
use crate::runtime::guests::Guests;
use crate::runtime::host::{Launch, Life};
use crate::runtime::spec::LogStream;
use crate::runtime::ticker::Presence;

/// How long an unused instance is kept for the next request.
const IDLE: Duration = Duration::from_secs(1);
/// Unused instances kept at most.
const MAX_IDLE: usize = 8;

/// What a handler is made of.
pub(in crate::runtime) struct HandlerConfig {
    pub(in crate::runtime) artifact: Arc<Artifact>,
    pub(in crate::runtime) launch: Arc<Launch>,
    pub(in crate::runtime) presence: Presence,
    pub(in crate::runtime) guests: Guests,
    /// Requests one instance may serve.
    pub(in crate::runtime) reuse: u32,
    pub(in crate::runtime) deadline: Duration,
    pub(in crate::runtime) killed: CancellationToken,
}

/// See the module; cheap to share.
pub struct Handler {
    config: HandlerConfig,
    idle: Mutex<Vec<(Instance, Instant)>>,
    in_flight: Arc<InFlight>,
}

/// Requests in progress, and what they need to know of the container.
pub(super) struct InFlight {
    count: AtomicU32,
    requests: AtomicU64,
    failed: AtomicU64,
    draining: AtomicBool,
    none_left: Notify,
    killed: CancellationToken,
    guests: Guests,
}

/// One request in progress.
struct Admitted(Arc<InFlight>);

impl Handler {
    pub(in crate::runtime) fn new(config: HandlerConfig) -> Arc<Self> {
        let in_flight = InFlight {
            count: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            none_left: Notify::new(),
            killed: config.killed.clone(),
            guests: config.guests.clone(),
        };
        Arc::new(Self {
            config,
            idle: Mutex::default(),
            in_flight: Arc::new(in_flight),
        })
    }

    /// Answers one request, on the caller's task. Dropping the future, or later the response's
    /// body, ends the guest's work.
    pub async fn call(
        self: &Arc<Self>,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Error> {
        let admitted = self.admit()?;
        let hops = prepare(&mut request)?;
        if let Some(rest) = self.config.launch.cpu.rest(0, Instant::now()) {
            tokio::time::sleep(rest).await;
        }
        let title = Title::of(&request);
        let (head_tx, head_rx) = oneshot::channel();
        let (ended_tx, ended_rx) = oneshot::channel();
        let handler = Arc::clone(self);
        let work = async move {
            let _admitted = admitted;
            let mut instance = handler.instance().await?;
            instance.host().set_hops(hops);
            let served = instance.serve(request, head_tx, ended_rx).await;
            match served {
                Ok(()) => handler.keep(instance),
                Err(error) => return Err(handler.failure(&error, Some(&instance))),
            }
            Ok(())
        };
        let work = Metered::new(
            work,
            Arc::clone(&self.config.launch.cpu),
            self.config.presence.clone(),
        );
        let exchange = Exchange::new(
            Box::pin(work),
            ended_tx,
            self.config.deadline,
            Arc::clone(&self.in_flight),
        );
        let response = exchange.respond(head_rx).await;
        if let Err(error) = &response {
            self.report(&title, error);
        }
        response
    }

    /// Requests in progress, answered so far, and failed among them.
    pub(in crate::runtime) fn counts(&self) -> (u32, u64, u64) {
        (
            self.in_flight.count.load(Ordering::Relaxed),
            self.in_flight.requests.load(Ordering::Relaxed),
            self.in_flight.failed.load(Ordering::Relaxed),
        )
    }

    /// Admits no more requests, and returns when the last one is done.
    pub(in crate::runtime) async fn drain(&self) {
        self.in_flight.draining.store(true, Ordering::SeqCst);
        loop {
            let none_left = self.in_flight.none_left.notified();
            if self.in_flight.count.load(Ordering::SeqCst) == 0 {
                break;
            }
            none_left.await;
        }
        self.lock_idle().clear();
    }

    fn admit(&self) -> Result<Admitted, Error> {
        self.in_flight.count.fetch_add(1, Ordering::SeqCst);
        let admitted = Admitted(Arc::clone(&self.in_flight));
        let is_stopping =
            self.in_flight.draining.load(Ordering::SeqCst) || self.in_flight.killed.is_cancelled();
        if is_stopping {
            return Err(Error::Stopping);
        }
        self.in_flight.requests.fetch_add(1, Ordering::Relaxed);
        Ok(admitted)
    }

    async fn instance(&self) -> Result<Instance, Error> {
        let kept = self.lock_idle().pop();
        if let Some((instance, _)) = kept {
            return Ok(instance);
        }
        let artifact = &self.config.artifact;
        let store = self.config.launch.store(artifact.engine(), Life::Request);
        Instance::new(artifact, store)
            .await
            .map_err(|error| self.failure(&error, None))
    }

    fn keep(self: &Arc<Self>, instance: Instance) {
        let is_draining = self.in_flight.draining.load(Ordering::SeqCst);
        if instance.served >= self.config.reuse || is_draining {
            return;
        }
        let mut idle = self.lock_idle();
        if idle.len() >= MAX_IDLE {
            return;
        }
        idle.push((instance, Instant::now()));
        if idle.len() == 1 {
            let handler = Arc::downgrade(self);
            self.config.guests.spawn("idle instances", async move {
                loop {
                    tokio::time::sleep(IDLE).await;
                    let Some(handler) = handler.upgrade() else {
                        return;
                    };
                    let mut idle = handler.lock_idle();
                    idle.retain(|(_, since)| since.elapsed() < IDLE);
                    if idle.is_empty() {
                        return;
                    }
                }
            });
        }
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<(Instance, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, error: &wasmtime::Error, instance: Option<&Instance>) -> Error {
        if error.is::<KilledError>() {
            return Error::Stopping;
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Error::Overloaded(error.root_cause().to_string());
        }
        let Some(instance) = instance else {
            // It did not even start. With others in flight the container's memory is taken by
            // them, and the request is fine; alone, the limit is below what the program needs.
            return match self.config.launch.memory.refusal() {
                Some(exceeded) if self.in_flight.count.load(Ordering::Relaxed) > 1 => {
                    Error::Overloaded(oom_message(exceeded))
                }
                Some(exceeded) => Error::Trap(oom_message(exceeded)),
                None => Error::Trap(trap_message(error)),
            };
        };
        match instance.refusal() {
            Some(exceeded) => Error::Trap(format!(
                "{}; {}",
                oom_message(exceeded),
                trap_message(error)
            )),
            None => Error::Trap(trap_message(error)),
        }
    }

    fn report(&self, title: &Title, error: &Error) {
        self.in_flight.failed.fetch_add(1, Ordering::Relaxed);
        let line = format!("wasmorch: {title} failed: {error}\n");
        self.config
            .launch
            .log
            .write(LogStream::Stderr, line.as_bytes());
    }
}

impl InFlight {
    pub(super) fn killed(&self) -> WaitForCancellationFutureOwned {
        self.killed.clone().cancelled_owned()
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.guests.spawn("request", work);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

/// Checks what must hold before a guest sees the request; gives its distance from the client.
fn prepare(request: &mut http::Request<Body>) -> Result<u32, Error> {
    let hops = match request.headers_mut().remove(HOPS) {
        None => 0,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|hops| hops.parse::<u32>().ok())
            .ok_or_else(|| Error::BadRequest(format!("malformed {HOPS} header")))?,
    };
    if hops > MAX_HOPS {
        return Err(Error::Loop(hops));
    }
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        // HTTP/1.0 needs no host; guests do.
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("localhost"));
    }
    Ok(hops)
}

/// What a log line calls a request.
struct Title {
    method: http::Method,
    path: http::uri::PathAndQuery,
}

impl Title {
    fn of(request: &http::Request<Body>) -> Self {
        Self {
            method: request.method().clone(),
            path: request
                .uri()
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")),
        }
    }
}

impl std::fmt::Display for Title {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}
