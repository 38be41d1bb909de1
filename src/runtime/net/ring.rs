//! One direction of a connection: a bounded queue of bytes between one writer and one reader.
//!
//! The buffer is allocated when the first byte is written, doubles up to the limit, and is given
//! back when the reader has drained it, so an idle connection holds none. Its capacity is charged
//! to the writer's pod before it is allocated (to the reader's when the writer is the host). When
//! the charge is refused the writer makes do with what there is; only a writer that has no buffer
//! at all is told [`Error::OutOfMemory`].
//!
//! Ends are told apart: after `finish` the reader sees end of file, after `reset` it sees
//! [`Error::ConnectionReset`] — in both cases only once it has read what came before, as on Linux.
//! A reader that shut its direction down discards what still comes; a reader that is gone breaks
//! the writer's pipe.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::Error;
use super::wakers::WakerSet;
use crate::runtime::budget::Budget;

const FIRST_CAPACITY: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Reading,
    /// Shut down for reading, the socket still open.
    Discarding,
    Gone,
}

/// See the module. Not synchronised; the connection holds the lock.
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    limit: usize,
    budget: Arc<Budget>,
    reader: Reader,
    finished: bool,
    reset: bool,
    pub(super) readers: WakerSet,
    pub(super) writers: WakerSet,
}

impl Ring {
    pub(super) fn new(limit: usize, budget: Arc<Budget>) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit,
            budget,
            reader: Reader::Reading,
            finished: false,
            reset: false,
            readers: WakerSet::default(),
            writers: WakerSet::default(),
        }
    }

    /// Reads what is there, at most `out.len()`; `Ok(0)` for a non-empty `out` is end of file.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        let Some(length) = self.readable_length(out.len())? else {
            return Ok(0);
        };
        let (head, tail) = self.bytes.as_slices();
        let from_head = head.len().min(length);
        out[..from_head].copy_from_slice(&head[..from_head]);
        out[from_head..length].copy_from_slice(&tail[..length - from_head]);
        self.consume(length);
        Ok(length)
    }

    /// Like [`Ring::read`], into a new vector of exactly the bytes read; empty is end of file.
    pub(super) fn read_vec(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        let out = self.peek_vec(max)?;
        if !out.is_empty() {
            self.consume(out.len());
        }
        Ok(out)
    }

    /// What [`Ring::read_vec`] would give, left where it is.
    pub(super) fn peek_vec(&self, max: usize) -> Result<Vec<u8>, Error> {
        let Some(length) = self.readable_length(max)? else {
            return Ok(Vec::new());
        };
        let (head, tail) = self.bytes.as_slices();
        let from_head = head.len().min(length);
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&head[..from_head]);
        out.extend_from_slice(&tail[..length - from_head]);
        Ok(out)
    }

    /// The bytes a read of at most `max` takes; `None` is end of file.
    fn readable_length(&self, max: usize) -> Result<Option<usize>, Error> {
        if self.reader != Reader::Reading {
            return Ok(None);
        }
        if !self.bytes.is_empty() {
            return Ok(Some(self.bytes.len().min(max)));
        }
        if self.reset {
            return Err(Error::ConnectionReset);
        }
        if self.finished {
            return Ok(None);
        }
        Err(Error::WouldBlock)
    }

    /// Writes what fits. Zero bytes to write is always fine on an open ring.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<usize, Error> {
        let space = self.space()?;
        if data.is_empty() {
            return Ok(0);
        }
        if self.reader == Reader::Discarding {
            return Ok(data.len());
        }
        let wanted = space.min(data.len());
        if wanted == 0 {
            return Err(Error::WouldBlock);
        }
        let length = self.make_room(wanted)?;
        self.bytes.extend(&data[..length]);
        Ok(length)
    }

    /// Bytes that a write may bring now, by the limit and by the memory there is for them.
    pub(super) fn space(&self) -> Result<usize, Error> {
        if self.reset {
            return Err(Error::ConnectionReset);
        }
        if self.finished || self.reader == Reader::Gone {
            return Err(Error::BrokenPipe);
        }
        if self.reader == Reader::Discarding {
            return Ok(self.limit);
        }
        let length = self.bytes.len();
        let spare = (self.bytes.capacity() - length) as u64;
        let memory = spare.saturating_add(self.budget.available());
        let space = memory.min((self.limit - length) as u64) as usize;
        // A full ring comes free when it is read; an empty one without memory never would.
        if space == 0 && length == 0 {
            return Err(Error::OutOfMemory);
        }
        Ok(space)
    }

    /// Whether a read would not block.
    pub(super) fn is_readable(&self) -> bool {
        !self.bytes.is_empty() || self.finished || self.reset || self.reader != Reader::Reading
    }

    /// Whether a write would not block.
    pub(super) fn is_writable(&self) -> bool {
        self.space() != Ok(0)
    }

    /// Whether the reader will never read again, for writers that wait for something else.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reset || self.reader == Reader::Gone
    }

    /// Whether enough room came free to wake a waiting writer; a quarter, so that a slow reader
    /// does not cause one wake-up for each byte.
    pub(super) fn should_wake_writers(&self) -> bool {
        self.limit - self.bytes.len() >= self.limit / 4
    }

    /// Bytes written and not yet read.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The writer has said all.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// The connection broke.
    pub(super) fn reset(&mut self) {
        if !self.finished || !self.bytes.is_empty() {
            self.reset = true;
        }
        self.finished = true;
    }

    /// The reader wants no more, but its socket lives on.
    pub(super) fn discard(&mut self) {
        if self.reader == Reader::Reading {
            self.reader = Reader::Discarding;
        }
        self.drop_bytes();
    }

    /// The reader's socket is closed.
    pub(super) fn abandon(&mut self) {
        self.reader = Reader::Gone;
        self.drop_bytes();
    }

    fn make_room(&mut self, wanted: usize) -> Result<usize, Error> {
        let length = self.bytes.len();
        let capacity = self.bytes.capacity();
        if length + wanted <= capacity {
            return Ok(wanted);
        }
        let generous = (length + wanted)
            .next_power_of_two()
            .clamp(FIRST_CAPACITY, self.limit);
        for target in [generous, length + wanted] {
            if self.budget.charge((target - capacity) as u64).is_ok() {
                self.bytes.reserve_exact(target - length);
                self.settle(target);
                return Ok(wanted);
            }
        }
        match capacity - length {
            0 if length == 0 => Err(Error::OutOfMemory),
            0 => Err(Error::WouldBlock),
            room => Ok(room),
        }
    }

    /// The allocator may give more than was asked for; what it gave is what is charged. The
    /// surplus is bounded by its rounding, so a refusal here is ignored by not taking it.
    fn settle(&mut self, charged: usize) {
        let surplus = self.bytes.capacity().saturating_sub(charged);
        if surplus > 0 && self.budget.charge(surplus as u64).is_err() {
            self.bytes.shrink_to(charged);
        }
    }

    fn consume(&mut self, length: usize) {
        if length == self.bytes.len() {
            self.drop_bytes();
        } else {
            self.bytes.drain(..length);
        }
    }

    fn drop_bytes(&mut self) {
        let capacity = self.bytes.capacity();
        self.bytes = VecDeque::new();
        if capacity > 0 {
            self.budget.release(capacity as u64);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.drop_bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize),
        Read(usize),
        Finish,
        Reset,
        Discard,
        Abandon,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            20 => (0_usize..3000).prop_map(Step::Write),
            20 => (1_usize..3000).prop_map(Step::Read),
            1 => Just(Step::Finish),
            1 => Just(Step::Reset),
            1 => Just(Step::Discard),
            1 => Just(Step::Abandon),
        ]
    }

    proptest! {
        /// Against a queue: the same bytes in the same order, never more than the limit, never
        /// more than the budget, and all of the budget back at the end.
        #[test]
        fn behaves_like_a_bounded_queue(
            steps in prop::collection::vec(step(), 1..200),
            limit in prop_oneof![Just(4096_usize), Just(5000), Just(65_536)],
            memory in prop_oneof![Just(1_u64 << 20), Just(3000)],
        ) {
            let budget = Budget::new(memory);
            let mut ring = Ring::new(limit, Arc::clone(&budget));
            let mut model: VecDeque<u8> = VecDeque::new();
            let (mut finished, mut reset, mut reading, mut gone) = (false, false, true, false);
            let mut next = 0_u8;
            for step in steps {
                match step {
                    Step::Write(length) => {
                        let data: Vec<u8> = (0..length).map(|i| next.wrapping_add(i as u8)).collect();
                        match ring.write(&data) {
                            Ok(written) => {
                                prop_assert!(!finished && !gone);
                                prop_assert!(written > 0 || length == 0);
                                if reading { model.extend(&data[..written]); }
                                next = next.wrapping_add(written as u8);
                            }
                            Err(Error::WouldBlock) => prop_assert!(!model.is_empty()),
                            Err(Error::OutOfMemory) => prop_assert!(memory < length as u64 + FIRST_CAPACITY as u64),
                            Err(Error::ConnectionReset) => prop_assert!(reset),
                            Err(Error::BrokenPipe) => prop_assert!(finished || gone),
                            Err(other) => prop_assert!(false, "{other}"),
                        }
                    }
                    Step::Read(length) => {
                        let mut out = vec![0; length];
                        match ring.read(&mut out) {
                            Ok(0) => prop_assert!(!reading || (finished && model.is_empty())),
                            Ok(read) => {
                                let expected: Vec<u8> = model.drain(..read).collect();
                                prop_assert_eq!(&out[..read], &expected[..]);
                            }
                            Err(Error::WouldBlock) => prop_assert!(model.is_empty() && !finished),
                            Err(Error::ConnectionReset) => prop_assert!(model.is_empty() && reset),
                            Err(other) => prop_assert!(false, "{other}"),
                        }
                    }
                    Step::Finish => { ring.finish(); finished = true; }
                    Step::Reset => {
                        reset |= !finished || !model.is_empty();
                        ring.reset();
                        finished = true;
                    }
                    Step::Discard => { ring.discard(); reading = false; model.clear(); }
                    Step::Abandon => { ring.abandon(); reading = false; gone = true; model.clear(); }
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert!(ring.len() <= limit);
                prop_assert_eq!(budget.used(), ring.bytes.capacity() as u64);
                prop_assert!(!model.is_empty() || budget.used() == 0, "an empty ring holds no memory");
            }
            drop(ring);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
