//! Descriptors of the host that guests' sockets cost.
//!
//! A virtual socket costs none. A connection or datagram stream that leads to another worker or out of
//! the cluster has a real socket behind it, and the worker's own work (routers, logs, modules, disks)
//! needs descriptors, too. So guests together get half of what the process may open, and one pod a
//! quarter of that; who finds none is told that there are too many sockets.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Error;

/// What is assumed where the system sets no limit.
const UNLIMITED: u64 = 1 << 20;
/// One pod gets so much of what all pods of the worker get.
const SHARE: usize = 4;

/// What the pods of a worker have together.
pub(super) struct Pool {
    places: Arc<Semaphore>,
    size: usize,
}

/// What one pod has of it.
pub(super) struct Descriptors {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// A descriptor that may be opened; given back when dropped.
pub(super) struct Descriptor {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Pool {
    /// By the limit of this process as it is now.
    pub(super) fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
        Self::new(usize::try_from(limit / 2).unwrap_or(usize::MAX))
    }

    fn new(size: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(size)),
            size,
        }
    }

    /// One more pod's share.
    pub(super) fn share(&self) -> Descriptors {
        Descriptors {
            all: Arc::clone(&self.places),
            own: Arc::new(Semaphore::new((self.size / SHARE).max(1))),
        }
    }
}

impl Descriptors {
    pub(super) fn take(&self) -> Result<Descriptor, Error> {
        let take = |places: &Arc<Semaphore>| {
            let place = Arc::clone(places).try_acquire_owned();
            place.map_err(|_| Error::NewSocketLimit)
        };
        Ok(Descriptor {
            _own: take(&self.own)?,
            _all: take(&self.all)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_a_share_and_all_have_an_end() {
        let pool = Pool::new(8);
        let pods: Vec<_> = (0..5).map(|_| pool.share()).collect();
        let mut held = Vec::new();
        for pod in &pods[..4] {
            held.extend([pod.take(), pod.take()].map(Result::unwrap));
            assert_eq!(pod.take().err(), Some(Error::NewSocketLimit), "its share");
        }
        assert_eq!(pods[4].take().err(), Some(Error::NewSocketLimit), "of all");
        drop(held.pop());
        assert!(pods[4].take().is_ok());
        assert!(Pool::of_this_process().size > 0);
    }
}
