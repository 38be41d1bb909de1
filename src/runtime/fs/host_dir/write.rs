//! What changes a file's size, and the quota that goes with it.
//!
//! Growth is charged before it happens and given back if it does not; one lock per file orders those
//! who change its size, so that nothing is charged twice. Without a quota nothing is locked.

use std::io::IoSlice;

use rustix::fs::FallocateFlags;
use rustix::io::ReadWriteFlags;

use super::{HostNode, errno};
use crate::runtime::fs::errno::Errno;
use crate::runtime::fs::mem::Filesystem;

impl HostNode {
    pub fn write_at(
        &self,
        filesystem: &Filesystem,
        offset: u64,
        buffers: &[&[u8]],
    ) -> Result<usize, Errno> {
        let data = self.data()?;
        let write = |length: usize| {
            let slices = slices(buffers, length);
            rustix::io::pwritev(data, &slices, offset).map_err(write_errno)
        };
        let wanted = total(buffers);
        if !filesystem.is_limited_host() || wanted == 0 {
            return write(wanted);
        }
        let _size = self.size();
        self.write_charged(filesystem, offset, wanted, write)
    }

    /// Writes at the end, in one step also for whoever else has the file open, and says where the
    /// end was afterwards.
    pub fn append(
        &self,
        filesystem: &Filesystem,
        buffers: &[&[u8]],
    ) -> Result<(usize, u64), Errno> {
        let data = self.data()?;
        let write = |length: usize| {
            let slices = slices(buffers, length);
            rustix::io::pwritev2(data, &slices, 0, ReadWriteFlags::APPEND).map_err(write_errno)
        };
        let wanted = total(buffers);
        let _size = self.size();
        let count = if filesystem.is_limited_host() && wanted > 0 {
            self.write_charged(filesystem, self.len()?, wanted, write)?
        } else {
            write(wanted)?
        };
        Ok((count, self.len()?))
    }

    /// Charges the growth before it happens, as far as the quota goes, and what did not happen back.
    fn write_charged(
        &self,
        filesystem: &Filesystem,
        offset: u64,
        wanted: usize,
        write: impl Fn(usize) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let budget = filesystem.contents();
        let before = self.len()?;
        let growth = |count: usize| {
            let end = offset.saturating_add(count as u64);
            end.saturating_sub(before)
        };
        let mut allowed = wanted;
        if budget.charge(growth(allowed)).is_err() {
            let room = before
                .saturating_add(budget.available())
                .saturating_sub(offset);
            allowed = usize::try_from(room).unwrap_or(usize::MAX).min(wanted);
            if allowed == 0 || budget.charge(growth(allowed)).is_err() {
                return Err(Errno::NoSpace);
            }
        }
        let written = write(allowed);
        let count = *written.as_ref().unwrap_or(&0);
        let happened = if count == 0 { 0 } else { growth(count) };
        budget.forgive(growth(allowed) - happened);
        written
    }

    pub fn set_len(&self, filesystem: &Filesystem, len: u64) -> Result<(), Errno> {
        let data = self.data()?;
        let truncate = || rustix::fs::ftruncate(data, len).map_err(write_errno);
        if !filesystem.is_limited_host() {
            return truncate();
        }
        let _size = self.size();
        let before = self.len()?;
        let budget = filesystem.contents();
        let growth = len.saturating_sub(before);
        budget.charge(growth).map_err(|_| Errno::NoSpace)?;
        let done = truncate();
        budget.forgive(match done {
            Ok(()) => before.saturating_sub(len),
            Err(_) => growth,
        });
        done
    }

    pub fn allocate(&self, filesystem: &Filesystem, offset: u64, length: u64) -> Result<(), Errno> {
        let data = self.data()?;
        let allocate = || {
            let flags = FallocateFlags::empty();
            rustix::fs::fallocate(data, flags, offset, length).map_err(write_errno)
        };
        if !filesystem.is_limited_host() {
            return allocate();
        }
        let _size = self.size();
        let end = offset.checked_add(length).ok_or(Errno::FileTooLarge)?;
        let growth = end.saturating_sub(self.len()?);
        let budget = filesystem.contents();
        budget.charge(growth).map_err(|_| Errno::NoSpace)?;
        let done = allocate();
        if done.is_err() {
            budget.forgive(growth);
        }
        done
    }
}

fn total(buffers: &[&[u8]]) -> usize {
    buffers.iter().map(|buffer| buffer.len()).sum()
}

/// The first `length` bytes of the buffers.
fn slices<'a>(buffers: &[&'a [u8]], mut length: usize) -> Vec<IoSlice<'a>> {
    let mut slices = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let count = buffer.len().min(length);
        slices.push(IoSlice::new(&buffer[..count]));
        length -= count;
        // What one call takes at most; the caller sees a short write.
        if length == 0 || slices.len() == 1024 {
            break;
        }
    }
    slices
}

/// A descriptor that could not be opened for writing.
fn write_errno(error: rustix::io::Errno) -> Errno {
    match error {
        rustix::io::Errno::BADF => Errno::Access,
        error => errno(error),
    }
}
