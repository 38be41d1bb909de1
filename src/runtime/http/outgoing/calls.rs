//! How many requests of a pod may be on their way at a time.
//!
//! A request costs a guest one handle and the host a task, a look-up and often an instance of somebody
//! else's handler, so a pod that calls in a fan-out has to stop somewhere. A request is on its way
//! until the head of its response is there; what comes behind is bounded by the pod's sockets, or by
//! the places of the handler that answers.

use std::sync::Arc;

use wasmtime_wasi_http::Error as WasiHttpError;

use crate::runtime::budget::Budget;

/// The places of one pod; clones are the same places.
#[derive(Clone)]
pub(in crate::runtime) struct Calls(Arc<Budget>);

/// A request on its way, until it is dropped.
pub(super) struct Call<'a>(&'a Budget);

impl Calls {
    pub(in crate::runtime) fn new(places: Arc<Budget>) -> Self {
        Self(places)
    }

    pub(in crate::runtime) fn refusals(&self) -> u64 {
        self.0.refusals()
    }

    /// Takes a place. What the guest gets when there is none is what `wasi:http` has for it.
    pub(super) fn begin(&self) -> Result<Call<'_>, WasiHttpError> {
        match self.0.charge(1) {
            Ok(()) => Ok(Call(&self.0)),
            Err(_full) => Err(WasiHttpError::ConnectionLimitReached),
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.release(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_refused_and_given_back() {
        let calls = Calls::new(Budget::new(2));
        let first = calls.begin().unwrap();
        let _second = calls.begin().unwrap();
        let refused = calls.begin().err().unwrap();
        assert!(matches!(refused, WasiHttpError::ConnectionLimitReached));
        drop(first);
        assert!(calls.begin().is_ok());
        assert_eq!(calls.refusals(), 1);
    }
}
