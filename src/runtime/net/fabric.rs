//! All pod networks of one worker: who has which address, and what is around them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::cluster::ClusterNetwork;
use super::descriptors::Pool;
use super::error::Error;
use super::pod_net::{PodNet, PodNetConfig};
use super::policy::Egress;
use crate::api::subnet::Subnet;
use crate::tasks::TaskGroup;

/// What a fabric is made of.
pub struct FabricConfig {
    /// The cluster around this worker.
    pub cluster: Arc<dyn ClusterNetwork>,
    /// Owns the tasks that pump connections leaving the worker, and name look-ups.
    pub tasks: TaskGroup,
    /// The address that host-side dials (probes, wire, port-forward) come from, as guests see it.
    pub host_ip: IpAddr,
    /// Addresses that no guest may reach on the host plane, besides those that never may.
    pub denied: Vec<Subnet>,
    /// For tests without an outside: addresses out there, and where each is found instead.
    pub stand_ins: Vec<(SocketAddr, SocketAddr)>,
}

impl FabricConfig {
    /// The usual: host-side dials come from 169.254.0.1, nothing denied beyond the rule.
    pub fn new(cluster: Arc<dyn ClusterNetwork>, tasks: TaskGroup) -> Self {
        Self {
            cluster,
            tasks,
            host_ip: Ipv4Addr::new(169, 254, 0, 1).into(),
            denied: Vec::new(),
            stand_ins: Vec::new(),
        }
    }
}

/// See the module.
pub struct Fabric {
    pods: RwLock<HashMap<IpAddr, Weak<PodNet>>>,
    pub(super) cluster: Arc<dyn ClusterNetwork>,
    pub(super) tasks: TaskGroup,
    pub(super) host_ip: IpAddr,
    pub(super) egress: Egress,
    pub(super) descriptors: Pool,
}

impl Fabric {
    /// An empty fabric.
    pub fn new(config: FabricConfig) -> Arc<Self> {
        Arc::new(Self {
            pods: RwLock::default(),
            cluster: config.cluster,
            tasks: config.tasks,
            host_ip: config.host_ip,
            egress: Egress::new(config.denied, config.stand_ins),
            descriptors: Pool::of_this_process(),
        })
    }

    /// Makes a pod's network. Its address must be free; it is again when the network is dropped.
    pub fn create_pod(self: &Arc<Self>, config: PodNetConfig) -> Result<Arc<PodNet>, Error> {
        let ip = config.ip;
        if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
            return Err(Error::AddressNotBindable);
        }
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        if pods.get(&ip).is_some_and(|pod| pod.strong_count() > 0) {
            return Err(Error::AddressInUse);
        }
        let net = PodNet::new(Arc::clone(self), config);
        pods.insert(ip, Arc::downgrade(&net));
        Ok(net)
    }

    /// The pod with an address, if it runs on this worker.
    pub fn pod(&self, ip: IpAddr) -> Option<Arc<PodNet>> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        pods.get(&ip)?.upgrade()
    }

    /// Forgets an address although its network is still held somewhere.
    pub(super) fn remove(&self, ip: IpAddr, net: *const PodNet) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        if pods.get(&ip).is_some_and(|pod| pod.as_ptr() == net) {
            pods.remove(&ip);
        }
    }

    /// Forgets an address whose network is gone, unless another pod took it meanwhile.
    pub(super) fn forget(&self, ip: IpAddr) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        if pods.get(&ip).is_some_and(|pod| pod.strong_count() == 0) {
            pods.remove(&ip);
        }
    }
}
