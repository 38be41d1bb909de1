//! What can go wrong with a virtual socket: POSIX' errors as one small `Copy` enum.
//!
//! Each face of WASI maps these once to its own codes; host-side users see `io::Error` of the
//! matching kind. Nothing here carries data, because errors are part of normal socket life and
//! must cost nothing.

use std::io;

use crate::runtime::budget::Exceeded;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the operation would block")]
    WouldBlock,
    #[error("the address is in use")]
    AddressInUse,
    #[error("the address is not one of the pod's")]
    AddressNotBindable,
    #[error("connection refused")]
    ConnectionRefused,
    #[error("connection reset by peer")]
    ConnectionReset,
    #[error("connection aborted: the container that owned it has ended")]
    ConnectionAborted,
    #[error("broken pipe: nobody reads the other end")]
    BrokenPipe,
    #[error("the remote address is unreachable")]
    RemoteUnreachable,
    #[error("the connection attempt timed out")]
    TimedOut,
    #[error("invalid argument")]
    InvalidArgument,
    #[error("the socket is not in the state for this")]
    InvalidState,
    #[error("the pod's egress policy forbids this address")]
    AccessDenied,
    #[error("the pod's limit of open sockets is reached")]
    NewSocketLimit,
    #[error("the pod's memory limit leaves no room for a socket buffer")]
    OutOfMemory,
    #[error("the datagram is too large")]
    DatagramTooLarge,
    #[error("not supported")]
    NotSupported,
    #[error("no such name")]
    NameUnresolvable,
    #[error("the name could not be resolved now")]
    TemporaryResolverFailure,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::WouldBlock => io::ErrorKind::WouldBlock,
            Error::AddressInUse => io::ErrorKind::AddrInUse,
            Error::AddressNotBindable => io::ErrorKind::AddrNotAvailable,
            Error::ConnectionRefused => io::ErrorKind::ConnectionRefused,
            Error::ConnectionReset => io::ErrorKind::ConnectionReset,
            Error::ConnectionAborted => io::ErrorKind::ConnectionAborted,
            Error::BrokenPipe => io::ErrorKind::BrokenPipe,
            Error::RemoteUnreachable => io::ErrorKind::HostUnreachable,
            Error::TimedOut => io::ErrorKind::TimedOut,
            Error::InvalidArgument | Error::DatagramTooLarge => io::ErrorKind::InvalidInput,
            Error::InvalidState => io::ErrorKind::NotConnected,
            Error::AccessDenied => io::ErrorKind::PermissionDenied,
            Error::NewSocketLimit => io::ErrorKind::QuotaExceeded,
            Error::OutOfMemory => io::ErrorKind::OutOfMemory,
            Error::NotSupported => io::ErrorKind::Unsupported,
            Error::NameUnresolvable | Error::TemporaryResolverFailure => io::ErrorKind::NotFound,
        };
        Self::new(kind, error)
    }
}

impl From<&io::Error> for Error {
    /// What a guest is told when a connection that leaves the worker fails to open.
    fn from(error: &io::Error) -> Self {
        if let Some(own) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Self>())
        {
            return *own;
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset => Self::ConnectionReset,
            io::ErrorKind::ConnectionAborted => Self::ConnectionAborted,
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::PermissionDenied => Self::AccessDenied,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Self::RemoteUnreachable,
            _ => Self::ConnectionRefused,
        }
    }
}

impl From<Exceeded> for Error {
    fn from(_: Exceeded) -> Self {
        Self::OutOfMemory
    }
}
