//! Bytes in and out: files, streams and connections, and the listing of directories.
//!
//! Files are copied straight between the guest's memory and the file. All buffers of one append are
//! written under one lock, so that lines of several containers do not mix. Streams and sockets may
//! make the caller wait, unless the descriptor is non-blocking.

use bytes::{Bytes, BytesMut};
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, StreamError};

use super::call::{Failure, Get, Result, answer, call, with};
use super::descriptors::file_type;
use super::errno::Code;
use super::guest::{Buffer, Guest};
use super::table::{File, Interest, Object};
use super::{MODULE, P1};
use crate::runtime::fs::Descriptor;
use crate::runtime::fs::directory::Entry;
use crate::runtime::fs::inode::Kind;
use crate::runtime::net::{self, Conn};

/// The most that a stream takes or gives at a time.
const STREAM_CHUNK: usize = 64 << 10;
/// Directory entries fetched at a time.
const LIST_BATCH: usize = 64;

pub(super) fn add<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_read",
        move |mut caller: Caller<'_, T>, (fd, buffers, count, out): (u32, u32, u32, u32)| {
            Box::new(async move {
                let vector = Vector {
                    buffers,
                    count,
                    out,
                };
                answer(read(&mut caller, get, fd, vector).await)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        move |mut caller: Caller<'_, T>, (fd, buffers, count, out): (u32, u32, u32, u32)| {
            Box::new(async move {
                let vector = Vector {
                    buffers,
                    count,
                    out,
                };
                answer(write(&mut caller, get, fd, vector).await)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_pread",
        move |mut caller: Caller<'_, T>,
              fd: u32,
              buffers: u32,
              count: u32,
              offset: u64,
              out: u32| {
            call(&mut caller, get, |p1, guest| {
                let buffers = guest.buffers(buffers, count)?;
                let file = p1.table.seekable(fd)?;
                let done = read_file(guest, &file.descriptor, offset, &buffers)?;
                guest.put_u32(out, done)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_pwrite",
        move |mut caller: Caller<'_, T>,
              fd: u32,
              buffers: u32,
              count: u32,
              offset: u64,
              out: u32| {
            call(&mut caller, get, |p1, guest| {
                let buffers = guest.buffers(buffers, count)?;
                let file = p1.table.seekable(fd)?;
                let (done, _) = write_file(guest, file, offset, &buffers)?;
                guest.put_u32(out, done)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_readdir",
        move |mut caller: Caller<'_, T>, fd: u32, buffer: u32, size: u32, cookie: u64, out: u32| {
            call(&mut caller, get, |p1, guest| {
                let directory = match &p1.table.get(fd)?.object {
                    Object::Directory(directory) => &directory.descriptor,
                    _ => return Err(Code::BADF.into()),
                };
                let used = list(directory, cookie, guest.slice_mut(buffer, size)?)?;
                guest.put_u32(out, used)
            })
        },
    )?;
    Ok(())
}

/// The buffers of a vectored call and where its count goes.
#[derive(Clone, Copy)]
pub(super) struct Vector {
    pub(super) buffers: u32,
    pub(super) count: u32,
    pub(super) out: u32,
}

/// Reads what is there, or waits for it.
pub(super) async fn read<T: Send + 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    fd: u32,
    vector: Vector,
) -> Result<()> {
    patiently(caller, get, (fd, Interest::Read), |p1, guest| {
        let buffers = guest.buffers(vector.buffers, vector.count)?;
        let done = p1.read(guest, fd, &buffers)?;
        guest.put_u32(vector.out, done)
    })
    .await
}

/// Writes what fits, or waits until something does.
pub(super) async fn write<T: Send + 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    fd: u32,
    vector: Vector,
) -> Result<()> {
    patiently(caller, get, (fd, Interest::Write), |p1, guest| {
        let buffers = guest.buffers(vector.buffers, vector.count)?;
        let done = p1.write(guest, fd, &buffers)?;
        guest.put_u32(vector.out, done)
    })
    .await
}

/// Attempts what would block again and again, and waits for the descriptor in between.
pub(super) async fn patiently<T: 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    (fd, interest): (u32, Interest),
    attempt: impl Fn(&mut P1, &mut Guest<'_>) -> Result<()>,
) -> Result<()> {
    loop {
        let result = with(caller, get, &attempt);
        if !would_block(&result) {
            return result;
        }
        wait(caller, get, fd, interest).await?;
    }
}

pub(super) fn would_block<R>(attempt: &Result<R>) -> bool {
    matches!(attempt, Err(Failure::Code(Code::AGAIN)))
}

/// Waits for a descriptor, or fails with EAGAIN if it is not to be waited for.
pub(super) async fn wait<T: 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    fd: u32,
    interest: Interest,
) -> Result<()> {
    let slot = get(caller.data_mut()).table.get_mut(fd)?;
    if slot.nonblock {
        return Err(Code::AGAIN.into());
    }
    slot.object.ready(interest).await;
    Ok(())
}

impl P1 {
    fn read(&mut self, guest: &mut Guest<'_>, fd: u32, buffers: &[Buffer]) -> Result<u32> {
        match &mut self.table.get_mut(fd)?.object {
            Object::File(file) => {
                let done = read_file(guest, &file.descriptor, file.position, buffers)?;
                file.position += u64::from(done);
                Ok(done)
            }
            Object::Input(stream) => read_stream(guest, stream, buffers),
            Object::Connection(conn) => receive(guest, conn, buffers),
            Object::Output(_) | Object::Directory(_) | Object::Listener(_) => {
                Err(Code::BADF.into())
            }
        }
    }

    fn write(&mut self, guest: &mut Guest<'_>, fd: u32, buffers: &[Buffer]) -> Result<u32> {
        match &mut self.table.get_mut(fd)?.object {
            Object::File(file) => {
                let (done, position) = write_file(guest, file, file.position, buffers)?;
                file.position = position;
                Ok(done)
            }
            Object::Output(stream) => write_stream(guest, stream, buffers),
            Object::Connection(conn) => send(guest, conn, buffers),
            Object::Input(_) | Object::Directory(_) | Object::Listener(_) => Err(Code::BADF.into()),
        }
    }
}

fn read_file(
    guest: &mut Guest<'_>,
    file: &Descriptor,
    mut offset: u64,
    buffers: &[Buffer],
) -> Result<u32> {
    file.readable()?;
    let mut done = 0;
    for buffer in buffers {
        let target = guest.slice_mut(buffer.pointer, buffer.length)?;
        let count = file.read_at(offset, target)? as u32;
        done += count;
        offset += u64::from(count);
        if count < buffer.length {
            break;
        }
    }
    Ok(done)
}

/// Writes at `offset`, or at the end of a file in append mode, as Linux does for `pwrite` too. Says
/// how much was written and where that ended.
fn write_file(
    guest: &Guest<'_>,
    file: &File,
    offset: u64,
    buffers: &[Buffer],
) -> Result<(u32, u64)> {
    let slices = guest.gather(buffers)?;
    let (done, end) = if file.append {
        file.descriptor.append(&slices)?
    } else {
        let done = file.descriptor.write_at(offset, &slices)?;
        (done, offset.saturating_add(done as u64))
    };
    Ok((done as u32, end))
}

fn read_stream(
    guest: &mut Guest<'_>,
    stream: &mut DynInputStream,
    buffers: &[Buffer],
) -> Result<u32> {
    let Some(buffer) = buffers.first() else {
        return Ok(0);
    };
    let target = guest.slice_mut(buffer.pointer, buffer.length)?;
    match stream.read(target.len().min(STREAM_CHUNK)) {
        Ok(bytes) if bytes.is_empty() => Err(Code::AGAIN.into()),
        Ok(bytes) => {
            target[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len() as u32)
        }
        Err(StreamError::Closed) => Ok(0),
        Err(StreamError::LastOperationFailed(_)) => Err(Code::IO.into()),
        Err(StreamError::Trap(error)) => Err(Failure::Trap(error)),
    }
}

fn write_stream(
    guest: &Guest<'_>,
    stream: &mut DynOutputStream,
    buffers: &[Buffer],
) -> Result<u32> {
    let room = stream.check_write().map_err(stream_failure)?;
    let slices = guest.gather(buffers)?;
    let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
    if wanted == 0 {
        return Ok(0);
    }
    let taken = wanted.min(room).min(STREAM_CHUNK);
    if taken == 0 {
        return Err(Code::AGAIN.into());
    }
    stream
        .write(collect(&slices, taken))
        .map_err(stream_failure)?;
    Ok(taken as u32)
}

fn stream_failure(error: StreamError) -> Failure {
    match error {
        StreamError::Closed => Code::PIPE.into(),
        StreamError::LastOperationFailed(_) => Code::IO.into(),
        StreamError::Trap(error) => Failure::Trap(error),
    }
}

/// The first `size` bytes of all slices.
fn collect(slices: &[&[u8]], size: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(size);
    for slice in slices {
        let take = slice.len().min(size - bytes.len());
        bytes.extend_from_slice(&slice[..take]);
    }
    bytes.freeze()
}

fn receive(guest: &mut Guest<'_>, conn: &Conn, buffers: &[Buffer]) -> Result<u32> {
    let mut done = 0;
    for buffer in buffers {
        let target = guest.slice_mut(buffer.pointer, buffer.length)?;
        match conn.try_read(target) {
            Ok(count) => done += count as u32,
            // What was read already is the answer; the error comes again.
            Err(_) if done > 0 => break,
            Err(error) => return Err(error.into()),
        }
        if conn.readable_bytes() == 0 {
            break;
        }
    }
    Ok(done)
}

fn send(guest: &Guest<'_>, conn: &Conn, buffers: &[Buffer]) -> Result<u32> {
    let mut done = 0;
    for slice in guest.gather(buffers)? {
        match conn.try_write(slice) {
            Ok(count) => {
                done += count as u32;
                if count < slice.len() {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            // A reset connection cannot be written to either.
            Err(net::Error::ConnectionReset) => return Err(Code::PIPE.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Fills `buffer` with entries from `cookie` on; the last one may be cut, which tells the caller
/// that there is more. Cookies 0 and 1 are `.` and `..`; the directory's own follow.
fn list(directory: &Descriptor, cookie: u64, buffer: &mut [u8]) -> Result<u32> {
    let own = directory.stat()?.inode;
    let mut used = 0;
    for (number, name) in [(0, "."), (1, "..")] {
        if cookie <= number {
            let head = dirent(number + 1, own, Kind::Directory, name);
            used += put_cut(buffer, used, &head, name);
        }
    }
    let mut next = cookie.saturating_sub(2);
    while used < buffer.len() {
        let entries: Vec<Entry> = directory.list(next, LIST_BATCH)?;
        let Some(last) = entries.last() else {
            break;
        };
        next = last.next;
        for entry in entries {
            let head = dirent(entry.next + 2, entry.number, entry.kind, &entry.name);
            used += put_cut(buffer, used, &head, &entry.name);
        }
    }
    Ok(used as u32)
}

fn dirent(next: u64, inode: u64, kind: Kind, name: &str) -> [u8; 24] {
    let mut head = [0; 24];
    head[0..8].copy_from_slice(&next.to_le_bytes());
    head[8..16].copy_from_slice(&inode.to_le_bytes());
    head[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
    head[20] = file_type(kind);
    head
}

fn put_cut(buffer: &mut [u8], at: usize, head: &[u8], name: &str) -> usize {
    let mut used = 0;
    for part in [head, name.as_bytes()] {
        let room = &mut buffer[at + used..];
        let take = part.len().min(room.len());
        room[..take].copy_from_slice(&part[..take]);
        used += take;
    }
    used
}
