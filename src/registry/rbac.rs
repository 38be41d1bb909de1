//! Rights by roles: who may do what, as Roles, ClusterRoles and their bindings say.
//!
//! [`index`] holds the four kinds by scope and subject, so that a question costs a few look-ups and
//! never a list; [`feed`] keeps it current by reading the store's log whenever somebody asks. A
//! question therefore sees every write that was answered before it was asked: whoever has made a
//! binding may use it at once, and whoever has lost one has lost it at once.
//!
//! Rules are matched and compared in [`rule`], without any state. [`escalation`] is the admission
//! rule that nobody hands out what he has not got; [`bootstrap`] is what every cluster starts with.
//!
//! Rights only add up: there are no denials, and what cannot be read grants nothing.

pub(super) mod bootstrap;
pub(super) mod escalation;
mod feed;
mod index;
pub(crate) mod rule;

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::Registry;
use super::options::Caller;
use crate::store::Store;
use feed::Feed;
use index::Index;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do to a resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    Resource(Attributes<'a>),
    /// A path that is no resource.
    Path {
        verb: &'a str,
        path: &'a str,
    },
}

/// Why somebody may, or what was found amiss while no reason was found.
pub(crate) type Decision = Result<String, Option<String>>;

/// The roles of the cluster, ready to be asked.
///
/// Every request asks. Reading the log is a few comparisons and one at a time; questions, which a
/// large role makes long, do not wait for each other.
pub(crate) struct Rbac {
    feed: Mutex<Feed>,
    index: RwLock<Index>,
}

impl Rbac {
    pub(super) fn new(store: Store) -> Self {
        Self {
            feed: Mutex::new(Feed::new(store)),
            index: RwLock::default(),
        }
    }

    fn current(&self) -> RwLockReadGuard<'_, Index> {
        // A panic in between leaves the feed unopened or the index whole: each change is one insertion.
        let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        feed.drain(&self.index);
        drop(feed);
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether roles allow it. `Ok` says by which binding.
    pub(crate) fn decide(&self, caller: &Caller, wanted: Wanted<'_>) -> Decision {
        self.current().decide(caller, wanted)
    }

    /// Everything that roles allow the caller in a namespace, cluster-wide rights included.
    pub(crate) fn rules_for(&self, caller: &Caller, namespace: Option<&str>) -> Vec<PolicyRule> {
        self.current().rules_for(caller, namespace)
    }

    /// The rules of a role, or of a cluster role where `namespace` is `None`.
    fn rules_of(&self, namespace: Option<&str>, name: &str) -> Option<Vec<PolicyRule>> {
        self.current().rules_of(namespace, name)
    }
}

impl Registry {
    /// Rights by roles.
    pub(crate) fn rbac(&self) -> &Rbac {
        &self.shared.rbac
    }
}

#[cfg(test)]
mod tests;
