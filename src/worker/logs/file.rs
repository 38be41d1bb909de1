//! The writing end: a container's output, cut into lines, rate-limited, rotated.
//!
//! The guest's thread only cuts and stamps; the lines wait in memory for the thread that writes them
//! ([`Writer`]). A container whose lines the disk does not take makes its own guest wait, as a full pipe
//! does: [`LogSink::capacity`] is then nothing. What is written nevertheless has [`QUEUED_BYTES`] to
//! wait in, and what is beyond is dropped and counted.
//!
//! The file is opened for each write and closed again, so that thousands of quiet containers hold
//! no descriptors; a write is of whole lines. Disk errors are counted and reported once:
//! a full disk must not stop a guest.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::watch;

use super::format::{LINE_BYTES, Tag, write};
use super::writer::Writer;
use crate::clock::Clock;
use crate::runtime::spec::{LogSink, LogStream};

/// What may wait for the disk, of one container.
const QUEUED_BYTES: usize = 512 << 10;
/// From here on the guest waits; the rest is for who does not ask first.
const FULL_BYTES: usize = 256 << 10;
/// What a sink takes at once.
const PIECE_BYTES: usize = 64 << 10;

/// Bounds of one container's log.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A file of this size is rotated; one rotated file is kept.
    pub file_bytes: u64,
    /// Output above this rate is dropped.
    pub bytes_per_second: u64,
    /// What may come at once.
    pub burst_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 10 << 20,
            bytes_per_second: 2 << 20,
            burst_bytes: 8 << 20,
        }
    }
}

/// What followers are told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) rotations: u32,
    pub(super) is_closed: bool,
}

/// The log of one incarnation of a container.
pub struct ContainerLog {
    /// For the queue.
    this: Weak<Self>,
    path: PathBuf,
    limits: Limits,
    clock: Clock,
    writer: Writer,
    state: Mutex<State>,
    /// The writer's own.
    file: Mutex<Written>,
    changes: watch::Sender<Change>,
    /// Of all that was ever dropped.
    dropped: AtomicU64,
}

struct State {
    /// Unterminated text of stdout and stderr.
    open_lines: [Vec<u8>; 2],
    /// Lines for the file.
    queued: Vec<u8>,
    /// What the writer is writing now.
    in_write: usize,
    is_in_queue: bool,
    is_closed: bool,
    allowance: f64,
    allowance_at: Instant,
    dropped: Dropped,
}

/// What was not kept since that was last said.
#[derive(Clone, Copy, Debug, Default)]
struct Dropped {
    above_rate: u64,
    slow_disk: u64,
}

#[derive(Default)]
struct Written {
    bytes: u64,
    has_failed: bool,
}

impl ContainerLog {
    pub(super) fn new(path: PathBuf, limits: Limits, clock: Clock, writer: Writer) -> Arc<Self> {
        let state = State {
            open_lines: [Vec::new(), Vec::new()],
            queued: Vec::new(),
            in_write: 0,
            is_in_queue: false,
            is_closed: false,
            allowance: limits.burst_bytes as f64,
            allowance_at: clock.monotonic(),
            dropped: Dropped::default(),
        };
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            path,
            limits,
            clock,
            writer,
            state: Mutex::new(state),
            file: Mutex::default(),
            changes: watch::Sender::new(Change::default()),
            dropped: AtomicU64::new(0),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn changes(&self) -> watch::Receiver<Change> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that the writer comes by.
    fn enqueue(&self, state: &mut State) {
        if state.is_in_queue {
            return;
        }
        if let Some(this) = self.this.upgrade() {
            state.is_in_queue = true;
            self.writer.write(this);
        }
    }

    /// Writes what waits; on the writer's thread.
    pub(super) fn write_queued(&self) {
        let (lines, is_closed) = {
            let mut state = self.lock();
            state.is_in_queue = false;
            let lines = std::mem::take(&mut state.queued);
            state.in_write = lines.len();
            (lines, state.is_closed)
        };
        self.append(&lines);
        self.lock().in_write = 0;
        self.writer.unqueue(lines.len());
        if is_closed {
            self.changes.send_modify(|change| change.is_closed = true);
        }
    }

    fn append(&self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match self.try_append(&mut file, lines) {
            Ok(()) => self.changes.send_modify(|_| {}),
            Err(error) if !file.has_failed => {
                file.has_failed = true;
                tracing::warn!(path = %self.path.display(), %error, "write log; further failures are not reported");
            }
            Err(_) => {}
        }
    }

    /// A file is rotated before the line that would pass its size.
    fn try_append(&self, file: &mut Written, mut lines: &[u8]) -> std::io::Result<()> {
        while !lines.is_empty() {
            let room = self.limits.file_bytes.saturating_sub(file.bytes);
            let fitting = fitting(lines, usize::try_from(room).unwrap_or(usize::MAX));
            let (now, later) = match fitting {
                0 if file.bytes > 0 => {
                    std::fs::rename(&self.path, rotated(&self.path))?;
                    file.bytes = 0;
                    self.changes.send_modify(|change| change.rotations += 1);
                    continue;
                }
                // A line that is longer than a file may be has one of its own.
                0 => lines.split_at(first_line(lines)),
                fitting => lines.split_at(fitting),
            };
            if file.bytes == 0
                && let Some(directory) = self.path.parent()
            {
                std::fs::create_dir_all(directory)?;
            }
            let mut options = std::fs::OpenOptions::new();
            let mut target = options.append(true).create(true).open(&self.path)?;
            target.write_all(now)?;
            file.bytes += now.len() as u64;
            lines = later;
        }
        Ok(())
    }
}

/// How many bytes of whole lines fit in `room`.
fn fitting(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    let end = lines[..room].iter().rposition(|byte| *byte == b'\n');
    end.map_or(0, |end| end + 1)
}

fn first_line(lines: &[u8]) -> usize {
    let end = lines.iter().position(|byte| *byte == b'\n');
    end.map_or(lines.len(), |end| end + 1)
}

/// Where the file before the current one is.
pub(super) fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

impl State {
    fn waiting(&self) -> usize {
        self.queued.len() + self.in_write
    }

    /// Takes from the allowance; `false` if the chunk is too much.
    fn admit(&mut self, bytes: usize, room: usize, limits: &Limits, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.allowance_at);
        self.allowance_at = now;
        let refill = elapsed.as_secs_f64() * limits.bytes_per_second as f64;
        self.allowance = (self.allowance + refill).min(limits.burst_bytes as f64);
        let is_within = self.allowance >= bytes as f64;
        let fits = self.waiting() + bytes <= QUEUED_BYTES && bytes <= room;
        match (is_within, fits) {
            (true, true) => self.allowance -= bytes as f64,
            (false, _) => self.dropped.above_rate += bytes as u64,
            (true, false) => self.dropped.slow_disk += bytes as u64,
        }
        is_within && fits
    }
}

impl Dropped {
    /// Says in the log what is missing from it.
    fn tell(self, rate: u64, mut line: impl FnMut(&str)) {
        let Self {
            above_rate,
            slow_disk,
        } = self;
        if above_rate > 0 {
            line(&format!(
                "[wasmorch: {above_rate} bytes of output dropped, above the log rate of {rate} bytes a second]"
            ));
        }
        if slow_disk > 0 {
            line(&format!(
                "[wasmorch: {slow_disk} bytes of output dropped, more than the disk took]"
            ));
        }
    }
}

fn index(stream: LogStream) -> usize {
    match stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
    }
}

impl LogSink for ContainerLog {
    fn write(&self, stream: LogStream, chunk: &[u8]) {
        let now = self.clock.now();
        let mut state = self.lock();
        let state = &mut *state;
        let room = self.writer.room();
        if !state.admit(chunk.len(), room, &self.limits, self.clock.monotonic()) {
            self.dropped
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
            return;
        }
        let before = state.queued.len();
        let buffer = &mut state.queued;
        std::mem::take(&mut state.dropped).tell(self.limits.bytes_per_second, |text| {
            write(buffer, now, LogStream::Stderr, (Tag::Full, text.as_bytes()));
        });
        let open_line = &mut state.open_lines[index(stream)];
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            open_line.extend_from_slice(text);
            while open_line.len() > LINE_BYTES {
                let rest = open_line.split_off(LINE_BYTES);
                write(buffer, now, stream, (Tag::Partial, open_line));
                *open_line = rest;
            }
            if is_whole {
                write(buffer, now, stream, (Tag::Full, open_line));
                open_line.clear();
            }
        }
        let added = buffer.len() - before;
        if added > 0 {
            self.writer.queue(added);
            self.enqueue(state);
        }
    }

    fn capacity(&self) -> usize {
        let room = FULL_BYTES.saturating_sub(self.lock().waiting());
        room.min(self.writer.room()).min(PIECE_BYTES)
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn close(&self) {
        let now = self.clock.now();
        let mut state = self.lock();
        let state = &mut *state;
        let before = state.queued.len();
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let text = std::mem::take(&mut state.open_lines[index(stream)]);
            if !text.is_empty() {
                write(&mut state.queued, now, stream, (Tag::Full, &text));
            }
        }
        self.writer.queue(state.queued.len() - before);
        state.is_closed = true;
        self.enqueue(state);
    }
}
