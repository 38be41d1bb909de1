//! The core's words in WASI 0.2's.

use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};

use crate::runtime::net::{Error, Family};

/// The error code for an error of the core.
pub(super) fn code(error: Error) -> ErrorCode {
    match error {
        Error::WouldBlock => ErrorCode::WouldBlock,
        Error::AddressInUse => ErrorCode::AddressInUse,
        Error::AddressNotBindable => ErrorCode::AddressNotBindable,
        Error::ConnectionRefused => ErrorCode::ConnectionRefused,
        Error::ConnectionReset => ErrorCode::ConnectionReset,
        Error::ConnectionAborted => ErrorCode::ConnectionAborted,
        // 0.2 has no word for it; streams report it as closed.
        Error::BrokenPipe => ErrorCode::Unknown,
        Error::RemoteUnreachable => ErrorCode::RemoteUnreachable,
        Error::TimedOut => ErrorCode::Timeout,
        Error::InvalidArgument => ErrorCode::InvalidArgument,
        Error::InvalidState => ErrorCode::InvalidState,
        Error::AccessDenied => ErrorCode::AccessDenied,
        Error::NewSocketLimit => ErrorCode::NewSocketLimit,
        Error::OutOfMemory => ErrorCode::OutOfMemory,
        Error::DatagramTooLarge => ErrorCode::DatagramTooLarge,
        Error::NotSupported => ErrorCode::NotSupported,
        Error::NameUnresolvable => ErrorCode::NameUnresolvable,
        Error::TemporaryResolverFailure => ErrorCode::TemporaryResolverFailure,
    }
}

pub(super) fn family(family: IpAddressFamily) -> Family {
    match family {
        IpAddressFamily::Ipv4 => Family::V4,
        IpAddressFamily::Ipv6 => Family::V6,
    }
}

pub(super) fn wasi_family(family: Family) -> IpAddressFamily {
    match family {
        Family::V4 => IpAddressFamily::Ipv4,
        Family::V6 => IpAddressFamily::Ipv6,
    }
}
