//! What can be asked of a descriptor besides its data.

use std::time::{Duration, SystemTime};

use wasmtime::{Caller, Linker};

use super::MODULE;
use super::call::{Get, Result, call};
use super::errno::Code;
use super::process::nanoseconds;
use super::rights;
use super::table::{Object, Slot, Table};
use crate::runtime::fs::Descriptor;
use crate::runtime::fs::descriptor::Synchronized;
use crate::runtime::fs::errno::Errno;
use crate::runtime::fs::inode::{Kind, NewTime, Stat};

/// `fdflags`.
pub(super) const APPEND: u32 = 1;
pub(super) const NONBLOCK: u32 = 4;
pub(super) const DSYNC: u32 = 2;
pub(super) const RSYNC: u32 = 8;
pub(super) const SYNC: u32 = 16;
pub(super) const FDFLAGS: u32 = APPEND | NONBLOCK | SYNCHRONIZED;
const SYNCHRONIZED: u32 = DSYNC | RSYNC | SYNC;

pub(super) fn add<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    add_states(linker, get)?;
    add_stats(linker, get)?;
    add_preopens(linker, get)?;
    add_positions(linker, get)
}

/// `fd_sync` or `fd_datasync`.
type Flush = fn(&Descriptor) -> std::result::Result<(), Errno>;

fn add_states<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "fd_close",
        move |mut caller: Caller<'_, T>, fd: u32| {
            call(&mut caller, get, |p1, _| p1.table.close(fd))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_renumber",
        move |mut caller: Caller<'_, T>, from: u32, to: u32| {
            call(&mut caller, get, |p1, _| p1.table.renumber(from, to))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_get",
        move |mut caller: Caller<'_, T>, fd: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                let is_terminal = p1.is_terminal;
                guest.put(out, &fdstat(p1.table.get(fd)?, is_terminal))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_flags",
        move |mut caller: Caller<'_, T>, fd: u32, flags: u32| {
            call(&mut caller, get, |p1, _| {
                set_flags(p1.table.get_mut(fd)?, flags)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_rights",
        move |mut caller: Caller<'_, T>, fd: u32, _base: u64, _inheriting: u64| {
            call(&mut caller, get, |p1, _| {
                p1.table.get(fd)?;
                Err(Code::NOTSUP.into())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_advise",
        move |mut caller: Caller<'_, T>, fd: u32, _offset: u64, _length: u64, advice: u32| {
            call(&mut caller, get, |p1, _| {
                p1.table.file(fd)?;
                if advice > 5 {
                    return Err(Code::INVAL.into());
                }
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_allocate",
        move |mut caller: Caller<'_, T>, fd: u32, offset: u64, length: u64| {
            call(&mut caller, get, |p1, _| {
                Ok(p1.table.file(fd)?.descriptor.allocate(offset, length)?)
            })
        },
    )?;
    let syncs: [(&str, Flush); 2] = [
        ("fd_sync", Descriptor::sync),
        ("fd_datasync", Descriptor::sync_data),
    ];
    for (name, sync) in syncs {
        linker.func_wrap(MODULE, name, move |mut caller: Caller<'_, T>, fd: u32| {
            call(&mut caller, get, |p1, _| {
                Ok(sync(&p1.table.file(fd)?.descriptor)?)
            })
        })?;
    }
    Ok(())
}

fn add_stats<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "fd_filestat_get",
        move |mut caller: Caller<'_, T>, fd: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                guest.put(out, &stat(&p1.table, fd)?)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_filestat_set_size",
        move |mut caller: Caller<'_, T>, fd: u32, size: u64| {
            call(&mut caller, get, |p1, _| {
                Ok(p1.table.file(fd)?.descriptor.set_len(size)?)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_filestat_set_times",
        move |mut caller: Caller<'_, T>, fd: u32, accessed: u64, modified: u64, flags: u32| {
            call(&mut caller, get, |p1, _| {
                let (accessed, modified) = new_times(accessed, modified, flags)?;
                Ok(p1.table.descriptor(fd)?.set_times(accessed, modified)?)
            })
        },
    )?;
    Ok(())
}

fn add_preopens<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "fd_prestat_get",
        move |mut caller: Caller<'_, T>, fd: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                let name = preopen(&p1.table, fd, Code::BADF)?;
                guest.put_u32(out, 0)?;
                guest.put_u32(out.wrapping_add(4), name.len() as u32)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_dir_name",
        move |mut caller: Caller<'_, T>, fd: u32, pointer: u32, length: u32| {
            call(&mut caller, get, |p1, guest| {
                let name = preopen(&p1.table, fd, Code::NOTDIR)?;
                if name.len() > length as usize {
                    return Err(Code::NAMETOOLONG.into());
                }
                guest.put(pointer, name.as_bytes())
            })
        },
    )?;
    Ok(())
}

fn add_positions<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "fd_seek",
        move |mut caller: Caller<'_, T>, fd: u32, offset: i64, whence: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                let position = seek(&mut p1.table, fd, offset, whence)?;
                guest.put_u64(out, position)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_tell",
        move |mut caller: Caller<'_, T>, fd: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                let position = p1.table.seekable(fd)?.position;
                guest.put_u64(out, position)
            })
        },
    )?;
    Ok(())
}

fn preopen(table: &Table, fd: u32, otherwise: Code) -> Result<&str> {
    let Object::Directory(directory) = &table.get(fd)?.object else {
        return Err(otherwise.into());
    };
    Ok(directory.preopen.as_deref().ok_or(otherwise)?)
}

fn fdstat(slot: &Slot, is_terminal: bool) -> [u8; 24] {
    let (file_type, append) = match &slot.object {
        // What `isatty` asks for; a stream that is no terminal is of no known type.
        Object::Input(_) | Object::Output(_) if is_terminal => (CHARACTER_DEVICE, false),
        Object::Input(_) | Object::Output(_) => (0, false),
        Object::File(file) => (file_type(Kind::File), file.append),
        Object::Directory(_) => (file_type(Kind::Directory), false),
        Object::Listener(_) | Object::Connection(_) => (SOCKET_STREAM, false),
    };
    let append = if append { APPEND } else { 0 };
    let nonblock = if slot.nonblock { NONBLOCK } else { 0 };
    let flags = append | nonblock | synchronized(&slot.object);
    let (base, inheriting) = rights::of(&slot.object);
    let mut bytes = [0; 24];
    bytes[0] = file_type;
    bytes[2..4].copy_from_slice(&(flags as u16).to_le_bytes());
    bytes[8..16].copy_from_slice(&base.to_le_bytes());
    bytes[16..24].copy_from_slice(&inheriting.to_le_bytes());
    bytes
}

/// The flags of synchronized writes that something was opened with.
fn synchronized(object: &Object) -> u32 {
    let access = match object {
        Object::File(file) => file.descriptor.access(),
        Object::Directory(directory) => directory.descriptor.access(),
        Object::Input(_) | Object::Output(_) | Object::Listener(_) | Object::Connection(_) => {
            return 0;
        }
    };
    let Synchronized { data, file, reads } = access.synchronized;
    let given = [(data, DSYNC), (file, SYNC), (reads, RSYNC)];
    given
        .iter()
        .filter(|(given, _)| *given)
        .map(|(_, flag)| flag)
        .sum()
}

fn set_flags(slot: &mut Slot, flags: u32) -> Result<()> {
    // Programs give back what `fd_fdstat_get` told them, with a change; how a file is synchronized
    // is decided when it is opened.
    if flags & !FDFLAGS != 0 || flags & SYNCHRONIZED & !synchronized(&slot.object) != 0 {
        return Err(Code::INVAL.into());
    }
    match &mut slot.object {
        Object::Directory(_) => return Err(Code::BADF.into()),
        Object::File(file) => file.append = flags & APPEND != 0,
        Object::Input(_) | Object::Output(_) | Object::Listener(_) | Object::Connection(_) => {}
    }
    slot.nonblock = flags & NONBLOCK != 0;
    Ok(())
}

const CHARACTER_DEVICE: u8 = 2;
const SOCKET_STREAM: u8 = 6;

pub(super) fn file_type(kind: Kind) -> u8 {
    match kind {
        Kind::Directory => 3,
        Kind::File => 4,
        Kind::Symlink => 7,
    }
}

pub(super) fn stat(table: &Table, fd: u32) -> Result<[u8; 64]> {
    let descriptor = match &table.get(fd)?.object {
        Object::File(file) => &file.descriptor,
        Object::Directory(directory) => &directory.descriptor,
        Object::Input(_) | Object::Output(_) => return Ok([0; 64]),
        Object::Listener(_) | Object::Connection(_) => {
            let mut bytes = [0; 64];
            bytes[16] = SOCKET_STREAM;
            return Ok(bytes);
        }
    };
    Ok(filestat(&descriptor.stat()?))
}

pub(super) fn filestat(stat: &Stat) -> [u8; 64] {
    let numbers = [
        (0, stat.device),
        (8, stat.inode),
        (24, stat.links),
        (32, stat.size),
        (40, nanoseconds(stat.times.accessed)),
        (48, nanoseconds(stat.times.modified)),
        (56, nanoseconds(stat.times.changed)),
    ];
    let mut bytes = [0; 64];
    for (at, number) in numbers {
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    bytes[16] = file_type(stat.kind);
    bytes
}

/// Decodes `fstflags` and the two times that go with them.
pub(super) fn new_times(accessed: u64, modified: u64, flags: u32) -> Result<(NewTime, NewTime)> {
    if flags & !0b1111 != 0 {
        return Err(Code::INVAL.into());
    }
    let new = |nanoseconds: u64, flags: u32| match flags {
        0 => Ok(NewTime::Keep),
        1 => Ok(NewTime::At(
            SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds),
        )),
        2 => Ok(NewTime::Now),
        _ => Err(Code::INVAL),
    };
    Ok((new(accessed, flags & 3)?, new(modified, flags >> 2)?))
}

pub(super) fn seek(table: &mut Table, fd: u32, offset: i64, whence: u32) -> Result<u64> {
    let file = table.seekable(fd)?;
    let from = match whence {
        0 => 0,
        1 => file.position,
        2 => file.descriptor.stat()?.size,
        _ => return Err(Code::INVAL.into()),
    };
    let position = from.checked_add_signed(offset).ok_or(Code::INVAL)?;
    if i64::try_from(position).is_err() {
        return Err(Code::OVERFLOW.into());
    }
    file.position = position;
    Ok(position)
}
