//! The bytes of protobuf messages: fields one after the other, without any meaning yet.
//!
//! Every length is checked against what is left before anything is taken.

use super::Error;

#[derive(Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// Walks the fields of one message.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Error::WireType)?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                let bits = bytes
                    .iter()
                    .rev()
                    .fold(0, |bits, byte| bits << 8 | u64::from(*byte));
                Wire::Fixed64(bits)
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(Error::WireType),
        };
        Ok(Some((number, wire)))
    }

    pub(super) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Error::Truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::WireType)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        if length > self.0.len() {
            return Err(Error::Truncated);
        }
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(taken)
    }
}

/// The last integer field of that number.
pub(super) fn varint_field(bytes: &[u8], wanted: u32) -> Result<Option<u64>, Error> {
    let (mut reader, mut found) = (Reader::new(bytes), None);
    while let Some((number, wire)) = reader.next()? {
        if let (true, Wire::Varint(value)) = (number == wanted, wire) {
            found = Some(value);
        }
    }
    Ok(found)
}

/// The last bytes field of that number.
pub(super) fn bytes_field(bytes: &[u8], wanted: u32) -> Result<Option<&[u8]>, Error> {
    let (mut reader, mut found) = (Reader::new(bytes), None);
    while let Some((number, wire)) = reader.next()? {
        if let (true, Wire::Bytes(value)) = (number == wanted, wire) {
            found = Some(value);
        }
    }
    Ok(found)
}
