//! The rules of one pod as they are now, and the questions that every way in and out asks them.
//!
//! Most pods have none: then an answer is one load. What a pod says to itself is never asked about,
//! nor what its own node says to it (probes, `exec`, `port-forward`): those ways do not come here.
//! Rules are asked when a connection is made; one that exists goes on. The exception is a connection
//! that was let in without a name for its other side ([`PodNet::isolated`]).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::dialer::Plane;
use super::error::Error;
use super::flows::Flows;
use super::pod_net::PodNet;
use super::rules::Rules;
use crate::runtime::spec::Protocol;

/// See the module.
#[derive(Default)]
pub(super) struct Guard {
    rules: ArcSwapOption<Rules>,
    changed: Notify,
    /// Who has sent datagrams to the pod, and whom it has sent to.
    received: Flows,
    sent: Flows,
}

impl PodNet {
    /// Replaces the rules; `None` opens both directions.
    pub fn set_rules(&self, rules: Option<Arc<Rules>>) {
        self.guard.rules.store(rules);
        self.guard.changed.notify_waiters();
    }

    /// Whether somebody at `from` may connect to a TCP port of the pod.
    pub fn lets_in(&self, from: IpAddr, port: u16) -> bool {
        match &*self.guard.rules.load() {
            None => true,
            // Whoever comes from a loopback address is a client of the router, on its machine.
            Some(rules) => from == self.ip() || rules.let_in(from, Protocol::Tcp, port),
        }
    }

    /// Whether the pod may connect to a TCP port at `to`.
    pub fn lets_out(&self, to: SocketAddr) -> bool {
        match &*self.guard.rules.load() {
            None => true,
            Some(rules) => self.is_own(to.ip()) || rules.let_out(to.ip(), Protocol::Tcp, to.port()),
        }
    }

    /// Whether it matters who connects to the pod.
    pub fn is_isolated(&self) -> bool {
        let rules = self.guard.rules.load();
        rules.as_ref().is_some_and(|rules| rules.ingress.is_some())
    }

    /// Resolves once it matters who connects to the pod.
    pub async fn isolated(&self) {
        let mut changed = std::pin::pin!(self.guard.changed.notified());
        loop {
            changed.as_mut().enable();
            if self.is_isolated() {
                return;
            }
            changed.as_mut().await;
            changed.set(self.guard.changed.notified());
        }
    }

    /// Refuses a connection that the pod may not open.
    pub(super) fn check_way_out(&self, plane: &Plane) -> Result<(), Error> {
        match plane {
            Plane::Lo(_) => Ok(()),
            Plane::Mesh(_, to) | Plane::Wire(to) | Plane::Host(to) if self.lets_out(*to) => Ok(()),
            Plane::Mesh(..) | Plane::Wire(_) | Plane::Host(_) => Err(Error::AccessDenied),
        }
    }

    /// The same for a datagram from the pod's `port`; answers pass.
    pub(super) fn check_datagram_out(&self, port: u16, plane: &Plane) -> Result<(), Error> {
        let guard = self.guard.rules.load();
        let Some(rules) = &*guard else { return Ok(()) };
        let to = match plane {
            Plane::Lo(_) => return Ok(()),
            Plane::Mesh(_, to) | Plane::Wire(to) | Plane::Host(to) => *to,
        };
        let now = Instant::now();
        if self.guard.received.answers(port, to, now) {
            return Ok(());
        }
        if !rules.let_out(to.ip(), Protocol::Udp, to.port()) {
            return Err(Error::AccessDenied);
        }
        self.guard.sent.remember(port, to, now);
        Ok(())
    }

    /// Refuses a datagram from another pod that is neither let in nor an answer.
    pub(super) fn check_datagram_in(&self, from: SocketAddr, port: u16) -> Result<(), Error> {
        let guard = self.guard.rules.load();
        let Some(rules) = &*guard else { return Ok(()) };
        let now = Instant::now();
        if self.guard.sent.answers(port, from, now) {
            return Ok(());
        }
        if !rules.let_in(from.ip(), Protocol::Udp, port) {
            return Err(Error::ConnectionRefused);
        }
        self.guard.received.remember(port, from, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
