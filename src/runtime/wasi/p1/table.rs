//! The descriptor table: small numbers, lowest free first, as POSIX wants; bounded.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::sync::Arc;

use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::call::Result;
use super::errno::Code;
use crate::runtime::budget::Budget;
use crate::runtime::fs::Descriptor;
use crate::runtime::net::{Conn, TcpListener};

pub(super) struct Table {
    slots: Vec<Option<Slot>>,
    /// Numbers below `slots.len()` that are free.
    free: BinaryHeap<Reverse<u32>>,
    open: Arc<Budget>,
}

pub(super) struct Slot {
    pub(super) object: Object,
    /// Fail with EAGAIN instead of waiting.
    pub(super) nonblock: bool,
}

pub(super) enum Object {
    Input(DynInputStream),
    Output(DynOutputStream),
    File(File),
    Directory(Directory),
    Listener(Arc<TcpListener>),
    Connection(Arc<Conn>),
}

pub(super) struct File {
    pub(super) descriptor: Descriptor,
    pub(super) position: u64,
    pub(super) append: bool,
}

pub(super) struct Directory {
    pub(super) descriptor: Descriptor,
    /// The name under which it was given to the program.
    pub(super) preopen: Option<String>,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Read,
    Write,
}

impl Table {
    pub(super) fn new(open: Arc<Budget>) -> Self {
        Self {
            slots: Vec::new(),
            free: BinaryHeap::new(),
            open,
        }
    }

    /// Adds one of the descriptors a program starts with; they always fit.
    pub(super) fn push_initial(&mut self, object: Object) -> u32 {
        self.open.overdraw(1);
        self.slots.push(Some(Slot {
            object,
            nonblock: false,
        }));
        self.slots.len() as u32 - 1
    }

    /// Fails if no descriptor is left; to be asked before the work is done.
    pub(super) fn check_room(&self) -> Result<()> {
        self.open.charge(1).map_err(|_| Code::MFILE)?;
        self.open.release(1);
        Ok(())
    }

    pub(super) fn push(&mut self, slot: Slot) -> Result<u32> {
        self.open.charge(1).map_err(|_| Code::MFILE)?;
        if let Some(Reverse(fd)) = self.free.pop() {
            self.slots[fd as usize] = Some(slot);
            return Ok(fd);
        }
        self.slots.push(Some(slot));
        Ok(self.slots.len() as u32 - 1)
    }

    pub(super) fn get(&self, fd: u32) -> Result<&Slot> {
        let slot = self.slots.get(fd as usize).and_then(Option::as_ref);
        slot.ok_or_else(|| Code::BADF.into())
    }

    pub(super) fn get_mut(&mut self, fd: u32) -> Result<&mut Slot> {
        let slot = self.slots.get_mut(fd as usize).and_then(Option::as_mut);
        slot.ok_or_else(|| Code::BADF.into())
    }

    pub(super) fn close(&mut self, fd: u32) -> Result<()> {
        let slot = self.slots.get_mut(fd as usize).and_then(Option::take);
        slot.ok_or(Code::BADF)?;
        self.open.release(1);
        self.free.push(Reverse(fd));
        Ok(())
    }

    /// Moves `from` over `to`, which must be open.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<()> {
        self.get(from)?;
        self.get(to)?;
        if from != to {
            self.slots.swap(from as usize, to as usize);
            self.close(from)?;
        }
        Ok(())
    }

    /// A file; anything else is EBADF, as wasmtime answers for directories too.
    pub(super) fn file(&mut self, fd: u32) -> Result<&mut File> {
        match &mut self.get_mut(fd)?.object {
            Object::File(file) => Ok(file),
            Object::Input(_)
            | Object::Output(_)
            | Object::Directory(_)
            | Object::Listener(_)
            | Object::Connection(_) => Err(Code::BADF.into()),
        }
    }

    /// A file with a position; streams and sockets have none.
    pub(super) fn seekable(&mut self, fd: u32) -> Result<&mut File> {
        match &mut self.get_mut(fd)?.object {
            Object::File(file) => Ok(file),
            Object::Directory(_) => Err(Code::BADF.into()),
            Object::Input(_) | Object::Output(_) | Object::Listener(_) | Object::Connection(_) => {
                Err(Code::SPIPE.into())
            }
        }
    }

    pub(super) fn directory(&self, fd: u32) -> Result<&Directory> {
        match &self.get(fd)?.object {
            Object::Directory(directory) => Ok(directory),
            Object::File(_) => Err(Code::NOTDIR.into()),
            Object::Input(_) | Object::Output(_) | Object::Listener(_) | Object::Connection(_) => {
                Err(Code::BADF.into())
            }
        }
    }

    /// A file or directory.
    pub(super) fn descriptor(&self, fd: u32) -> Result<&Descriptor> {
        match &self.get(fd)?.object {
            Object::File(file) => Ok(&file.descriptor),
            Object::Directory(directory) => Ok(&directory.descriptor),
            Object::Input(_) | Object::Output(_) | Object::Listener(_) | Object::Connection(_) => {
                Err(Code::BADF.into())
            }
        }
    }

    /// All open descriptors, each once, for waiting on several.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Slot)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(fd, slot)| Some((fd as u32, slot.as_mut()?)))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let open = self.slots.iter().flatten().count();
        self.open.release(open as u64);
    }
}

impl Object {
    /// Waits until a read or write would not block; files and directories never do.
    pub(super) async fn ready(&mut self, interest: Interest) {
        match (self, interest) {
            (Self::Input(stream), Interest::Read) => stream.ready().await,
            (Self::Output(stream), Interest::Write) => stream.ready().await,
            (Self::Listener(listener), Interest::Read) => {
                poll_fn(|cx| listener.poll_acceptable(cx)).await;
            }
            (Self::Connection(conn), Interest::Read) => poll_fn(|cx| conn.poll_readable(cx)).await,
            (Self::Connection(conn), Interest::Write) => poll_fn(|cx| conn.poll_writable(cx)).await,
            (Self::File(_) | Self::Directory(_), _)
            | (Self::Input(_) | Self::Listener(_), Interest::Write)
            | (Self::Output(_), Interest::Read) => {}
        }
    }
}
