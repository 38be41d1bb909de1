//! Measures how long a future computes, as opposed to how long it waits.
//!
//! The sum of the time spent inside `poll` is what a reconcile costs the machine; the wall time is
//! mostly the disk's, and resting in proportion to that would slow down what is already slow.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;

use crate::clock::Clock;

pub(super) struct Metered<T> {
    inner: BoxFuture<'static, T>,
    clock: Clock,
    busy: Duration,
}

impl<T> Metered<T> {
    pub(super) fn new(inner: BoxFuture<'static, T>, clock: Clock) -> Self {
        Self {
            inner,
            clock,
            busy: Duration::ZERO,
        }
    }
}

impl<T> Future for Metered<T> {
    type Output = (T, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let start = self.clock.monotonic();
        let polled = self.inner.as_mut().poll(cx);
        let end = self.clock.monotonic();
        self.busy += end.saturating_duration_since(start);
        polled.map(|output| (output, self.busy))
    }
}
