//! The writing end: a container's output, cut into lines, rate-limited, rotated.
//!
//! The file is opened for each chunk and closed again, so that thousands of quiet containers hold
//! no descriptors; a chunk is one `write` of whole lines. Disk errors are counted and reported once:
//! a full disk must not stop a guest.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::format::{LINE_BYTES, Tag, write};
use crate::clock::Clock;
use crate::runtime::spec::{LogSink, LogStream};

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
    path: PathBuf,
    limits: Limits,
    clock: Clock,
    state: Mutex<State>,
    changes: watch::Sender<Change>,
    /// Of all that was ever dropped.
    dropped: AtomicU64,
}

struct State {
    /// Unterminated text of stdout and stderr.
    open_lines: [Vec<u8>; 2],
    file_bytes: u64,
    allowance: f64,
    allowance_at: Instant,
    dropped: u64,
    has_failed: bool,
}

impl ContainerLog {
    pub(super) fn new(path: PathBuf, limits: Limits, clock: Clock) -> Self {
        let state = State {
            open_lines: [Vec::new(), Vec::new()],
            file_bytes: 0,
            allowance: limits.burst_bytes as f64,
            allowance_at: clock.monotonic(),
            dropped: 0,
            has_failed: false,
        };
        Self {
            path,
            limits,
            clock,
            state: Mutex::new(state),
            changes: watch::Sender::new(Change::default()),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn changes(&self) -> watch::Receiver<Change> {
        self.changes.subscribe()
    }

    fn append(&self, state: &mut State, buffer: &[u8]) {
        if buffer.is_empty() {
            return;
        }
        let result = self.rotate_if_full(state, buffer.len()).and_then(|()| {
            if state.file_bytes == 0
                && let Some(directory) = self.path.parent()
            {
                std::fs::create_dir_all(directory)?;
            }
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.append(true).create(true).open(&self.path)?;
            file.write_all(buffer)
        });
        match result {
            Ok(()) => {
                state.file_bytes += buffer.len() as u64;
                self.changes.send_modify(|_| {});
            }
            Err(error) if !state.has_failed => {
                state.has_failed = true;
                tracing::warn!(path = %self.path.display(), %error, "write log; further failures are not reported");
            }
            Err(_) => {}
        }
    }

    fn rotate_if_full(&self, state: &mut State, more: usize) -> std::io::Result<()> {
        if state.file_bytes == 0 || state.file_bytes + more as u64 <= self.limits.file_bytes {
            return Ok(());
        }
        std::fs::rename(&self.path, rotated(&self.path))?;
        state.file_bytes = 0;
        self.changes.send_modify(|change| change.rotations += 1);
        Ok(())
    }
}

/// Where the file before the current one is.
pub(super) fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

impl State {
    /// Takes from the allowance; `false` if the chunk is too much.
    fn admit(&mut self, bytes: usize, limits: &Limits, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.allowance_at);
        self.allowance_at = now;
        let refill = elapsed.as_secs_f64() * limits.bytes_per_second as f64;
        self.allowance = (self.allowance + refill).min(limits.burst_bytes as f64);
        let fits = self.allowance >= bytes as f64;
        if fits {
            self.allowance -= bytes as f64;
        } else {
            self.dropped += bytes as u64;
        }
        fits
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.admit(chunk.len(), &self.limits, self.clock.monotonic()) {
            self.dropped
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
            return;
        }
        let mut buffer = Vec::with_capacity(chunk.len() + 64);
        let dropped = std::mem::take(&mut state.dropped);
        if dropped > 0 {
            let rate = self.limits.bytes_per_second;
            let text = format!(
                "[wasmorch: {dropped} bytes of output dropped, above the log rate of {rate} bytes a second]"
            );
            write(
                &mut buffer,
                now,
                LogStream::Stderr,
                (Tag::Full, text.as_bytes()),
            );
        }
        let open_line = &mut state.open_lines[index(stream)];
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            open_line.extend_from_slice(text);
            while open_line.len() > LINE_BYTES {
                let rest = open_line.split_off(LINE_BYTES);
                write(&mut buffer, now, stream, (Tag::Partial, open_line));
                *open_line = rest;
            }
            if is_whole {
                write(&mut buffer, now, stream, (Tag::Full, open_line));
                open_line.clear();
            }
        }
        self.append(&mut state, &buffer);
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn close(&self) {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = Vec::new();
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let text = std::mem::take(&mut state.open_lines[index(stream)]);
            if !text.is_empty() {
                write(&mut buffer, now, stream, (Tag::Full, &text));
            }
        }
        self.append(&mut state, &buffer);
        drop(state);
        self.changes.send_modify(|change| change.is_closed = true);
    }
}
