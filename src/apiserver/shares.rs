//! Places that requests take, shared so that nobody takes all of them.
//!
//! Three rules, asked in one short step under one lock. Of the places, a few are kept for the
//! cluster's own workers and router, whose leases must go through whatever users do, and a few more for
//! masters. Of the rest, a user may hold no more than he leaves for others: alone half of them, and
//! whoever comes later always finds something. Masters alone are not held to that.
//!
//! Nobody waits here: who finds no place is told to come again.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::registry::Caller;

use super::error::Error;

/// The part of all places that each of the two reserves is.
const RESERVE: usize = 16;
/// The cluster's own machines.
const OWN: [&str; 2] = ["system:nodes", "system:routers"];

/// So many places of one kind.
#[derive(Clone)]
pub(crate) struct Shares(Arc<Inner>);

struct Inner {
    places: usize,
    hasher: RandomState,
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// By the hash of a user's name, which costs no allocation; those who hold nothing are not here.
    held: HashMap<u64, usize>,
}

/// Some places of a user, until it is dropped.
pub(crate) struct Permit {
    shares: Shares,
    user: u64,
    count: usize,
}

impl Shares {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Inner {
            places,
            hasher: RandomState::new(),
            state: Mutex::new(State {
                free: places,
                held: HashMap::new(),
            }),
        }))
    }

    /// A place for the caller.
    pub(crate) fn take(&self, caller: &Caller) -> Result<Permit, Error> {
        self.take_many(caller, 1)
    }

    /// Several places at once, or none.
    pub(crate) fn take_many(&self, caller: &Caller, count: usize) -> Result<Permit, Error> {
        let reserve = self.0.places / RESERVE;
        let is_own = OWN.iter().any(|group| caller.is_member(group));
        let kept = match (is_own, caller.is_master()) {
            (true, _) => 0,
            (false, true) => reserve,
            (false, false) => 2 * reserve,
        };
        let user = self.0.hasher.hash_one(caller.user.as_str());
        let mut state = self.lock();
        let left = state.free.saturating_sub(kept);
        let held = state.held.get(&user).copied().unwrap_or_default();
        let share = if caller.is_master() { 0 } else { held };
        if share + count > left {
            return Err(Error::Busy);
        }
        state.free -= count;
        state.held.insert(user, held + count);
        drop(state);
        Ok(Permit {
            shares: self.clone(),
            user,
            count,
        })
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.0.places - self.lock().free
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shares.lock();
        state.free += self.count;
        if let Some(held) = state.held.get_mut(&self.user) {
            *held -= self.count;
            if *held == 0 {
                state.held.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(user: &str, groups: &[&str]) -> Caller {
        Caller {
            user: user.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Caller::system("test")
        }
    }

    /// Takes until there is no place, and tells how many there were.
    fn fill(shares: &Shares, caller: &Caller) -> Vec<Permit> {
        std::iter::from_fn(|| shares.take(caller).ok()).collect()
    }

    #[test]
    fn nobody_takes_what_others_need() {
        let shares = Shares::new(160);
        let one = fill(&shares, &caller("one", &[]));
        assert_eq!(one.len(), 70, "half of what is not reserved");
        let two = fill(&shares, &caller("two", &[]));
        assert_eq!(two.len(), 35);
        assert!(!fill(&shares, &caller("three", &[])).is_empty());
        let admin = fill(&shares, &caller("admin", &["system:masters"]));
        assert!(shares.take(&caller("four", &[])).is_err());
        assert_eq!(admin.len(), 160 - 70 - 35 - 10);
        let node = shares.take(&caller("system:node:a", &["system:nodes"]));
        let router = shares.take(&caller("system:router", &["system:routers"]));
        assert!(node.is_ok() && router.is_ok());
        drop((one, two, admin, node, router));
        assert_eq!(shares.taken(), 0);
        assert!(shares.lock().held.is_empty());
    }

    #[test]
    fn several_places_are_taken_together_or_not() {
        let shares = Shares::new(10);
        let user = caller("one", &[]);
        let five = shares.take_many(&user, 5).unwrap();
        assert!(shares.take_many(&user, 1).is_err());
        assert_eq!(shares.taken(), 5);
        drop(five);
        assert!(shares.take_many(&user, 10).is_ok());
    }

    /// As few as a test of the server wants.
    #[test]
    fn one_place_is_anybodys() {
        let shares = Shares::new(1);
        let held = shares.take(&caller("one", &[])).unwrap();
        assert!(shares.take(&caller("admin", &["system:masters"])).is_err());
        drop(held);
        assert!(shares.take(&caller("one", &[])).is_ok());
    }
}
