//! Streams from the host into a pod: who asks decides which address is meant, and whether a pod that
//! is being stopped still answers.

use std::net::SocketAddr;

use super::conn::Conn;
use super::error::Error;
use super::options::{Family, Options};
use super::pod_net::{Client, PodNet};

impl PodNet {
    /// Opens a stream from the node itself to whoever listens on the pod's address and `port`. No
    /// rules are asked.
    pub fn dial(&self, port: u16) -> Result<Conn, Error> {
        let (client, to) = self.host_client(SocketAddr::new(self.fabric.host_ip, 0), port);
        self.deliver_from_outside(client, to)
    }

    /// The same for somebody elsewhere, whose address the guest sees as its peer and the pod's rules
    /// judge.
    pub fn dial_from(&self, from: SocketAddr, port: u16) -> Result<Conn, Error> {
        let (client, to) = self.host_client(from, port);
        self.deliver_from_peer(client, to)
    }

    fn host_client(&self, from: SocketAddr, port: u16) -> (Client, SocketAddr) {
        let to = SocketAddr::new(self.config.ip, port);
        let client = Client {
            local: from,
            shown: to,
            budget: None,
            options: Options::default(),
        };
        (client, to)
    }

    /// The same for the worker itself, which asks a pod's hooks also while it refuses others.
    pub fn dial_inside(&self, port: u16) -> Result<Conn, Error> {
        let (client, to) = self.host_client(SocketAddr::new(self.fabric.host_ip, 0), port);
        self.deliver(client, to)
    }

    /// A stream to whoever listens on the pod's loopback, else on its address, as a program of the
    /// pod would open it: for port-forward.
    pub fn dial_local(&self, port: u16) -> Result<Conn, Error> {
        let loopback = [Family::V4, Family::V6].map(Family::loopback);
        let mut result = Err(Error::ConnectionRefused);
        for ip in loopback.into_iter().chain([self.config.ip]) {
            let to = SocketAddr::new(ip, port);
            let client = Client {
                local: SocketAddr::new(ip, 0),
                shown: to,
                budget: None,
                options: Options::default(),
            };
            result = self.deliver(client, to);
            if !matches!(result, Err(Error::ConnectionRefused)) {
                break;
            }
        }
        result
    }
}
