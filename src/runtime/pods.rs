//! Which pods run in this worker, by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::sandbox::PodSandbox;

/// See the module. A sandbox is listed until it is closed or dropped.
#[derive(Default)]
pub(super) struct Pods(RwLock<HashMap<IpAddr, Weak<PodSandbox>>>);

impl Pods {
    pub(super) fn insert(&self, ip: IpAddr, pod: &Arc<PodSandbox>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(ip, Arc::downgrade(pod));
    }

    pub(super) fn find(&self, ip: IpAddr) -> Option<Arc<PodSandbox>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&ip)?
            .upgrade()
    }

    /// Forgets `pod`, unless its address is another's by now.
    pub(super) fn remove(&self, ip: IpAddr, pod: *const PodSandbox) {
        let mut pods = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if pods.get(&ip).is_some_and(|listed| listed.as_ptr() == pod) {
            pods.remove(&ip);
        }
    }
}
