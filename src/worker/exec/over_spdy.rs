//! Kubernetes' remote command over SPDY, `v4.channel.k8s.io`: a stream for each of error, stdin,
//! stdout, stderr and resize, all opened by the client before anything runs.
//!
//! The end is a `Status` on the error stream, then the end of every stream. Which size a terminal
//! has is read and dropped: WASI has no way for a guest to ask.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Ear, Heard, Voice};
use super::session::{GOODBYE, Options};
use crate::runtime::spec::LogStream;
use crate::worker::spdy::{self, Reader, Stream, Writer};

/// What is spoken.
pub const PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];

/// How long a client may take to open its streams, as in Kubernetes.
const OPENING: Duration = Duration::from_secs(30);
/// No command has more.
const STREAMS: usize = 8;

/// Serves one command over a connection: `work` gets the client once all its streams are open.
pub async fn serve(
    io: impl AsyncRead + AsyncWrite,
    options: Options,
    work: impl FnOnce(Client) -> BoxFuture<'static, ()>,
) {
    let (accept, streams) = mpsc::channel(STREAMS);
    // Input waits as long as the program likes.
    let session = spdy::run(io, accept, None);
    let is_done = CancellationToken::new();
    let working = async {
        match tokio::time::timeout(OPENING, collect(streams, options)).await {
            Ok(Some(client)) => work(client).await,
            Ok(None) => {}
            Err(_) => tracing::debug!("a client did not open the streams of its command"),
        }
        is_done.cancel();
    };
    let serving = async {
        tokio::select! {
            ended = session => {
                if let Err(error) = ended {
                    tracing::debug!(error = %crate::errors::chain(&error), "a command's session");
                }
            }
            () = async {
                is_done.cancelled().await;
                // What waits is still sent, and the client closes.
                tokio::time::sleep(GOODBYE).await;
            } => {}
        }
    };
    tokio::join!(working, serving);
}

/// The streams that a client must open.
fn expected(options: Options) -> Vec<&'static str> {
    let wanted = [
        ("error", true),
        ("stdin", options.stdin),
        ("stdout", options.stdout),
        // A terminal has one stream for both.
        ("stderr", options.stderr && !options.tty),
        ("resize", options.tty),
    ];
    let wanted = wanted.into_iter().filter(|(_, is_wanted)| *is_wanted);
    wanted.map(|(name, _)| name).collect()
}

/// Waits for the streams; `None` when the client goes away before.
async fn collect(mut streams: mpsc::Receiver<Stream>, options: Options) -> Option<Client> {
    let expected = expected(options);
    let mut opened: HashMap<&str, Stream> = HashMap::new();
    while opened.len() < expected.len() {
        let stream = streams.recv().await?;
        let kind = stream.headers.get("streamtype").unwrap_or_default();
        match expected.iter().find(|name| **name == kind) {
            Some(name) if !opened.contains_key(name) => {
                opened.insert(name, stream);
            }
            Some(_) | None => {
                stream.writer.reset().await;
            }
        }
    }
    let error = opened.remove("error")?.writer;
    let stdin = opened.remove("stdin");
    let (input, answer) = match stdin {
        Some(stream) => (Some(stream.reader), Some(stream.writer)),
        None => (None, None),
    };
    let mut writer = |name| opened.remove(name).map(|stream| stream.writer);
    let told = Told {
        stdout: writer("stdout"),
        stderr: writer("stderr"),
        others: answer.into_iter().chain(writer("resize")).collect(),
        error: error.into(),
    };
    let typing = Typing {
        error: std::sync::Arc::clone(&told.error),
        input,
    };
    Some(Client {
        ear: Ear::Spdy(typing),
        voice: Voice::Spdy(told),
    })
}

/// The client's standard input.
pub(super) struct Typing {
    input: Option<Reader>,
    /// It lives as long as the session.
    error: std::sync::Arc<Writer>,
}

impl Typing {
    pub(super) async fn next(&mut self) -> Option<Heard> {
        if let Some(input) = &mut self.input {
            if let Some(bytes) = input.next().await {
                return Some(Heard::Input(bytes));
            }
            self.input = None;
            return Some(Heard::EndOfInput);
        }
        self.gone().await;
        None
    }

    pub(super) async fn gone(&self) {
        self.error.gone().await;
    }
}

/// The streams to the client.
pub(super) struct Told {
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    others: Vec<Writer>,
    error: std::sync::Arc<Writer>,
}

impl Told {
    pub(super) async fn output(&self, stream: LogStream, chunk: &[u8]) -> bool {
        let writer = match stream {
            LogStream::Stdout => &self.stdout,
            LogStream::Stderr => &self.stderr,
        };
        match writer {
            Some(writer) => writer.send(chunk).await,
            None => true,
        }
    }

    pub(super) async fn finish(&self, status: &Value) -> bool {
        let told = self.error.send(status.to_string().as_bytes()).await;
        let outputs = self.stdout.iter().chain(&self.stderr).chain(&self.others);
        for writer in outputs.chain([&*self.error]) {
            writer.finish().await;
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(streams: &str, names: &[&str]) {
        let options = Options {
            stdin: streams.contains('i'),
            stdout: streams.contains('o'),
            stderr: streams.contains('e'),
            tty: streams.contains('t'),
        };
        assert_eq!(expected(options), names, "{streams}");
    }

    #[test]
    fn a_terminal_has_a_size_and_no_stderr() {
        check("", &["error"]);
        check("oe", &["error", "stdout", "stderr"]);
        check("ioe", &["error", "stdin", "stdout", "stderr"]);
        check("ioet", &["error", "stdin", "stdout", "resize"]);
    }
}
