//! The reading end: `tailLines`, `sinceTime`, `limitBytes`, `timestamps` and `follow`.

use std::collections::VecDeque;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::Error;
use super::file::{Change, rotated};
use super::format::{Tag, parse, tail_start};
use crate::clock::Clock;

/// What to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail_lines: Option<usize>,
    pub since_seconds: Option<u64>,
    pub since_time: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
}

/// A log as chunks of text.
pub struct Reader {
    path: PathBuf,
    changes: Option<watch::Receiver<Change>>,
    output: Output,
    position: Position,
    tail_lines: Option<usize>,
}

enum Position {
    Start,
    /// Everything of before has been given; the file goes on from `offset`.
    Following {
        file: std::fs::File,
        rotations: u32,
    },
    /// There is no file yet.
    Absent,
    End,
}

/// Formats pieces as the client wants them.
struct Output {
    timestamps: bool,
    since: Option<Timestamp>,
    remaining: Option<u64>,
    /// An incomplete line of the file.
    rest: Vec<u8>,
    /// Inside a line that was written in pieces.
    is_continued: bool,
    is_skipping: bool,
}

const CHUNK: usize = 64 << 10;

impl Reader {
    pub(super) fn new(
        path: PathBuf,
        changes: Option<watch::Receiver<Change>>,
        query: &Query,
        clock: &Clock,
    ) -> Self {
        let seconds_ago = query.since_seconds.map(Duration::from_secs);
        let since = seconds_ago.and_then(|length| clock.now().checked_sub(length).ok());
        Self {
            path,
            changes: changes.filter(|_| query.follow),
            output: Output {
                timestamps: query.timestamps,
                since: query.since_time.max(since),
                remaining: query.limit_bytes,
                rest: Vec::new(),
                is_continued: false,
                is_skipping: false,
            },
            position: Position::Start,
            tail_lines: query.tail_lines,
        }
    }

    /// The next text, or `None` at the end; waits while it follows a running container.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if self.output.remaining == Some(0) {
                return None;
            }
            let is_closed = self
                .changes
                .as_mut()
                .is_none_or(|it| it.borrow_and_update().is_closed);
            let text = match self.read_some() {
                Ok(text) => text,
                Err(source) => {
                    self.position = Position::End;
                    let path = self.path.clone();
                    return Some(Err(Error::Read { path, source }));
                }
            };
            if !text.is_empty() {
                return Some(Ok(Bytes::from(text)));
            }
            match &mut self.changes {
                Some(changes) if !is_closed => {
                    // The sender lives as long as anybody can write.
                    if changes.changed().await.is_err() {
                        self.changes = None;
                    }
                }
                Some(_) | None => return None,
            }
        }
    }

    /// Reads until some text is there or the files are at their end.
    fn read_some(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            let rotations = self.changes.as_ref().map_or(0, |it| it.borrow().rotations);
            match &mut self.position {
                Position::End => return Ok(Vec::new()),
                Position::Start => return self.read_past(rotations),
                Position::Absent => match open(&self.path)? {
                    Some(file) => self.position = Position::Following { file, rotations },
                    None => return Ok(Vec::new()),
                },
                Position::Following {
                    file,
                    rotations: seen,
                } => {
                    let mut buffer = vec![0; CHUNK];
                    let count = file.read(&mut buffer)?;
                    if count > 0 {
                        let text = self.output.take(&buffer[..count]);
                        if !text.is_empty() {
                            return Ok(text);
                        }
                    } else if *seen == rotations {
                        return Ok(Vec::new());
                    } else {
                        // The old file is read to its end; go on in the new one.
                        self.position = Position::Absent;
                    }
                }
            }
        }
    }

    /// What is there already: the rotated file and the current one, bounded by rotation.
    fn read_past(&mut self, rotations: u32) -> std::io::Result<Vec<u8>> {
        let mut content = Vec::new();
        if let Some(mut file) = open(&rotated(&self.path))? {
            file.read_to_end(&mut content)?;
        }
        let current = open(&self.path)?;
        self.position = match current {
            Some(mut file) => {
                file.read_to_end(&mut content)?;
                let end = file.stream_position()?;
                file.seek(SeekFrom::Start(end))?;
                Position::Following { file, rotations }
            }
            None => Position::Absent,
        };
        let start = self
            .tail_lines
            .map_or(0, |count| tail_start(&content, count));
        Ok(self.output.take(&content[start..]))
    }
}

fn open(path: &std::path::Path) -> std::io::Result<Option<std::fs::File>> {
    match std::fs::File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Output {
    /// Turns bytes of the file into text for the client.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.rest);
        input.extend_from_slice(bytes);
        let whole = input
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.rest = input[whole..].to_vec();
        let mut text = Vec::with_capacity(whole);
        let lines: VecDeque<&[u8]> = input[..whole].split(|byte| *byte == b'\n').collect();
        for line in lines.into_iter().filter(|line| !line.is_empty()) {
            self.piece(line, &mut text);
        }
        if let Some(remaining) = &mut self.remaining {
            text.truncate(usize::try_from(*remaining).unwrap_or(usize::MAX));
            *remaining -= text.len() as u64;
        }
        text
    }

    fn piece(&mut self, line: &[u8], text: &mut Vec<u8>) {
        // A damaged line is shown as it is rather than lost.
        let Some(piece) = parse(line) else {
            text.extend_from_slice(line);
            text.push(b'\n');
            return;
        };
        if !self.is_continued {
            let is_old = |since: Timestamp| piece.timestamp().is_some_and(|time| time < since);
            self.is_skipping = self.since.is_some_and(is_old);
            if self.timestamps && !self.is_skipping {
                text.extend_from_slice(piece.time);
                text.push(b' ');
            }
        }
        if !self.is_skipping {
            text.extend_from_slice(piece.text);
            if piece.tag == Tag::Full {
                text.push(b'\n');
            }
        }
        self.is_continued = piece.tag == Tag::Partial;
    }
}
