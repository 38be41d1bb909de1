//! A terminal's line discipline, for `-t`: what a kernel does between a keyboard and a program.
//!
//! The client's terminal is in raw mode and sends single keys. Lines are echoed and collected here,
//! with backspace, Ctrl-U, Ctrl-W, Ctrl-C (ends the program; there are no signals) and Ctrl-D (end
//! of input at the start of a line). Output gets its carriage returns. There is no raw mode for
//! guests, because WASI has no way to ask for it.

/// A line that is longer is handed over as it is.
const MAX_LINE: usize = 4096;

const BELL: u8 = 0x07;
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL_LINE: u8 = 0x15;
const KILL_WORD: u8 = 0x17;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// What keys came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// Shown to the user.
    pub(super) echo: Vec<u8>,
    /// Whole lines for the program.
    pub(super) input: Vec<u8>,
    pub(super) is_end: bool,
    pub(super) is_interrupt: bool,
}

/// The state between two keys.
#[derive(Default)]
pub(super) struct Terminal {
    line: Vec<u8>,
    /// Inside an escape sequence, which is swallowed: arrows mean nothing here.
    is_escaping: bool,
    last_out: u8,
}

impl Terminal {
    /// Takes keys.
    pub(super) fn keys(&mut self, keys: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for key in keys {
            self.key(*key, &mut typed);
            if typed.is_end || typed.is_interrupt {
                break;
            }
        }
        typed
    }

    fn key(&mut self, key: u8, typed: &mut Typed) {
        if self.is_escaping {
            self.is_escaping = !(key.is_ascii_alphabetic() || key == b'~');
            return;
        }
        match key {
            ESCAPE => self.is_escaping = true,
            b'\r' | b'\n' => {
                typed.echo.extend_from_slice(b"\r\n");
                self.line.push(b'\n');
                typed.input.append(&mut self.line);
            }
            BACKSPACE | DELETE => self.erase(typed),
            KILL_LINE => {
                while !self.line.is_empty() {
                    self.erase(typed);
                }
            }
            KILL_WORD => {
                while self.line.last() == Some(&b' ') {
                    self.erase(typed);
                }
                while self.line.last().is_some_and(|last| *last != b' ') {
                    self.erase(typed);
                }
            }
            INTERRUPT => {
                typed.echo.extend_from_slice(b"^C\r\n");
                typed.is_interrupt = true;
            }
            END if self.line.is_empty() => typed.is_end = true,
            END => typed.input.append(&mut self.line),
            b'\t' | 0x20.. if self.line.len() < MAX_LINE => {
                self.line.push(key);
                typed.echo.push(key);
            }
            _ => typed.echo.push(BELL),
        }
    }

    /// Takes the last letter back, whole, however many bytes it has.
    fn erase(&mut self, typed: &mut Typed) {
        while let Some(byte) = self.line.pop() {
            let is_continuation = byte & 0xc0 == 0x80;
            if !is_continuation {
                typed.echo.extend_from_slice(b"\x08 \x08");
                return;
            }
        }
    }

    /// Output as a terminal wants it.
    pub(super) fn output(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 16);
        for byte in bytes {
            if *byte == b'\n' && self.last_out != b'\r' {
                out.push(b'\r');
            }
            out.push(*byte);
            self.last_out = *byte;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &[u8], input: &str) {
        let typed = Terminal::default().keys(keys);
        assert_eq!(String::from_utf8_lossy(&typed.input), input, "{keys:?}");
    }

    #[test]
    fn lines_are_collected_and_edited() {
        check(b"ls\r", "ls\n");
        check(b"ls", "");
        check(b"lx\x7fs\r", "ls\n");
        check("l\u{e4}\u{8}s\r".as_bytes(), "ls\n");
        check(b"\x7f\x7fls\r", "ls\n");
        check(b"rm -r\x15ls\r", "ls\n");
        check(b"ls /tmp\x17/\r", "ls /\n");
        check(b"l\x1b[As\x1b[3~\r", "ls\n");
        check(b"partial\x04", "partial");
    }

    #[test]
    fn what_is_typed_is_echoed() {
        let typed = Terminal::default().keys(b"a\x7f\r");
        assert_eq!(typed.echo, b"a\x08 \x08\r\n");
    }

    #[test]
    fn interrupt_and_end_are_told() {
        assert!(Terminal::default().keys(b"\x03").is_interrupt);
        assert!(Terminal::default().keys(b"\x04").is_end);
        assert!(!Terminal::default().keys(b"a\x04").is_end);
    }

    #[test]
    fn output_gets_its_carriage_returns_once() {
        let mut terminal = Terminal::default();
        assert_eq!(terminal.output(b"a\nb\r\nc\r"), b"a\r\nb\r\nc\r");
        assert_eq!(terminal.output(b"\n"), b"\n");
    }
}
