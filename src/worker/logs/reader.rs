//! The reading end: `tailLines`, `sinceTime`, `limitBytes`, `timestamps` and `follow`.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::Error;
use super::file::Change;
use super::format::{Tag, parse};
use super::past::{Past, open};
use crate::clock::Clock;

/// What to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    pub follow: bool,
    pub timestamps: bool,
    pub tail_lines: Option<usize>,
    pub since_seconds: Option<u64>,
    pub since_time: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
}

/// A log as chunks of text.
pub struct Reader {
    changes: Option<watch::Receiver<Change>>,
    /// `None` once a read was given up in the middle.
    files: Option<Box<Files>>,
}

/// What is read where it may wait for the disk.
struct Files {
    path: PathBuf,
    changes: Option<watch::Receiver<Change>>,
    output: Output,
    position: Position,
    tail_lines: Option<usize>,
}

enum Position {
    Start,
    /// In the rotated file; the current one comes next.
    Past {
        file: std::fs::File,
        next: Option<std::fs::File>,
        rotations: u32,
    },
    /// In the current file, to its end and beyond.
    Following {
        file: std::fs::File,
        rotations: u32,
    },
    /// There is no file yet.
    Absent,
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
        let changes = changes.filter(|_| query.follow);
        let files = Files {
            path,
            changes: changes.clone(),
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
        };
        Self {
            changes,
            files: Some(Box::new(files)),
        }
    }

    /// The next text, or `None` at the end; waits while it follows a running container.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let is_closed = self
                .changes
                .as_mut()
                .is_none_or(|it| it.borrow_and_update().is_closed);
            let mut files = self.files.take()?;
            if files.output.remaining == Some(0) {
                return None;
            }
            let reading = tokio::task::spawn_blocking(move || {
                let text = files.read_some();
                (files, text)
            });
            let Ok((files, text)) = reading.await else {
                return Some(Err(Error::Ending));
            };
            let text = match text {
                Ok(text) => text,
                Err(source) => {
                    let path = files.path;
                    return Some(Err(Error::Read { path, source }));
                }
            };
            self.files = Some(files);
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
}

impl Files {
    /// Reads until some text is there or the files are at their end.
    fn read_some(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            let rotations = self.changes.as_ref().map_or(0, |it| it.borrow().rotations);
            match &mut self.position {
                Position::Start => {
                    let past = Past::open(&self.path, self.tail_lines)?;
                    self.position = match (past.rotated, past.current) {
                        (Some(file), next) => Position::Past {
                            file,
                            next,
                            rotations,
                        },
                        (None, next) => Position::following(next, rotations),
                    };
                }
                Position::Past {
                    file,
                    next,
                    rotations,
                } => {
                    let text = self.output.read(file)?;
                    if text.is_none() {
                        self.position = Position::following(next.take(), *rotations);
                    }
                    if let Some(text) = text.filter(|text| !text.is_empty()) {
                        return Ok(text);
                    }
                }
                Position::Absent => match open(&self.path)? {
                    Some(file) => self.position = Position::Following { file, rotations },
                    None => return Ok(Vec::new()),
                },
                Position::Following {
                    file,
                    rotations: seen,
                } => {
                    match self.output.read(file)? {
                        Some(text) if text.is_empty() => {}
                        Some(text) => return Ok(text),
                        None if *seen == rotations => return Ok(Vec::new()),
                        // The old file is read to its end; go on in the new one.
                        None => self.position = Position::Absent,
                    }
                }
            }
        }
    }
}

impl Position {
    fn following(file: Option<std::fs::File>, rotations: u32) -> Self {
        match file {
            Some(file) => Self::Following { file, rotations },
            None => Self::Absent,
        }
    }
}

impl Output {
    /// The text of the file's next bytes; `None` at its end.
    fn read(&mut self, file: &mut std::fs::File) -> std::io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; CHUNK];
        let count = file.read(&mut buffer)?;
        Ok((count > 0).then(|| self.take(&buffer[..count])))
    }

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
        let lines = input[..whole].split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
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
