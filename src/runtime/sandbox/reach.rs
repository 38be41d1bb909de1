//! Reaching into a pod from outside: by its sockets, and by calling its handlers directly.
//!
//! Two doors, because a pod that is being stopped refuses everybody but the worker itself, which
//! still asks its hooks.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use super::{ContainerHandle, PodSandbox};
use crate::runtime::http::Handler;
use crate::runtime::net::{Conn, PodNet};
use crate::runtime::spec::Protocol;

impl PodSandbox {
    /// From now on nobody outside the pod gets a new connection or a request answered.
    pub fn refuse_outside(&self) {
        self.net.refuse_outside(true);
    }

    /// Whether the pod is on its way out: what does not listen any more will not listen again soon.
    pub fn is_leaving(&self) -> bool {
        self.net.is_refusing()
            || self.closed.is_cancelled()
            || self.containers().values().any(ContainerHandle::is_stopped)
    }

    /// A byte stream for the worker's own questions, also while others are refused.
    pub fn dial_inside(&self, port: u16) -> io::Result<Conn> {
        Ok(self.net.dial_inside(port)?)
    }

    /// A byte stream to whoever listens on the pod's loopback or its address.
    pub fn dial_local(&self, port: u16) -> io::Result<Conn> {
        Ok(self.net.dial_local(port)?)
    }

    /// A byte stream to whoever listens on the pod's address and `port`.
    pub fn dial(&self, port: u16) -> io::Result<Conn> {
        Ok(self.net.dial(port)?)
    }

    /// The handler that answers on that port, to be called without bytes on a wire; none for
    /// callers outside a pod that refuses them.
    pub fn http_handler(&self, port: u16) -> Option<Arc<Handler>> {
        let handler = self.handler_inside(port);
        handler.filter(|_| !self.net.is_refusing())
    }

    pub(in crate::runtime) fn handler(&self, port: u16) -> Option<Arc<Handler>> {
        self.http_handler(port)
    }

    /// The handler on that port for the worker's own questions.
    pub fn handler_inside(&self, port: u16) -> Option<Arc<Handler>> {
        self.handlers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&port)
            .cloned()
    }

    /// Where something listens.
    pub fn listening(&self) -> Vec<(SocketAddr, Protocol)> {
        self.net.listening()
    }

    /// The pod's network, for whoever needs more than [`PodSandbox::dial`].
    pub fn net(&self) -> &Arc<PodNet> {
        &self.net
    }
}
