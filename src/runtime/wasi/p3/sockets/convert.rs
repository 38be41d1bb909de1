//! The core's words in WASI 0.3's.

use wasmtime_wasi::p3::bindings::sockets::{
    ip_name_lookup,
    types::{ErrorCode, IpAddressFamily},
};
use wasmtime_wasi::p3::sockets::SocketError;

use crate::runtime::net::{Error, Family};

/// The error code for an error of the core.
pub(super) fn code(error: Error) -> ErrorCode {
    match error {
        Error::AddressInUse => ErrorCode::AddressInUse,
        Error::AddressNotBindable => ErrorCode::AddressNotBindable,
        Error::ConnectionRefused => ErrorCode::ConnectionRefused,
        Error::ConnectionReset => ErrorCode::ConnectionReset,
        Error::ConnectionAborted => ErrorCode::ConnectionAborted,
        Error::BrokenPipe => ErrorCode::ConnectionBroken,
        Error::RemoteUnreachable => ErrorCode::RemoteUnreachable,
        Error::TimedOut => ErrorCode::Timeout,
        Error::InvalidArgument => ErrorCode::InvalidArgument,
        Error::InvalidState => ErrorCode::InvalidState,
        Error::AccessDenied => ErrorCode::AccessDenied,
        Error::OutOfMemory => ErrorCode::OutOfMemory,
        Error::DatagramTooLarge => ErrorCode::DatagramTooLarge,
        Error::NotSupported => ErrorCode::NotSupported,
        // 0.3 has no words for these, but room for some.
        Error::NewSocketLimit
        | Error::WouldBlock
        | Error::NameUnresolvable
        | Error::TemporaryResolverFailure => ErrorCode::Other(Some(error.to_string())),
    }
}

/// The error of a trappable function.
pub(super) fn fail(error: Error) -> SocketError {
    code(error).into()
}

/// The error code of a name look-up.
pub(super) fn lookup_code(error: Error) -> ip_name_lookup::ErrorCode {
    match error {
        Error::InvalidArgument => ip_name_lookup::ErrorCode::InvalidArgument,
        Error::AccessDenied => ip_name_lookup::ErrorCode::AccessDenied,
        Error::TemporaryResolverFailure => ip_name_lookup::ErrorCode::TemporaryResolverFailure,
        _ => ip_name_lookup::ErrorCode::NameUnresolvable,
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
