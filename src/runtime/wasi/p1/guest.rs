//! The guest's memory, as host functions may touch it: checked slices and little-endian numbers.

use super::MAX_TRANSFER;
use super::call::{Failure, Result};
use super::errno::Code;
use crate::runtime::fs::walk::MAX_PATH;

/// Buffers of one vectored call, as Linux' `IOV_MAX`.
const MAX_BUFFERS: u32 = 1024;

pub(super) struct Guest<'a>(&'a mut [u8]);

/// A buffer in the guest's memory; checked when it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) pointer: u32,
    pub(super) length: u32,
}

impl<'a> Guest<'a> {
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Self(memory)
    }

    pub(super) fn slice(&self, pointer: u32, length: u32) -> Result<&[u8]> {
        let range = range(self.0.len(), pointer, length)?;
        Ok(&self.0[range])
    }

    pub(super) fn slice_mut(&mut self, pointer: u32, length: u32) -> Result<&mut [u8]> {
        let range = range(self.0.len(), pointer, length)?;
        Ok(&mut self.0[range])
    }

    pub(super) fn put(&mut self, pointer: u32, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| Code::OVERFLOW)?;
        self.slice_mut(pointer, length)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn put_u32(&mut self, pointer: u32, value: u32) -> Result<()> {
        self.put(pointer, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, pointer: u32, value: u64) -> Result<()> {
        self.put(pointer, &value.to_le_bytes())
    }

    pub(super) fn u8(&self, pointer: u32) -> Result<u8> {
        Ok(self.array::<1>(pointer)?[0])
    }

    pub(super) fn u32(&self, pointer: u32) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(pointer)?))
    }

    pub(super) fn u64(&self, pointer: u32) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(pointer)?))
    }

    fn array<const N: usize>(&self, pointer: u32) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(pointer, N as u32)?);
        Ok(array)
    }

    pub(super) fn path(&self, pointer: u32, length: u32) -> Result<&str> {
        if length as usize >= MAX_PATH {
            return Err(Code::NAMETOOLONG.into());
        }
        let bytes = self.slice(pointer, length)?;
        std::str::from_utf8(bytes).map_err(|_| Code::ILSEQ.into())
    }

    /// The buffers of a vectored call, cut to what one call may copy.
    pub(super) fn buffers(&self, pointer: u32, count: u32) -> Result<Vec<Buffer>> {
        if count > MAX_BUFFERS {
            return Err(Code::INVAL.into());
        }
        let mut left = MAX_TRANSFER as u32;
        let mut buffers = Vec::with_capacity(count as usize);
        for index in 0..count {
            let at = offset(pointer, index, 8)?;
            let pointer = self.u32(at)?;
            let length = self.u32(at + 4)?.min(left);
            left -= length;
            if length > 0 {
                buffers.push(Buffer { pointer, length });
            }
        }
        Ok(buffers)
    }

    /// The bytes of all buffers, still in the guest's memory.
    pub(super) fn gather(&self, buffers: &[Buffer]) -> Result<Vec<&[u8]>> {
        let slices = buffers.iter();
        slices
            .map(|buffer| self.slice(buffer.pointer, buffer.length))
            .collect()
    }
}

/// The address of an element of an array.
pub(super) fn offset(pointer: u32, index: u32, size: u32) -> Result<u32> {
    let relative = index.checked_mul(size);
    let address = relative.and_then(|relative| pointer.checked_add(relative));
    address.ok_or_else(|| Failure::outside(pointer))
}

fn range(memory: usize, pointer: u32, length: u32) -> Result<std::ops::Range<usize>> {
    if length == 0 {
        return Ok(0..0);
    }
    let start = pointer as usize;
    match start.checked_add(length as usize) {
        Some(end) if end <= memory => Ok(start..end),
        Some(_) | None => Err(Failure::outside(pointer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_reached() {
        let mut memory = [0u8; 64];
        let mut guest = Guest::new(&mut memory);
        guest.put_u64(56, 7).unwrap();
        assert_eq!(guest.u64(56).unwrap(), 7);
        assert!(guest.put_u64(57, 7).is_err());
        assert!(guest.slice(u32::MAX, u32::MAX).is_err());
        assert!(guest.slice(u32::MAX, 0).unwrap().is_empty());
        assert!(guest.buffers(60, 2).is_err());
        assert!(guest.buffers(0, MAX_BUFFERS + 1).is_err());
        assert!(offset(8, u32::MAX, 48).is_err());
    }

    #[test]
    fn a_call_copies_a_bounded_amount() {
        let mut memory = [0u8; 64];
        let mut guest = Guest::new(&mut memory);
        for index in 0..4 {
            guest.put_u32(index * 8 + 4, u32::MAX / 2).unwrap();
        }
        let buffers = guest.buffers(0, 4).unwrap();
        let total: u64 = buffers.iter().map(|buffer| u64::from(buffer.length)).sum();
        assert_eq!(total, MAX_TRANSFER as u64);
        assert!(guest.gather(&buffers).is_err());
    }
}
