//! A filesystem on a directory of the host: the same type as every other, with [`Host`] in it.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::{Host, HostNode};
use crate::clock::Clock;
use crate::runtime::budget::Budget;
use crate::runtime::fs::errno::Errno;
use crate::runtime::fs::inode::{Body, Inode};
use crate::runtime::fs::mem::Filesystem;
use crate::runtime::fs::quota::Quota;

impl Filesystem {
    /// A filesystem whose inodes are those of a directory of the host.
    pub(in crate::runtime::fs) fn on_host(
        device: u64,
        quota: Quota,
        clock: Clock,
        host: Host,
    ) -> Arc<Self> {
        let origin = clock.now().into();
        Arc::new(Self {
            device,
            quota,
            clock,
            origin,
            next_inode: AtomicU64::new(1),
            tree: Mutex::default(),
            alone: Mutex::default(),
            host: Some(host),
        })
    }

    pub(in crate::runtime::fs) fn host(&self) -> Result<&Host, Errno> {
        self.host.as_ref().ok_or(Errno::Unsupported)
    }

    pub(in crate::runtime::fs) fn is_limited_host(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.is_limited)
    }

    pub(in crate::runtime::fs) fn contents(&self) -> &Budget {
        &self.quota.contents
    }

    pub(in crate::runtime::fs) fn inodes(&self) -> &Budget {
        &self.quota.inodes
    }

    pub(in crate::runtime::fs) fn host_inode(
        self: &Arc<Self>,
        number: u64,
        node: HostNode,
    ) -> Arc<Inode> {
        self.numbered(number, Body::Host(node), 1, Vec::new(), self.origin)
    }

    pub(in crate::runtime::fs) fn forget(&self, number: u64) {
        if let Some(host) = &self.host {
            host.forget(number);
        }
    }
}
