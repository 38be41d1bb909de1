//! Rights: what `fd_fdstat_get` tells about a descriptor.
//!
//! They are computed from what a descriptor can really do, never stored: a program that reads them
//! to decide (wasi-libc does for `isatty`) gets the truth, and nothing has to be kept in step.

use super::table::Object;
use crate::runtime::fs::Access;

const fn bits(numbers: &[u32]) -> u64 {
    let mut bits = 0;
    let mut index = 0;
    while index < numbers.len() {
        bits |= 1 << numbers[index];
        index += 1;
    }
    bits
}

pub(super) const FD_READ: u64 = 1 << 1;
pub(super) const FD_WRITE: u64 = 1 << 6;

/// datasync, seek, fdstat_set_flags, sync, tell, advise, allocate, filestat_get, filestat_set_times,
/// poll_fd_readwrite.
const FILE: u64 = bits(&[0, 2, 3, 4, 5, 7, 8, 21, 23, 27]);
/// filestat_set_size.
const FILE_WRITE: u64 = FD_WRITE | bits(&[22]);
/// path_open, readdir, readlink, path_filestat_get, filestat_get.
const DIRECTORY: u64 = bits(&[13, 14, 15, 18, 21]);
/// create_directory, create_file, link_source, link_target, rename_source, rename_target,
/// path_filestat_set_times, filestat_set_times, symlink, remove_directory, unlink_file.
const MUTATE: u64 = bits(&[9, 10, 11, 12, 16, 17, 20, 23, 24, 25, 26]);
/// fdstat_set_flags, filestat_get, poll_fd_readwrite, sock_accept.
const LISTENER: u64 = bits(&[3, 21, 27, 29]);
/// fdstat_set_flags, filestat_get, poll_fd_readwrite, sock_shutdown.
const CONNECTION: u64 = FD_READ | FD_WRITE | bits(&[3, 21, 27, 28]);
const POLL: u64 = bits(&[27]);

/// A descriptor's own rights, and those of what is opened through it.
pub(super) fn of(object: &Object) -> (u64, u64) {
    let base = match object {
        Object::Input(_) => FD_READ | POLL,
        Object::Output(_) => FD_WRITE | POLL,
        Object::File(file) => file_rights(file.descriptor.access()),
        Object::Directory(directory) => {
            let mutate = directory.descriptor.access().mutate;
            let base = DIRECTORY | if mutate { MUTATE } else { 0 };
            let access = Access {
                read: true,
                write: mutate,
                ..directory.descriptor.access()
            };
            return (base, base | file_rights(access));
        }
        Object::Listener(_) => return (LISTENER, CONNECTION),
        Object::Connection(_) => CONNECTION,
    };
    (base, base)
}

fn file_rights(access: Access) -> u64 {
    let read = if access.read { FD_READ } else { 0 };
    let write = if access.write { FILE_WRITE } else { 0 };
    FILE | read | write
}
