//! Kubernetes' remote command over a WebSocket: `v5.channel.k8s.io` and what came before it.
//!
//! A message's first byte says which stream it belongs to. The end is a `Status` on the error
//! channel, then the close. Version 5 adds that a client can end its standard input. With `base64`
//! in the name messages are text: a digit for the stream, and the bytes in base64. Before version 4
//! the error channel has no `Status` but the words of a failure, and nothing after a success.

use axum::extract::ws::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::runtime::spec::LogStream;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Input(Bytes),
    EndOfInput,
    /// Like the size of its window, which nothing here asks for.
    Nothing,
    Nonsense,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    is_base64: bool,
    /// Whether the error channel tells a `Status`.
    has_status: bool,
}

impl Protocol {
    /// That of the name, which is none for those who offered none.
    pub(super) fn named(name: &str) -> Self {
        Self {
            is_base64: name.ends_with("base64.channel.k8s.io"),
            has_status: name.starts_with("v4.") || name.starts_with("v5."),
        }
    }

    /// Reads a message.
    pub(super) fn read(self, message: Bytes) -> Said {
        let message = match message.split_first() {
            Some((digit, text)) if self.is_base64 => match STANDARD.decode(text) {
                Ok(bytes) => framed(digit.wrapping_sub(b'0'), &bytes).into(),
                Err(_) => return Said::Nonsense,
            },
            Some(_) | None => message,
        };
        match &*message {
            [STDIN, ..] => Said::Input(message.slice(1..)),
            [CLOSE, STDIN] => Said::EndOfInput,
            // Closing other channels means nothing, nor does an empty message.
            [RESIZE | CLOSE, ..] | [] => Said::Nothing,
            _ => Said::Nonsense,
        }
    }

    /// A message of output.
    pub(super) fn output(self, stream: LogStream, chunk: &[u8]) -> Message {
        let channel = match stream {
            LogStream::Stdout => STDOUT,
            LogStream::Stderr => STDERR,
        };
        self.message(channel, chunk)
    }

    /// The message that tells how it ended, if that is told.
    pub(super) fn status(self, status: &Value) -> Option<Message> {
        if self.has_status {
            return Some(self.message(ERROR, status.to_string().as_bytes()));
        }
        let words = status["message"].as_str()?;
        Some(self.message(ERROR, words.as_bytes()))
    }

    fn message(self, channel: u8, bytes: &[u8]) -> Message {
        if !self.is_base64 {
            return Message::Binary(framed(channel, bytes).into());
        }
        let mut text = char::from(b'0' + channel).to_string();
        STANDARD.encode_string(bytes, &mut text);
        Message::Text(text.into())
    }
}

fn framed(channel: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    message
}

/// How a command ended, as a `Status`.
pub(super) fn ended(code: i32) -> Value {
    if code == 0 {
        return json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// Why there was no command, as a `Status`.
pub(super) fn failed(message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "InternalError", "message": message, "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_their_channel() {
        let protocol = Protocol::named("v5.channel.k8s.io");
        let read = |bytes: &'static [u8]| protocol.read(Bytes::from_static(bytes));
        assert_eq!(read(b"\x00ls\n"), Said::Input(Bytes::from_static(b"ls\n")));
        assert_eq!(read(&[255, 0]), Said::EndOfInput);
        assert_eq!(read(b"\x04{\"Width\":80}"), Said::Nothing);
        assert_eq!(read(b"\x01x"), Said::Nonsense);
        assert_eq!(read(b""), Said::Nothing);
        let binary = |bytes: &'static [u8]| Message::Binary(bytes.into());
        assert_eq!(protocol.output(LogStream::Stderr, b"x"), binary(b"\x02x"));
        assert_eq!(ended(3)["details"]["causes"][0]["message"], "3");
        assert_eq!(ended(0)["status"], "Success");
    }

    #[test]
    fn base64_is_text_behind_a_digit() {
        let protocol = Protocol::named("v4.base64.channel.k8s.io");
        let read = |text: &'static str| protocol.read(Bytes::from_static(text.as_bytes()));
        assert_eq!(read("0bHMK"), Said::Input(Bytes::from_static(b"ls\n")));
        assert_eq!(read("0?"), Said::Nonsense);
        assert_eq!(read("4e30="), Said::Nothing);
        let text = protocol.output(LogStream::Stdout, b"x");
        assert_eq!(text, Message::Text("1eA==".into()));
    }

    #[test]
    fn before_version_4_a_failure_is_words_and_success_nothing() {
        let words = "command terminated with non-zero exit code: exit status 3";
        for (name, expected) in [
            ("", Message::Binary(framed(ERROR, words.as_bytes()).into())),
            (
                "base64.channel.k8s.io",
                Message::Text(format!("3{}", STANDARD.encode(words)).into()),
            ),
        ] {
            let protocol = Protocol::named(name);
            assert_eq!(protocol.status(&ended(0)), None, "{name}");
            assert_eq!(protocol.status(&ended(3)), Some(expected), "{name}");
        }
    }
}
