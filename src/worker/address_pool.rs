//! The node's addresses, shared by its pods: waits for the `podCIDR` that a controller gives the
//! node, and gives restored pods the address they had before.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::addresses::{Addresses, Error};

/// See the module.
pub struct AddressPool {
    state: Mutex<State>,
    ready: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    cidr: String,
    addresses: Option<Addresses>,
    /// Addresses of pods that were here before this process, until they take them or go.
    remembered: HashMap<String, IpAddr>,
}

impl AddressPool {
    /// `remembered` comes from the checkpoints.
    pub fn new(remembered: HashMap<String, IpAddr>) -> Self {
        Self {
            state: Mutex::new(State {
                remembered,
                ..State::default()
            }),
            ready: watch::Sender::new(false),
        }
    }

    /// Takes the node's `podCIDR`; a change starts a new book.
    pub fn set_cidr(&self, cidr: &str) -> Result<(), Error> {
        let mut state = self.lock();
        if state.cidr == cidr {
            return Ok(());
        }
        let mut addresses = Addresses::new(cidr)?;
        for (uid, ip) in &state.remembered {
            addresses.reserve(*ip, uid);
        }
        state.addresses = Some(addresses);
        cidr.clone_into(&mut state.cidr);
        drop(state);
        self.ready.send_replace(true);
        Ok(())
    }

    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Resolves when the node has a `podCIDR`.
    pub async fn ready(&self) {
        // The sender is this value's own: it cannot be gone.
        let _ = self.ready.subscribe().wait_for(|is_ready| *is_ready).await;
    }

    /// The pod's address: the one it had, or a new one. `None` while there is no `podCIDR`.
    pub fn allocate(&self, uid: &str) -> Option<Result<IpAddr, Error>> {
        let mut state = self.lock();
        let remembered = state.remembered.get(uid).copied();
        let addresses = state.addresses.as_mut()?;
        if let Some(ip) = remembered
            && addresses.reserve(ip, uid)
        {
            return Some(Ok(ip));
        }
        let allocated = addresses.allocate(uid);
        if let Ok(ip) = allocated {
            state.remembered.insert(uid.to_owned(), ip);
        }
        Some(allocated)
    }

    /// Takes a pod's address back.
    pub fn release(&self, uid: &str) {
        let mut state = self.lock();
        if let Some(ip) = state.remembered.remove(uid)
            && let Some(addresses) = &mut state.addresses
        {
            addresses.release(ip, uid);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_before_keep_their_address_and_new_ones_get_another() {
        let old: IpAddr = "10.64.0.2".parse().unwrap();
        let pool = AddressPool::new(HashMap::from([("old".to_owned(), old)]));
        assert!(pool.allocate("new").is_none());
        pool.set_cidr("10.64.0.0/24").unwrap();
        assert!(pool.is_ready());
        let new = pool.allocate("new").unwrap().unwrap();
        assert_ne!(new, old);
        assert_eq!(pool.allocate("new").unwrap().unwrap(), new, "asked again");
        assert_eq!(pool.allocate("old").unwrap().unwrap(), old);
        pool.release("old");
        pool.set_cidr("10.64.0.0/24").unwrap();
        assert_ne!(pool.allocate("third").unwrap().unwrap(), new);
        assert!(pool.set_cidr("nonsense").is_err());
    }
}
