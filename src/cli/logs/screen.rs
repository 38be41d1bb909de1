//! A guest's log as a person sees it.
//!
//! A terminal obeys what it is sent: it takes titles and clipboards from a program's output, and lets
//! lines vanish that were there. What `logs` shows is somebody else's output, so on a terminal control
//! characters are written out instead of obeyed. Into a file or a pipe go the bytes as they are.

use std::fmt::Write as _;

use crate::cli::console;
use crate::cli::failure::Result;

/// Prints logs to where they are wanted.
pub(super) struct Screen {
    is_seen: bool,
    /// The beginning of what the next piece goes on with.
    rest: Vec<u8>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            is_seen: console::is_seen(),
            rest: Vec::new(),
        }
    }

    pub(super) fn print(&mut self, bytes: &[u8]) -> Result {
        if !self.is_seen {
            return console::print_raw(bytes);
        }
        self.rest.extend_from_slice(bytes);
        let (text, shown) = visible(&self.rest);
        self.rest.drain(..shown);
        console::print_raw(text.as_bytes())
    }
}

/// What a terminal may be sent of `bytes`, and how many of them that is: a character that is not whole
/// yet waits.
fn visible(bytes: &[u8]) -> (String, usize) {
    let mut text = String::with_capacity(bytes.len());
    let mut left = bytes;
    while !left.is_empty() {
        let (whole, error) = match std::str::from_utf8(left) {
            Ok(whole) => (whole, None),
            Err(error) => {
                let whole = std::str::from_utf8(&left[..error.valid_up_to()]);
                (whole.unwrap_or_default(), Some(error))
            }
        };
        escape(whole, &mut text);
        left = &left[whole.len()..];
        let Some(error) = error else { break };
        let Some(wrong) = error.error_len() else {
            break;
        };
        for byte in &left[..wrong] {
            let _ = write!(text, "\\x{byte:02x}");
        }
        left = &left[wrong..];
    }
    (text, bytes.len() - left.len())
}

fn escape(whole: &str, text: &mut String) {
    let mut characters = whole.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => text.push(character),
            // The end of a line, in two characters.
            '\r' if characters.peek() == Some(&'\n') => {}
            _ if character.is_ascii_control() => {
                let _ = write!(text, "\\x{:02x}", u32::from(character));
            }
            // U+0080 to U+009F are commands, too.
            _ if character.is_control() => text.extend(character.escape_unicode()),
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_sent_nothing_that_it_would_obey() {
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(visible(bytes), (expected.to_owned(), bytes.len()));
        };
        check(b"plain\n\ttext\n", "plain\n\ttext\n");
        check("Grüße, 世界 🦀\n".as_bytes(), "Grüße, 世界 🦀\n");
        check(b"\x1b]0;title\x07", "\\x1b]0;title\\x07");
        check(b"\x1b]52;c;cm0=\x1b\\", "\\x1b]52;c;cm0=\\x1b\\");
        check(b"\x1b[2J\x1b[31mred\x1b[0m", "\\x1b[2J\\x1b[31mred\\x1b[0m");
        check(b"gone\rforged\n", "gone\\x0dforged\n");
        check(b"line\r\nnext\r\n", "line\nnext\n");
        check(b"\x00\x08\x7f", "\\x00\\x08\\x7f");
        // A command of one character, as UTF-8 and as a bare byte.
        check("\u{9b}2J".as_bytes(), "\\u{9b}2J");
        check(b"\x9b2J\xff.", "\\x9b2J\\xff.");
    }

    #[test]
    fn a_character_in_two_pieces_is_one() {
        let crab = "🦀".as_bytes();
        for cut in 1..crab.len() {
            assert_eq!(visible(&crab[..cut]), (String::new(), 0));
        }
        assert_eq!(visible(b"a\xf0\x9f"), ("a".to_owned(), 1));
        assert_eq!(visible(b"\xf0\x9f\n"), ("\\xf0\\x9f\n".to_owned(), 3));
    }
}
