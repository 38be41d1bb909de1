//! Between the core's words and those of `wasi:filesystem` 0.3.

use std::time::{Duration, SystemTime};

use wasmtime_wasi::p3::bindings::clocks::system_clock::Instant;
use wasmtime_wasi::p3::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, NewTimestamp, OpenFlags,
};
use wasmtime_wasi::p3::filesystem::FilesystemError;

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
            Errno::NoMemory => Self::InsufficientMemory,
            Errno::NoSpace => Self::InsufficientSpace,
            Errno::NotDirectory => Self::NotDirectory,
            Errno::NotEmpty => Self::NotEmpty,
            Errno::NotPermitted => Self::NotPermitted,
            Errno::Overflow => Self::Overflow,
            Errno::Quota => Self::Quota,
            Errno::ReadOnly => Self::ReadOnly,
            Errno::TextFileBusy => Self::TextFileBusy,
            Errno::TooManyLinks => Self::TooManyLinks,
            Errno::TooManyOpenFiles => Self::Other(Some(errno.to_string())),
            Errno::Unsupported => Self::Unsupported,
        }
    }
}

impl From<Errno> for FilesystemError {
    fn from(errno: Errno) -> Self {
        ErrorCode::from(errno).into()
    }
}

pub(super) fn type_of(kind: Kind) -> DescriptorType {
    match kind {
        Kind::File => DescriptorType::RegularFile,
        Kind::Directory => DescriptorType::Directory,
        Kind::Symlink => DescriptorType::SymbolicLink,
    }
}

pub(super) fn flags_of(descriptor: &Descriptor) -> DescriptorFlags {
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

pub(super) fn open_options(follow: bool, open: OpenFlags, flags: DescriptorFlags) -> OpenOptions {
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

pub(super) fn stat(stat: Stat) -> DescriptorStat {
    DescriptorStat {
        type_: type_of(stat.kind),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: instant(stat.times.accessed),
        data_modification_timestamp: instant(stat.times.modified),
        status_change_timestamp: instant(stat.times.changed),
    }
}

/// Seconds count down before 1970, nanoseconds always up.
fn instant(time: SystemTime) -> Option<Instant> {
    let (seconds, nanoseconds) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).ok()?, since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let whole = -i64::try_from(before.as_secs()).ok()?;
            match before.subsec_nanos() {
                0 => (whole, 0),
                part => (whole - 1, 1_000_000_000 - part),
            }
        }
    };
    Some(Instant {
        seconds,
        nanoseconds,
    })
}

pub(super) fn new_time(time: NewTimestamp) -> Result<NewTime, Errno> {
    match time {
        NewTimestamp::NoChange => Ok(NewTime::Keep),
        NewTimestamp::Now => Ok(NewTime::Now),
        NewTimestamp::Timestamp(time) => {
            let seconds = Duration::from_secs(time.seconds.unsigned_abs());
            let epoch = SystemTime::UNIX_EPOCH;
            let whole = if time.seconds < 0 {
                epoch.checked_sub(seconds)
            } else {
                epoch.checked_add(seconds)
            };
            let part = Duration::from_nanos(time.nanoseconds.into());
            whole
                .and_then(|whole| whole.checked_add(part))
                .map(NewTime::At)
                .ok_or(Errno::Overflow)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_survive() {
        for (seconds, nanoseconds) in [(0, 0), (5, 7), (-1, 0), (-1, 999_999_999), (-2, 1)] {
            let wanted = NewTimestamp::Timestamp(Instant {
                seconds,
                nanoseconds,
            });
            let Ok(NewTime::At(time)) = new_time(wanted) else {
                panic!("{seconds} {nanoseconds} is a time");
            };
            let told = instant(time).unwrap();
            assert_eq!((told.seconds, told.nanoseconds), (seconds, nanoseconds));
        }
    }
}
