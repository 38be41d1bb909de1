//! The CRI line format: writing lines, and reading them back.

use std::io::Write as _;

use jiff::Timestamp;

use crate::runtime::spec::LogStream;

/// A longer line is written in pieces.
pub(super) const LINE_BYTES: usize = 16 << 10;

/// Whether a piece ends its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Full,
    Partial,
}

/// Appends one formatted piece.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    time: Timestamp,
    stream: LogStream,
    (tag, text): (Tag, &[u8]),
) {
    let stream = match stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    };
    let tag = match tag {
        Tag::Full => 'F',
        Tag::Partial => 'P',
    };
    // Writing to a `Vec` cannot fail.
    let _ = write!(buffer, "{time:.9} {stream} {tag} ");
    buffer.extend_from_slice(text);
    buffer.push(b'\n');
}

/// A piece that was read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) time: &'a [u8],
    pub(super) tag: Tag,
    pub(super) text: &'a [u8],
}

impl Piece<'_> {
    /// When it was written; `None` if the file is damaged.
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse().ok()
    }
}

/// Parses one line of the file, without its newline.
pub(super) fn parse(line: &[u8]) -> Option<Piece<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, _stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let tag = match tag {
        b"F" => Tag::Full,
        b"P" => Tag::Partial,
        _ => return None,
    };
    Some(Piece { time, tag, text })
}

/// Where the last `count` lines of `content` begin; pieces of one line are one line.
pub(super) fn tail_start(content: &[u8], count: usize) -> usize {
    let mut seen = 0;
    let mut start = content.len();
    let mut end = content.len();
    while end > 0 {
        let line_end = end - usize::from(content[end - 1] == b'\n');
        let line_start = content[..line_end]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let tag = parse(&content[line_start..line_end]).map(|piece| piece.tag);
        // A line ends with a full piece, or, at the very end, with a piece that waits for more.
        if tag != Some(Tag::Partial) || end == content.len() {
            seen += 1;
            if seen > count {
                return start;
            }
        }
        start = line_start;
        end = line_start;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut buffer = Vec::new();
        let time = Timestamp::from_millisecond(1500).unwrap();
        write(&mut buffer, time, LogStream::Stderr, (Tag::Full, b"a b  c"));
        assert_eq!(buffer, b"1970-01-01T00:00:01.500000000Z stderr F a b  c\n");
        let piece = parse(&buffer[..buffer.len() - 1]).unwrap();
        assert_eq!((piece.text, piece.tag), (&b"a b  c"[..], Tag::Full));
        assert_eq!(piece.timestamp(), Some(time));
        assert_eq!(parse(b"garbage"), None);
        assert_eq!(parse(b"t stdout F ").unwrap().text, b"");
    }

    #[test]
    fn the_tail_counts_lines_not_pieces() {
        let content = b"t stdout F 1\nt stdout P 2a\nt stdout F 2b\nt stdout F 3\n";
        let tail = |count| std::str::from_utf8(&content[tail_start(content, count)..]).unwrap();
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "t stdout F 3\n");
        assert_eq!(tail(2), "t stdout P 2a\nt stdout F 2b\nt stdout F 3\n");
        assert_eq!(tail(9).len(), content.len());
        assert_eq!(tail_start(b"", 3), 0);
    }
}
