//! Why a worker cannot start; what happens later is told where it happens.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::{checkpoint, claim, server};
use crate::runtime;

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{0} can be reached from other machines, and workers have no certificates for that yet; use a loopback address"
    )]
    NotLoopback(IpAddr),
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Server(#[from] server::Error),
    #[error("start the runtime")]
    Runtime(#[source] runtime::Error),
    #[error("open the image directory")]
    Images(#[source] io::Error),
    #[error("start the thread that writes logs")]
    Logs(#[source] io::Error),
    #[error(transparent)]
    Checkpoints(#[from] checkpoint::Error),
    #[error(transparent)]
    Claim(#[from] claim::Error),
    #[error("start the wire's threads")]
    Wire(#[source] io::Error),
    #[error("the worker was stopped before it had started")]
    Stopped,
}
