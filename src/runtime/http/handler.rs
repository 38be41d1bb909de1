//! A container that answers requests.
//!
//! A request takes an instance (fresh, unless the container asked for reuse), and its work is an
//! [`Exchange`]. When it fails, the container's log tells why; the client learns a status only.
//!
//! Reuse is sequential: an instance serves one request at a time, is kept for a moment after a
//! request that ended well, and is never entered again after a trap.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::HOST;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use wasmtime::PoolConcurrencyLimitError;

use super::exchange::Exchange;
use super::in_flight::{InFlight, Request};
use super::instance::{Head, Instance};
use super::outgoing::{HOPS, MAX_HOPS};
use super::{Body, Error};
use crate::runtime::artifact::Artifact;
use crate::runtime::background::Metered;
use crate::runtime::budget::Budget;
use crate::runtime::container::Ends;
use crate::runtime::cpu::KilledError;
use crate::runtime::exit::{limit, oom_message, trap_message};
use crate::runtime::guests::Guests;
use crate::runtime::host::{Launch, Life};
use crate::runtime::limits::Handles;

/// How long an unused instance is kept for the next request.
const IDLE: Duration = Duration::from_secs(1);
/// Unused instances kept at most.
const MAX_IDLE: usize = 8;

const HANDLES: Handles = Handles::REQUEST;

/// What a handler is made of.
pub(in crate::runtime) struct HandlerConfig {
    pub(in crate::runtime) artifact: Arc<Artifact>,
    pub(in crate::runtime) launch: Arc<Launch>,
    pub(in crate::runtime) guests: Guests,
    /// Requests one instance may serve.
    pub(in crate::runtime) reuse: u32,
    pub(in crate::runtime) deadline: Duration,
    /// Requests in progress.
    pub(in crate::runtime) places: Arc<Budget>,
    pub(in crate::runtime) ends: Arc<Ends>,
    pub(in crate::runtime) killed: CancellationToken,
}

/// See the module; cheap to share.
pub struct Handler {
    config: HandlerConfig,
    idle: Mutex<Vec<(Instance, Instant)>>,
    in_flight: Arc<InFlight>,
}

impl Handler {
    pub(in crate::runtime) fn new(config: HandlerConfig) -> Arc<Self> {
        let in_flight = InFlight::new(
            Arc::clone(&config.places),
            config.killed.clone(),
            config.guests.clone(),
            Arc::clone(&config.launch.log),
        );
        Arc::new(Self {
            config,
            idle: Mutex::default(),
            in_flight,
        })
    }

    /// Answers one request, on the caller's task. Dropping the future, or later the response's
    /// body, ends the guest's work.
    pub async fn call(
        self: &Arc<Self>,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Error> {
        let admitted = self.in_flight.admit(&request)?;
        let hops = prepare(&mut request).inspect_err(|error| admitted.failed(error))?;
        let (head, head_set) = oneshot::channel();
        let (body_ended, ended) = oneshot::channel();
        let work = Arc::clone(self).work(Arc::clone(&admitted), request, hops, head, ended);
        let work = Metered::new(
            work,
            Arc::clone(&self.config.launch.cpu),
            self.config.guests.clone(),
            self.config.launch.disk.as_ref(),
        );
        Exchange::new(Box::pin(work), body_ended, self.config.deadline, admitted)
            .respond(head_set)
            .await
    }

    /// The guest's side of a request.
    async fn work(
        self: Arc<Self>,
        _counted: Arc<Request>,
        request: http::Request<Body>,
        hops: u32,
        head: oneshot::Sender<Head>,
        ended: oneshot::Receiver<()>,
    ) -> Result<(), Error> {
        if let Some(rest) = self.config.launch.cpu.rest(0, Instant::now()) {
            tokio::time::sleep(rest).await;
        }
        let mut instance = self.instance().await?;
        instance.host().set_hops(hops);
        match instance.serve(request, head, ended).await {
            Ok(()) => self.keep(instance),
            Err(error) => return Err(self.failure(&error, Some(&instance))),
        }
        Ok(())
    }

    /// Requests in progress, admitted so far, and failed among them.
    pub(in crate::runtime) fn counts(&self) -> (u32, u64, u64) {
        self.in_flight.counts()
    }

    /// Admits no more requests, and returns when the last one is done.
    pub(in crate::runtime) async fn drain(&self) {
        self.in_flight.drain().await;
        self.lock_idle().clear();
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
        if instance.served >= self.config.reuse || self.in_flight.is_draining() {
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

    fn lock_idle(&self) -> MutexGuard<'_, Vec<(Instance, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, error: &wasmtime::Error, instance: Option<&Instance>) -> Error {
        if error.is::<KilledError>() {
            return Error::Killed;
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Error::Overloaded(error.root_cause().to_string());
        }
        if let Some(ended) = limit(error) {
            self.config.ends.count(ended);
        }
        let Some(instance) = instance else {
            // It did not even start. With others in flight the container's memory is taken by
            // them, and the request is fine; alone, the limit is below what the program needs.
            return match self.config.launch.memory.refusal() {
                Some(exceeded) if self.in_flight.is_crowded() => {
                    Error::Overloaded(oom_message(exceeded))
                }
                Some(exceeded) => Error::Trap(oom_message(exceeded)),
                None => Error::Trap(trap_message(error, HANDLES)),
            };
        };
        let trap = trap_message(error, HANDLES);
        Error::Trap(match instance.refusal() {
            Some(exceeded) => format!("{}; {trap}", oom_message(exceeded)),
            None => trap,
        })
    }
}

/// Checks what must hold before a guest sees the request; gives how many handlers it has passed.
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
        let nobody = HeaderValue::from_static("localhost");
        request.headers_mut().insert(HOST, nobody);
    }
    Ok(hops)
}
