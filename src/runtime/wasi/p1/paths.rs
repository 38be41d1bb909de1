//! Functions that take a path.

use wasmtime::{Caller, Linker};

use super::call::{Get, Result, call};
use super::descriptors::{APPEND, DSYNC, FDFLAGS, NONBLOCK, RSYNC, SYNC, filestat, new_times};
use super::errno::Code;
use super::guest::Guest;
use super::rights::{FD_READ, FD_WRITE};
use super::table::{Directory, File, Object, Slot};
use super::{MODULE, P1};
use crate::runtime::fs::descriptor::{OpenOptions, Synchronized};
use crate::runtime::fs::inode::Kind;

pub(super) fn add<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    add_open(linker, get)?;
    add_stats(linker, get)?;
    add_links(linker, get)?;
    add_changes(linker, get)
}

/// The arguments of `path_open`.
struct Open {
    fd: u32,
    lookup: u32,
    path: (u32, u32),
    flags: u32,
    rights: u64,
    fd_flags: u32,
}

fn add_open<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "path_open",
        move |mut caller: Caller<'_, T>,
              fd: u32,
              lookup: u32,
              pointer: u32,
              length: u32,
              flags: u32,
              rights: u64,
              _inheriting: u64,
              fd_flags: u32,
              out: u32| {
            call(&mut caller, get, |p1, guest| {
                let open = Open {
                    fd,
                    lookup,
                    path: (pointer, length),
                    flags,
                    rights,
                    fd_flags,
                };
                let opened = p1.open(guest, &open)?;
                guest.put_u32(out, opened)
            })
        },
    )?;
    Ok(())
}

fn add_stats<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "path_filestat_get",
        move |mut caller: Caller<'_, T>, fd: u32, lookup: u32, path: u32, length: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                let path = guest.path(path, length)?;
                let directory = &p1.table.directory(fd)?.descriptor;
                let stat = directory.stat_at(path, follow(lookup)?)?;
                guest.put(out, &filestat(&stat))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_filestat_set_times",
        move |mut caller: Caller<'_, T>,
              fd: u32,
              lookup: u32,
              path: u32,
              length: u32,
              accessed: u64,
              modified: u64,
              flags: u32| {
            call(&mut caller, get, |p1, guest| {
                let path = guest.path(path, length)?;
                let (accessed, modified) = new_times(accessed, modified, flags)?;
                let directory = &p1.table.directory(fd)?.descriptor;
                Ok(directory.set_times_at(path, follow(lookup)?, accessed, modified)?)
            })
        },
    )?;
    Ok(())
}

fn add_links<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "path_link",
        move |mut caller: Caller<'_, T>,
              fd: u32,
              lookup: u32,
              path: u32,
              length: u32,
              new_fd: u32,
              new_path: u32,
              new_length: u32| {
            call(&mut caller, get, |p1, guest| {
                if follow(lookup)? {
                    return Err(Code::INVAL.into());
                }
                let path = guest.path(path, length)?;
                let new_path = guest.path(new_path, new_length)?;
                let new = &p1.table.directory(new_fd)?.descriptor;
                let directory = &p1.table.directory(fd)?.descriptor;
                Ok(directory.link_at(path, new, new_path)?)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_symlink",
        move |mut caller: Caller<'_, T>,
              target: u32,
              target_length: u32,
              fd: u32,
              path: u32,
              length: u32| {
            call(&mut caller, get, |p1, guest| {
                let target = guest.path(target, target_length)?;
                let path = guest.path(path, length)?;
                let directory = &p1.table.directory(fd)?.descriptor;
                Ok(directory.symlink_at(target, path)?)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_readlink",
        move |mut caller: Caller<'_, T>,
              fd: u32,
              path: u32,
              length: u32,
              buffer: u32,
              size: u32,
              out: u32| {
            call(&mut caller, get, |p1, guest| {
                let path = guest.path(path, length)?;
                let target = p1.table.directory(fd)?.descriptor.read_link_at(path)?;
                let count = target.len().min(size as usize);
                guest.put(buffer, &target.as_bytes()[..count])?;
                guest.put_u32(out, count as u32)
            })
        },
    )?;
    Ok(())
}

fn add_changes<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "path_create_directory",
        move |mut caller: Caller<'_, T>, fd: u32, path: u32, length: u32| {
            call(&mut caller, get, |p1, guest| {
                let path = guest.path(path, length)?;
                let directory = &p1.table.directory(fd)?.descriptor;
                Ok(directory.create_directory_at(path)?)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_remove_directory",
        move |mut caller: Caller<'_, T>, fd: u32, path: u32, length: u32| {
            call(&mut caller, get, |p1, guest| {
                let path = guest.path(path, length)?;
                let directory = &p1.table.directory(fd)?.descriptor;
                Ok(directory.remove_directory_at(path)?)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_unlink_file",
        move |mut caller: Caller<'_, T>, fd: u32, path: u32, length: u32| {
            call(&mut caller, get, |p1, guest| {
                let path = guest.path(path, length)?;
                let directory = &p1.table.directory(fd)?.descriptor;
                Ok(directory.unlink_at(path)?)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_rename",
        move |mut caller: Caller<'_, T>,
              fd: u32,
              path: u32,
              length: u32,
              new_fd: u32,
              new_path: u32,
              new_length: u32| {
            call(&mut caller, get, |p1, guest| {
                let path = guest.path(path, length)?;
                let new_path = guest.path(new_path, new_length)?;
                let new = &p1.table.directory(new_fd)?.descriptor;
                let directory = &p1.table.directory(fd)?.descriptor;
                Ok(directory.rename_at(path, new, new_path)?)
            })
        },
    )?;
    Ok(())
}

impl P1 {
    fn open(&mut self, guest: &Guest<'_>, open: &Open) -> Result<u32> {
        if open.flags & !0b1111 != 0 || open.fd_flags & !FDFLAGS != 0 {
            return Err(Code::INVAL.into());
        }
        self.table.check_room()?;
        let path = guest.path(open.path.0, open.path.1)?;
        let options = OpenOptions {
            follow: follow(open.lookup)?,
            create: open.flags & 1 != 0,
            directory: open.flags & 2 != 0,
            exclusive: open.flags & 4 != 0,
            truncate: open.flags & 8 != 0,
            read: open.rights & FD_READ != 0,
            write: open.rights & FD_WRITE != 0,
            mutate: false,
            synchronized: Synchronized {
                data: open.fd_flags & DSYNC != 0,
                file: open.fd_flags & SYNC != 0,
                reads: open.fd_flags & RSYNC != 0,
            },
        };
        let descriptor = self
            .table
            .directory(open.fd)?
            .descriptor
            .open_at(path, options)?;
        let object = match descriptor.kind() {
            Kind::Directory => Object::Directory(Directory {
                descriptor,
                preopen: None,
            }),
            Kind::File | Kind::Symlink => Object::File(File {
                descriptor,
                position: 0,
                append: open.fd_flags & APPEND != 0,
            }),
        };
        self.table.push(Slot {
            object,
            nonblock: open.fd_flags & NONBLOCK != 0,
        })
    }
}

/// Decodes `lookupflags`.
pub(super) fn follow(lookup: u32) -> Result<bool> {
    match lookup {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Code::INVAL.into()),
    }
}
