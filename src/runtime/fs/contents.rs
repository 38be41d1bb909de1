//! The bytes of one file: sparse, charged as they are allocated, copied on write.
//!
//! Contents are chunks of up to 64 KiB in a map. A chunk's vector is only as long as what was
//! written into it, the rest of the chunk reads as zeros; so a small file costs its size, a byte
//! written at one tebibyte costs one chunk, and a large file is read and written in long copies. A
//! file that came with an image or a ConfigMap starts on a shared `base` that nobody is charged
//! for; the first write into a chunk copies that chunk only.
//!
//! Invariants: no vector reaches beyond its chunk or beyond `len`; bytes of `base` beyond `len` do
//! not exist (truncation cuts `base`), so growing again reads zeros.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::errno::Errno;
use super::quota::Charge;
use crate::runtime::budget::Budget;

/// The unit of allocation.
pub const CHUNK: u64 = 64 << 10;
/// The largest size of a file, as on Linux.
pub const MAX_LEN: u64 = i64::MAX as u64;

#[derive(Debug)]
pub struct Contents {
    len: u64,
    base: Bytes,
    chunks: BTreeMap<u64, Chunk>,
    charge: Charge,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// What was charged for it; `bytes` never has more capacity than that was asked for.
    charged: usize,
}

impl Contents {
    /// A file that begins with `base`, for which nothing is charged.
    pub fn new(base: Bytes, budget: &Arc<Budget>) -> Self {
        Self {
            len: base.len() as u64,
            base,
            chunks: BTreeMap::new(),
            charge: Charge::none(budget),
        }
    }

    pub fn size(&self) -> u64 {
        self.len
    }

    /// Copies what is at `offset` and says how much it was; 0 is the end of the file.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let wanted = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < wanted {
            let (index, start, take) = span(offset + done as u64, wanted - done);
            let target = &mut buffer[done..done + take];
            let source = self.known_from(index, start);
            let known = source.len().min(take);
            target[..known].copy_from_slice(&source[..known]);
            target[known..].fill(0);
            done += take;
        }
        done
    }

    /// Like [`Contents::read_at`], into a new vector of exactly the bytes read: each byte is written
    /// once, and none is zeroed to be overwritten.
    pub fn read_vec(&self, offset: u64, max: usize) -> Vec<u8> {
        let wanted = self.len.saturating_sub(offset).min(max as u64) as usize;
        let mut bytes = Vec::with_capacity(wanted);
        while bytes.len() < wanted {
            let done = bytes.len();
            let (index, start, take) = span(offset + done as u64, wanted - done);
            let source = self.known_from(index, start);
            bytes.extend_from_slice(&source[..source.len().min(take)]);
            bytes.resize(done + take, 0);
        }
        bytes
    }

    /// What is not a hole from that place in a chunk on; it may reach into the next chunks.
    fn known_from(&self, index: u64, start: usize) -> &[u8] {
        match self.chunks.get(&index) {
            Some(chunk) => tail(&chunk.bytes, start),
            None => self.base_from(index * CHUNK + start as u64),
        }
    }

    /// Writes as much as the quota takes. Writes at least one byte of a non-empty buffer, or fails.
    pub fn write_at(&mut self, offset: u64, buffer: &[u8]) -> Result<usize, Errno> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let room = MAX_LEN.checked_sub(offset).filter(|room| *room > 0);
        let wanted = room.ok_or(Errno::FileTooLarge)?.min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < wanted {
            let (index, start, take) = span(offset + done as u64, wanted - done);
            match self.write_chunk(index, start, &buffer[done..done + take]) {
                Ok(()) => done += take,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
            self.len = self.len.max(offset + done as u64);
        }
        Ok(done)
    }

    /// Cuts, or lengthens with zeros that cost nothing.
    pub fn set_len(&mut self, len: u64) -> Result<(), Errno> {
        if len > MAX_LEN {
            return Err(Errno::FileTooLarge);
        }
        if len < self.len {
            self.base
                .truncate(usize::try_from(len).unwrap_or(usize::MAX));
            let first_gone = len.div_ceil(CHUNK);
            for chunk in self.chunks.split_off(&first_gone).into_values() {
                self.charge.shrink(chunk.charged as u64);
            }
            if let Some(chunk) = self.chunks.get_mut(&(len / CHUNK)) {
                chunk.bytes.truncate((len % CHUNK) as usize);
            }
        }
        self.len = len;
        Ok(())
    }

    /// Makes sure that writes in the range will find room: what is a hole there is written with zeros.
    /// A refusal changes nothing before the end of the file.
    pub fn allocate(&mut self, offset: u64, length: u64) -> Result<(), Errno> {
        let end = offset.checked_add(length).filter(|end| *end <= MAX_LEN);
        let end = end.ok_or(Errno::FileTooLarge)?;
        let mut at = offset;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let (index, start, take) = span(at, left);
            let is_there = self.chunks.get(&index).map_or(0, |chunk| chunk.bytes.len());
            let is_there = is_there.max(self.base_from(index * CHUNK).len());
            let from = start.max(is_there.min(CHUNK as usize));
            if from < start + take {
                let zeros = vec![0; start + take - from];
                if let Err(errno) = self.write_chunk(index, from, &zeros) {
                    self.set_len(self.len)?;
                    // What lies beyond the end was made here.
                    for chunk in self
                        .chunks
                        .split_off(&self.len.div_ceil(CHUNK))
                        .into_values()
                    {
                        self.charge.shrink(chunk.charged as u64);
                    }
                    return Err(errno);
                }
            }
            at += take as u64;
        }
        self.len = self.len.max(end);
        Ok(())
    }

    fn write_chunk(&mut self, index: u64, start: usize, data: &[u8]) -> Result<(), Errno> {
        let end = start + data.len();
        let fresh = !self.chunks.contains_key(&index);
        let inherited = if fresh {
            self.inherited(index)
        } else {
            Bytes::new()
        };
        let mut empty = Chunk::default();
        let chunk = self.chunks.get_mut(&index).unwrap_or(&mut empty);
        chunk.reserve(end.max(inherited.len()), &mut self.charge)?;
        chunk.bytes.extend_from_slice(&inherited);
        if chunk.bytes.len() < start {
            chunk.bytes.resize(start, 0);
        }
        let overlap = (chunk.bytes.len() - start).min(data.len());
        chunk.bytes[start..start + overlap].copy_from_slice(&data[..overlap]);
        chunk.bytes.extend_from_slice(&data[overlap..]);
        if fresh {
            self.chunks.insert(index, empty);
        }
        Ok(())
    }

    /// What the base has for a chunk that was not written yet.
    fn inherited(&self, index: u64) -> Bytes {
        let length = self.base_from(index * CHUNK).len().min(CHUNK as usize);
        if length == 0 {
            return Bytes::new();
        }
        let start = (index * CHUNK) as usize;
        self.base.slice(start..start + length)
    }

    fn base_from(&self, offset: u64) -> &[u8] {
        usize::try_from(offset).map_or(&[], |offset| tail(&self.base, offset))
    }
}

impl Chunk {
    /// Makes room for `needed` bytes, charged first: the first time for about what is needed, later
    /// with a factor of two, so that a log written in small pieces is not copied each time.
    fn reserve(&mut self, needed: usize, charge: &mut Charge) -> Result<(), Errno> {
        if needed <= self.charged {
            return Ok(());
        }
        let generous = rounded(needed).max(self.charged * 2).min(CHUNK as usize);
        let mut capacity = generous;
        if charge.grow((generous - self.charged) as u64).is_err() {
            charge.grow((needed - self.charged) as u64)?;
            capacity = needed;
        }
        if self
            .bytes
            .try_reserve_exact(capacity - self.bytes.len())
            .is_err()
        {
            charge.shrink((capacity - self.charged) as u64);
            return Err(Errno::NoMemory);
        }
        self.charged = capacity;
        Ok(())
    }
}

/// The chunk that holds `offset`, the place in it, and how many of `wanted` bytes it takes.
fn span(offset: u64, wanted: usize) -> (u64, usize, usize) {
    let start = (offset % CHUNK) as usize;
    (offset / CHUNK, start, wanted.min(CHUNK as usize - start))
}

fn tail(bytes: &[u8], start: usize) -> &[u8] {
    bytes.get(start..).unwrap_or(&[])
}

/// What an allocator would give for that size anyway.
fn rounded(needed: usize) -> usize {
    let unit = if needed <= 1024 { 64 } else { 4096 };
    needed.next_multiple_of(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(contents: &Contents) -> Vec<u8> {
        let mut bytes = vec![7; contents.size() as usize];
        assert_eq!(contents.read_at(0, &mut bytes), bytes.len());
        assert_eq!(contents.read_vec(0, usize::MAX), bytes);
        bytes
    }

    #[test]
    fn allocated_room_is_there_when_it_is_needed() {
        let budget = Budget::new(4 * CHUNK);
        let mut contents = Contents::new(Bytes::from_static(b"base"), &budget);
        contents.write_at(CHUNK + 10, b"x").unwrap();
        contents.allocate(2, 2 * CHUNK).unwrap();
        assert_eq!(contents.size(), 2 + 2 * CHUNK);
        let mut start = [1; 6];
        contents.read_at(0, &mut start);
        assert_eq!(&start, b"base\0\0");
        let taken = budget.used();
        assert!(taken >= 2 * CHUNK);
        // Others take the rest; what was allocated can still be written.
        budget.charge(budget.available()).unwrap();
        assert_eq!(
            contents.write_at(5, &vec![7; CHUNK as usize]),
            Ok(CHUNK as usize)
        );
        let used = budget.used();
        assert_eq!(contents.allocate(CHUNK, 9 * CHUNK), Err(Errno::NoSpace));
        assert_eq!((contents.size(), budget.used()), (2 + 2 * CHUNK, used));
        assert_eq!(contents.allocate(MAX_LEN, 1), Err(Errno::FileTooLarge));
    }

    #[test]
    fn sparse_files_cost_what_is_written() {
        let budget = Budget::new(CHUNK);
        let mut contents = Contents::new(Bytes::new(), &budget);
        contents.write_at(1 << 40, b"end").unwrap();
        assert_eq!(contents.size(), (1 << 40) + 3);
        assert_eq!(budget.used(), 64);
        let mut byte = [1];
        assert_eq!(contents.read_at(1 << 39, &mut byte), 1);
        assert_eq!(byte, [0]);
        contents.set_len(0).unwrap();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_full_quota_writes_short_then_fails() {
        let budget = Budget::new(CHUNK + 100);
        let mut contents = Contents::new(Bytes::new(), &budget);
        let data = vec![1; 3 * CHUNK as usize];
        assert_eq!(contents.write_at(0, &data), Ok(CHUNK as usize));
        assert_eq!(contents.write_at(CHUNK, &[1; 100]), Ok(100));
        assert_eq!(contents.write_at(CHUNK + 100, &[1]), Err(Errno::NoSpace));
        assert_eq!(
            contents.write_at(0, &data[..10]),
            Ok(10),
            "no new room is needed"
        );
        assert_eq!(contents.write_at(MAX_LEN, &[1]), Err(Errno::FileTooLarge));
        drop(contents);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_shared_base_is_copied_on_write_and_cut_on_truncate() {
        let budget = Budget::new(1 << 20);
        let base = Bytes::from(vec![b'x'; CHUNK as usize + 10]);
        let mut contents = Contents::new(base.clone(), &budget);
        assert_eq!(budget.used(), 0);
        contents.write_at(CHUNK + 5, b"y").unwrap();
        assert!(budget.used() < CHUNK, "the untouched chunk stays shared");
        assert_eq!(&all(&contents)[CHUNK as usize..], b"xxxxxyxxxx");
        contents.set_len(3).unwrap();
        contents.set_len(6).unwrap();
        assert_eq!(all(&contents), b"xxx\0\0\0");
        assert_eq!(base[5], b'x');
    }

    #[derive(Clone, Debug)]
    enum Op {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let near_edges = prop_oneof![0..200u64, CHUNK - 50..CHUNK + 50, 2 * CHUNK..2 * CHUNK + 50];
        let size = prop_oneof![0..100usize, 60_000..70_000usize];
        prop_oneof![
            (near_edges.clone(), size, any::<u8>())
                .prop_map(|(at, size, fill)| Op::Write(at, vec![fill; size])),
            near_edges.prop_map(Op::SetLen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
        #[test]
        fn behaves_as_a_vector(base in 0..100_000usize, ops in prop::collection::vec(op(), 1..20)) {
            let budget = Budget::new(1 << 30);
            let mut model = vec![b'b'; base];
            let mut contents = Contents::new(Bytes::from(model.clone()), &budget);
            for op in ops {
                match op {
                    Op::Write(at, data) => {
                        prop_assert_eq!(contents.write_at(at, &data), Ok(data.len()));
                        let end = at as usize + data.len();
                        if !data.is_empty() && model.len() < end {
                            model.resize(end, 0);
                        }
                        if !data.is_empty() {
                            model[at as usize..end].copy_from_slice(&data);
                        }
                    }
                    Op::SetLen(len) => {
                        contents.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                }
                prop_assert!(all(&contents) == model);
            }
            drop(contents);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
