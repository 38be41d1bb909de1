//! Directories of the host.
//!
//! Not built yet: a volume of that kind is refused in words when the sandbox is made, so there is
//! no value of [`HostNode`].

use std::sync::Arc;

use super::directory::Entry;
use super::errno::Errno;
use super::inode::{Inode, Kind, NewTime, Stat};
use super::mem::{Filesystem, New};

/// Something in a directory of the host.
#[derive(Debug)]
pub enum HostNode {}

impl HostNode {
    pub fn kind(&self) -> Kind {
        match *self {}
    }

    pub fn stat(&self, _device: u64) -> Result<Stat, Errno> {
        match *self {}
    }

    pub fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> Result<usize, Errno> {
        match *self {}
    }

    pub fn write_at(&self, _offset: u64, _buffers: &[&[u8]]) -> Result<usize, Errno> {
        match *self {}
    }

    pub fn append(&self, _buffers: &[&[u8]]) -> Result<(usize, u64), Errno> {
        match *self {}
    }

    pub fn set_len(&self, _len: u64) -> Result<(), Errno> {
        match *self {}
    }

    pub fn set_times(&self, _accessed: NewTime, _modified: NewTime) -> Result<(), Errno> {
        match *self {}
    }

    pub fn target(&self) -> Result<String, Errno> {
        match *self {}
    }

    pub fn sync(&self) -> Result<(), Errno> {
        match *self {}
    }

    pub fn lookup(&self, _in: &Arc<Filesystem>, _name: &str) -> Result<Option<Arc<Inode>>, Errno> {
        match *self {}
    }

    pub fn list(
        &self,
        _in: &Arc<Filesystem>,
        _from: u64,
        _limit: usize,
    ) -> Result<Vec<Entry>, Errno> {
        match *self {}
    }

    pub fn create(
        &self,
        _in: &Arc<Filesystem>,
        _name: &str,
        _new: New<'_>,
    ) -> Result<Arc<Inode>, Errno> {
        match *self {}
    }

    pub fn unlink(&self, _name: &str) -> Result<(), Errno> {
        match *self {}
    }

    pub fn remove_directory(&self, _name: &str) -> Result<(), Errno> {
        match *self {}
    }

    pub fn rename(&self, _old: &str, _to: &Self, _new: &str) -> Result<(), Errno> {
        match *self {}
    }
}
