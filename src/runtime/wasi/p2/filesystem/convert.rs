//! Between the core's words and those of `wasi:filesystem` 0.2.

use std::time::{Duration, SystemTime};

use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, NewTimestamp, OpenFlags,
};

use crate::runtime::fs::Descriptor;
use crate::runtime::fs::descriptor::{OpenOptions, Synchronized};
use crate::runtime::fs::errno::Errno;
use crate::runtime::fs::inode::{Kind, NewTime, Stat};

impl From<Errno> for ErrorCode {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::Access => Self::Access,
            Errno::BadDescriptor => Self::BadDescriptor,
            Errno::Busy => Self::Busy,
            Errno::CrossDevice => Self::CrossDevice,
            Errno::Exist => Self::Exist,
            Errno::FileTooLarge => Self::FileTooLarge,
            Errno::IllegalByteSequence => Self::IllegalByteSequence,
            Errno::Interrupted => Self::Interrupted,
            Errno::Invalid => Self::Invalid,
            Errno::Io => Self::Io,
            Errno::IsDirectory => Self::IsDirectory,
            Errno::Loop => Self::Loop,
            Errno::NameTooLong => Self::NameTooLong,
            Errno::NoEntry => Self::NoEntry,
            // There is no code for "too many open files".
            Errno::NoMemory | Errno::TooManyOpenFiles => Self::InsufficientMemory,
            Errno::NoSpace => Self::InsufficientSpace,
            Errno::NotDirectory => Self::NotDirectory,
            Errno::NotEmpty => Self::NotEmpty,
            Errno::NotPermitted => Self::NotPermitted,
            Errno::Overflow => Self::Overflow,
            Errno::Quota => Self::Quota,
            Errno::ReadOnly => Self::ReadOnly,
            Errno::TextFileBusy => Self::TextFileBusy,
            Errno::TooManyLinks => Self::TooManyLinks,
            Errno::Unsupported => Self::Unsupported,
        }
    }
}

impl From<Errno> for FsError {
    fn from(errno: Errno) -> Self {
        ErrorCode::from(errno).into()
    }
}

pub fn type_of(kind: Kind) -> DescriptorType {
    match kind {
        Kind::File => DescriptorType::RegularFile,
        Kind::Directory => DescriptorType::Directory,
        Kind::Symlink => DescriptorType::SymbolicLink,
    }
}

pub fn flags_of(descriptor: &Descriptor) -> DescriptorFlags {
    let access = descriptor.access();
    let is_directory = descriptor.kind() == Kind::Directory;
    let given = [
        (access.read, DescriptorFlags::READ),
        (access.write, DescriptorFlags::WRITE),
        (
            is_directory && access.tells_mutate,
            DescriptorFlags::MUTATE_DIRECTORY,
        ),
        (
            access.synchronized.data,
            DescriptorFlags::DATA_INTEGRITY_SYNC,
        ),
        (
            access.synchronized.file,
            DescriptorFlags::FILE_INTEGRITY_SYNC,
        ),
        (
            access.synchronized.reads,
            DescriptorFlags::REQUESTED_WRITE_SYNC,
        ),
    ];
    let mut flags = DescriptorFlags::empty();
    for (_, flag) in given.into_iter().filter(|(given, _)| *given) {
        flags |= flag;
    }
    flags
}

pub fn open_options(follow: bool, open: OpenFlags, flags: DescriptorFlags) -> OpenOptions {
    OpenOptions {
        follow,
        create: open.contains(OpenFlags::CREATE),
        exclusive: open.contains(OpenFlags::EXCLUSIVE),
        truncate: open.contains(OpenFlags::TRUNCATE),
        directory: open.contains(OpenFlags::DIRECTORY),
        read: flags.contains(DescriptorFlags::READ),
        write: flags.contains(DescriptorFlags::WRITE),
        mutate: flags.contains(DescriptorFlags::MUTATE_DIRECTORY),
        synchronized: Synchronized {
            data: flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC),
            file: flags.contains(DescriptorFlags::FILE_INTEGRITY_SYNC),
            reads: flags.contains(DescriptorFlags::REQUESTED_WRITE_SYNC),
        },
    }
}

pub fn stat(stat: Stat) -> DescriptorStat {
    DescriptorStat {
        type_: type_of(stat.kind),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: datetime(stat.times.accessed),
        data_modification_timestamp: datetime(stat.times.modified),
        status_change_timestamp: datetime(stat.times.changed),
    }
}

/// Times before 1970 cannot be told in 0.2 and are left out.
fn datetime(time: SystemTime) -> Option<Datetime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Datetime {
        seconds: since.as_secs(),
        nanoseconds: since.subsec_nanos(),
    })
}

pub fn new_time(time: NewTimestamp) -> Result<NewTime, Errno> {
    match time {
        NewTimestamp::NoChange => Ok(NewTime::Keep),
        NewTimestamp::Now => Ok(NewTime::Now),
        NewTimestamp::Timestamp(time) => {
            let nanoseconds = Duration::from_nanos(time.nanoseconds.into());
            Duration::from_secs(time.seconds)
                .checked_add(nanoseconds)
                .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
                .map(NewTime::At)
                .ok_or(Errno::Overflow)
        }
    }
}
