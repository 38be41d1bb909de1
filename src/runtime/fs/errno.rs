//! What a file operation can fail with: POSIX's names, because every guest's libc knows them.
//!
//! The three faces translate this one enum into their own error codes; nothing in the core invents
//! a message, so a guest sees exactly what the same program would see on Linux. Errors of building
//! a sandbox (a volume that cannot be made) are [`super::Error`], with words for people.

/// Why a file operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Errno {
    #[error("permission denied")]
    Access,
    #[error("bad descriptor")]
    BadDescriptor,
    #[error("device or resource busy")]
    Busy,
    #[error("file exists")]
    Exist,
    #[error("file too large")]
    FileTooLarge,
    #[error("illegal byte sequence")]
    IllegalByteSequence,
    #[error("interrupted")]
    Interrupted,
    #[error("invalid argument")]
    Invalid,
    #[error("input/output error")]
    Io,
    #[error("is a directory")]
    IsDirectory,
    #[error("too many levels of symbolic links")]
    Loop,
    #[error("file name too long")]
    NameTooLong,
    #[error("no such file or directory")]
    NoEntry,
    #[error("not enough memory")]
    NoMemory,
    #[error("no space left on device")]
    NoSpace,
    #[error("not a directory")]
    NotDirectory,
    #[error("directory not empty")]
    NotEmpty,
    #[error("operation not permitted")]
    NotPermitted,
    #[error("value too large")]
    Overflow,
    #[error("disk quota exceeded")]
    Quota,
    #[error("read-only file system")]
    ReadOnly,
    #[error("text file busy")]
    TextFileBusy,
    #[error("too many links")]
    TooManyLinks,
    #[error("too many open files")]
    TooManyOpenFiles,
    #[error("not supported")]
    Unsupported,
    #[error("cross-device link")]
    CrossDevice,
}
