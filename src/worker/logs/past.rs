//! What a log holds already: the rotated file and the current one, set to where reading begins.
//!
//! A tail is looked for from the end, in a window that doubles until it holds the lines, so that
//! the last ten lines of a large log cost a small read and no reader holds a whole log.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::file::rotated;
use super::format::tail_start;

const WINDOW: u64 = 64 << 10;

/// The files, each at the first byte to be read.
pub(super) struct Past {
    pub(super) rotated: Option<File>,
    pub(super) current: Option<File>,
}

impl Past {
    /// Opens what is there; with `tail` only the last lines are before the reader.
    pub(super) fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut past = Self {
            rotated: open(&rotated(path))?,
            current: open(path)?,
        };
        if let Some(count) = tail {
            past.skip_to_tail(count)?;
        }
        Ok(past)
    }

    fn skip_to_tail(&mut self, count: usize) -> io::Result<()> {
        let older = self.rotated.as_ref().map_or(Ok(0), length)?;
        let end = older + self.current.as_ref().map_or(Ok(0), length)?;
        let mut window = WINDOW;
        let start = loop {
            let from = end.saturating_sub(window);
            let content = self.read(from, older, end)?;
            // What the window cuts is no line; only the whole log may begin with its first byte.
            let cut = content.iter().position(|byte| *byte == b'\n');
            let cut = if from == 0 {
                Some(0)
            } else {
                cut.map(|at| at + 1)
            };
            if let Some(cut) = cut {
                let start = tail_start(&content[cut..], count);
                if start > 0 || from == 0 {
                    break from + (cut + start) as u64;
                }
            }
            window = window.saturating_mul(2);
        };
        self.seek(start, older)
    }

    /// The bytes from `from` to `end`, as if both files were one; the first is `older` long.
    fn read(&mut self, from: u64, older: u64, end: u64) -> io::Result<Vec<u8>> {
        self.seek(from, older)?;
        let mut content = Vec::new();
        if let Some(file) = &mut self.rotated {
            file.take(older.saturating_sub(from))
                .read_to_end(&mut content)?;
        }
        if let Some(file) = &mut self.current {
            file.take(end - from.max(older)).read_to_end(&mut content)?;
        }
        Ok(content)
    }

    fn seek(&mut self, to: u64, older: u64) -> io::Result<()> {
        if let Some(file) = &mut self.rotated {
            file.seek(SeekFrom::Start(to.min(older)))?;
        }
        if let Some(file) = &mut self.current {
            file.seek(SeekFrom::Start(to.saturating_sub(older)))?;
        }
        Ok(())
    }
}

/// The file, or `None` if nothing has been written yet.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn length(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last lines of a log whose first `split` lines are in the rotated file.
    fn tail(lines: &[String], split: usize, count: usize) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        if split > 0 {
            std::fs::write(rotated(&path), lines[..split].concat()).unwrap();
        }
        if split < lines.len() {
            std::fs::write(&path, lines[split..].concat()).unwrap();
        }
        let past = Past::open(&path, Some(count)).unwrap();
        let mut text = String::new();
        for mut file in past.rotated.into_iter().chain(past.current) {
            file.read_to_string(&mut text).unwrap();
        }
        text
    }

    #[test]
    fn the_tail_is_found_in_either_file_and_beyond_the_first_window() {
        // The 70th line and those around it do not fit in one window.
        let filler = |number| 100 + usize::from(number == 70_u8) * 200_000;
        let lines: Vec<String> = (0..100_u8)
            .map(|number| format!("t stdout F {number} {}\n", "x".repeat(filler(number))))
            .collect();
        for split in [0, 1, 50, 71, 99, 100] {
            for count in [0, 1, 2, 29, 30, 31, 99, 100, 101] {
                let expected = lines[lines.len().saturating_sub(count)..].concat();
                assert!(tail(&lines, split, count) == expected, "{split} {count}");
            }
        }
        assert_eq!(tail(&[], 0, 5), "");
    }
}
