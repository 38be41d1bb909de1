//! The bytes of a datagram that waits to leave the worker, charged to the pod that sent it.

use std::ops::Deref;
use std::sync::Arc;

use crate::runtime::budget::Budget;

/// See the module.
pub(super) struct Payload {
    data: Vec<u8>,
    budget: Arc<Budget>,
}

impl Payload {
    /// `None` when the pod's memory has no room: the datagram is lost, as on any network.
    pub(super) fn charge(data: Vec<u8>, budget: &Arc<Budget>) -> Option<Self> {
        budget.charge(data.len() as u64).ok()?;
        Some(Self {
            data,
            budget: Arc::clone(budget),
        })
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.budget.release(self.data.len() as u64);
    }
}
