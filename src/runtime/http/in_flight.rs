//! The requests in progress at one handler: admitted, counted, reported, drained.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use http::uri::PathAndQuery;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Body, Error};
use crate::runtime::budget::Budget;
use crate::runtime::guests::Guests;
use crate::runtime::spec::{LogSink, LogStream};

/// See the module.
pub(super) struct InFlight {
    count: AtomicU32,
    admitted: AtomicU64,
    failed: AtomicU64,
    draining: AtomicBool,
    none_left: Notify,
    /// How many there may be.
    places: Arc<Budget>,
    killed: CancellationToken,
    guests: Guests,
    log: Arc<dyn LogSink>,
}

/// One admitted request; counted until it is dropped.
pub(super) struct Request {
    in_flight: Arc<InFlight>,
    has_place: bool,
    method: http::Method,
    path: PathAndQuery,
}

impl InFlight {
    pub(super) fn new(
        places: Arc<Budget>,
        killed: CancellationToken,
        guests: Guests,
        log: Arc<dyn LogSink>,
    ) -> Arc<Self> {
        Arc::new(Self {
            places,
            count: AtomicU32::new(0),
            admitted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            none_left: Notify::new(),
            killed,
            guests,
            log,
        })
    }

    /// Lets a request in, unless the container is stopping.
    pub(super) fn admit(
        self: &Arc<Self>,
        request: &http::Request<Body>,
    ) -> Result<Arc<Request>, Error> {
        // Counted first, so that a drain that does not see the count is seen here.
        self.count.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path_and_query().cloned();
        let place = self.places.charge(1);
        let admitted = Arc::new(Request {
            in_flight: Arc::clone(self),
            has_place: place.is_ok(),
            method: request.method().clone(),
            path: path.unwrap_or_else(|| PathAndQuery::from_static("/")),
        });
        if self.draining.load(Ordering::SeqCst) || self.killed.is_cancelled() {
            return Err(Error::Stopping);
        }
        if let Err(full) = place {
            let text = format!("{} requests are in progress, as many as may", full.max);
            return Err(Error::Overloaded(text));
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        Ok(admitted)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Whether others than one request are in progress.
    pub(super) fn is_crowded(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 1
    }

    /// In progress, admitted so far, failed among those.
    pub(super) fn counts(&self) -> (u32, u64, u64) {
        (
            self.count.load(Ordering::Relaxed),
            self.admitted.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }

    /// Admits no more, and returns when the last one is done.
    pub(super) async fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        loop {
            let none_left = self.none_left.notified();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            none_left.await;
        }
    }
}

impl Request {
    /// Resolves when the container is killed.
    pub(super) fn killed(&self) -> WaitForCancellationFutureOwned {
        self.in_flight.killed.clone().cancelled_owned()
    }

    /// Goes on with `work` on the guest threads.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.in_flight.guests.spawn("request", work);
    }

    /// Tells the container's log why there is no response, or no whole one.
    pub(super) fn failed(&self, error: &Error) {
        self.in_flight.failed.fetch_add(1, Ordering::Relaxed);
        let error = crate::errors::chain(error);
        tracing::debug!(request = %self, %error, "a guest's request failed");
        let line = format!("wasmorch: {self} failed: {error}\n");
        self.in_flight.log.write(LogStream::Stderr, line.as_bytes());
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.has_place {
            self.in_flight.places.release(1);
        }
        if self.in_flight.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.in_flight.none_left.notify_waiters();
        }
    }
}
