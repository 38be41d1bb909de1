//! Kubernetes' remote command over a WebSocket: `v4.channel.k8s.io` and `v5.channel.k8s.io`.
//!
//! A binary message's first byte says which stream it belongs to. The end is a `Status` on the
//! error channel, then the close. Version 5 adds that a client can end its standard input.

use serde_json::{Value, json};

use crate::runtime::spec::LogStream;

/// What is spoken, best first.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    Input(&'a [u8]),
    EndOfInput,
    /// Like the size of its window, which nothing here asks for.
    Nothing,
    Nonsense,
}

/// Reads a message.
pub(super) fn read(message: &[u8]) -> Said<'_> {
    match message {
        [STDIN, bytes @ ..] => Said::Input(bytes),
        [CLOSE, STDIN] => Said::EndOfInput,
        // Closing other channels means nothing, nor does an empty message.
        [RESIZE | CLOSE, ..] | [] => Said::Nothing,
        _ => Said::Nonsense,
    }
}

/// A message of output.
pub(super) fn output(stream: LogStream, chunk: &[u8]) -> Vec<u8> {
    let channel = match stream {
        LogStream::Stdout => STDOUT,
        LogStream::Stderr => STDERR,
    };
    framed(channel, chunk)
}

/// The message that ends a session.
pub(super) fn status(status: &Value) -> Vec<u8> {
    framed(ERROR, status.to_string().as_bytes())
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
        assert_eq!(read(b"\x00ls\n"), Said::Input(b"ls\n"));
        assert_eq!(read(&[255, 0]), Said::EndOfInput);
        assert_eq!(read(b"\x04{\"Width\":80}"), Said::Nothing);
        assert_eq!(read(b"\x01x"), Said::Nonsense);
        assert_eq!(output(LogStream::Stderr, b"x"), b"\x02x");
        assert_eq!(ended(3)["details"]["causes"][0]["message"], "3");
        assert_eq!(ended(0)["status"], "Success");
    }
}
