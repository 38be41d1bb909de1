//! Who owns an endpoint, and what its death means.
//!
//! Ports, listeners and connection ends belong to one run of one container, its *incarnation*.
//! When the [`Incarnation`] is dropped — exit, trap, kill, restart — all its ports are free and all
//! its peers see a reset, whatever half-dropped guest state still holds handles to them; and no
//! later call can register anything new. The registry holds plain entries, not callbacks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::conn::Link;
use super::error::Error;
use super::pod_net::PodNet;
use crate::runtime::spec::Protocol;

/// What ends with its owner.
pub(super) enum Endpoint {
    Port {
        net: Weak<PodNet>,
        protocol: Protocol,
        addr: SocketAddr,
        id: u64,
    },
    Link(Arc<Link>),
}

#[derive(Default)]
struct Registry {
    dead: bool,
    next: u64,
    endpoints: HashMap<u64, Endpoint>,
}

#[derive(Default)]
struct State(Mutex<Registry>);

impl State {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run of one container; its drop frees all it owned.
#[derive(Default)]
pub struct Incarnation(Owner);

impl Incarnation {
    /// A new run that owns nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token to open sockets with.
    pub fn owner(&self) -> &Owner {
        &self.0
    }
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        let mut registry = self.0.0.lock();
        registry.dead = true;
        let endpoints = std::mem::take(&mut registry.endpoints);
        drop(registry);
        for endpoint in endpoints.into_values() {
            match endpoint {
                Endpoint::Port {
                    net,
                    protocol,
                    addr,
                    id,
                } => {
                    if let Some(net) = net.upgrade() {
                        net.release(protocol, addr, id);
                    }
                }
                Endpoint::Link(link) => link.reset(),
            }
        }
    }
}

/// The right to own endpoints in the name of an incarnation; cheap to clone.
#[derive(Clone, Default)]
pub struct Owner(Arc<State>);

impl Owner {
    /// Whether the incarnation has ended.
    pub fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    pub(super) fn register_link(&self, link: Arc<Link>) -> Result<Registration, Error> {
        self.register(Endpoint::Link(link))
    }

    pub(super) fn register(&self, endpoint: Endpoint) -> Result<Registration, Error> {
        let mut registry = self.0.lock();
        if registry.dead {
            return Err(Error::ConnectionAborted);
        }
        let id = registry.next;
        registry.next += 1;
        registry.endpoints.insert(id, endpoint);
        drop(registry);
        Ok(Registration {
            state: Arc::clone(&self.0),
            id,
        })
    }
}

/// An entry in the owner's registry, removed on drop.
pub(super) struct Registration {
    state: Arc<State>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let endpoint = self.state.lock().endpoints.remove(&self.id);
        // Outside the lock: an endpoint's own drop may take other locks.
        drop(endpoint);
    }
}
