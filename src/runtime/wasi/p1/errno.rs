//! Error numbers as `wasi_snapshot_preview1` counts them.

use crate::runtime::fs::errno::Errno;
use crate::runtime::net;

/// An error number; success is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) u16);

impl Code {
    pub(super) const ACCES: Self = Self(2);
    pub(super) const AGAIN: Self = Self(6);
    pub(super) const BADF: Self = Self(8);
    pub(super) const BUSY: Self = Self(10);
    pub(super) const CONNABORTED: Self = Self(13);
    pub(super) const CONNREFUSED: Self = Self(14);
    pub(super) const CONNRESET: Self = Self(15);
    pub(super) const DQUOT: Self = Self(19);
    pub(super) const EXIST: Self = Self(20);
    pub(super) const FBIG: Self = Self(22);
    pub(super) const HOSTUNREACH: Self = Self(23);
    pub(super) const ILSEQ: Self = Self(25);
    pub(super) const INTR: Self = Self(27);
    pub(super) const INVAL: Self = Self(28);
    pub(super) const IO: Self = Self(29);
    pub(super) const ISDIR: Self = Self(31);
    pub(super) const LOOP: Self = Self(32);
    pub(super) const MFILE: Self = Self(33);
    pub(super) const MLINK: Self = Self(34);
    pub(super) const MSGSIZE: Self = Self(35);
    pub(super) const NAMETOOLONG: Self = Self(37);
    pub(super) const NOENT: Self = Self(44);
    pub(super) const NOMEM: Self = Self(48);
    pub(super) const NOSPC: Self = Self(51);
    pub(super) const NOTDIR: Self = Self(54);
    pub(super) const NOTEMPTY: Self = Self(55);
    pub(super) const NOTSOCK: Self = Self(57);
    pub(super) const NOTSUP: Self = Self(58);
    pub(super) const OVERFLOW: Self = Self(61);
    pub(super) const PERM: Self = Self(63);
    pub(super) const PIPE: Self = Self(64);
    pub(super) const ROFS: Self = Self(69);
    pub(super) const SPIPE: Self = Self(70);
    pub(super) const TIMEDOUT: Self = Self(73);
    pub(super) const TXTBSY: Self = Self(74);
    pub(super) const XDEV: Self = Self(75);
}

impl From<Errno> for Code {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::Access => Self::ACCES,
            Errno::BadDescriptor => Self::BADF,
            Errno::Busy => Self::BUSY,
            Errno::CrossDevice => Self::XDEV,
            Errno::Exist => Self::EXIST,
            Errno::FileTooLarge => Self::FBIG,
            Errno::IllegalByteSequence => Self::ILSEQ,
            Errno::Interrupted => Self::INTR,
            Errno::Invalid => Self::INVAL,
            Errno::Io => Self::IO,
            Errno::IsDirectory => Self::ISDIR,
            Errno::Loop => Self::LOOP,
            Errno::NameTooLong => Self::NAMETOOLONG,
            Errno::NoEntry => Self::NOENT,
            Errno::NoMemory => Self::NOMEM,
            Errno::NoSpace => Self::NOSPC,
            Errno::NotDirectory => Self::NOTDIR,
            Errno::NotEmpty => Self::NOTEMPTY,
            Errno::NotPermitted => Self::PERM,
            Errno::Overflow => Self::OVERFLOW,
            Errno::Quota => Self::DQUOT,
            Errno::ReadOnly => Self::ROFS,
            Errno::TextFileBusy => Self::TXTBSY,
            Errno::TooManyLinks => Self::MLINK,
            Errno::TooManyOpenFiles => Self::MFILE,
            Errno::Unsupported => Self::NOTSUP,
        }
    }
}

impl From<net::Error> for Code {
    fn from(error: net::Error) -> Self {
        match error {
            net::Error::WouldBlock => Self::AGAIN,
            net::Error::ConnectionRefused => Self::CONNREFUSED,
            net::Error::ConnectionReset => Self::CONNRESET,
            net::Error::ConnectionAborted => Self::CONNABORTED,
            net::Error::BrokenPipe => Self::PIPE,
            net::Error::RemoteUnreachable => Self::HOSTUNREACH,
            net::Error::TimedOut => Self::TIMEDOUT,
            net::Error::InvalidArgument | net::Error::InvalidState => Self::INVAL,
            net::Error::AccessDenied => Self::ACCES,
            net::Error::NewSocketLimit => Self::MFILE,
            net::Error::OutOfMemory => Self::NOMEM,
            net::Error::DatagramTooLarge => Self::MSGSIZE,
            net::Error::NotSupported => Self::NOTSUP,
            // 0.1 can neither bind nor resolve.
            net::Error::AddressInUse
            | net::Error::AddressNotBindable
            | net::Error::NameUnresolvable
            | net::Error::TemporaryResolverFailure => Self::IO,
        }
    }
}
