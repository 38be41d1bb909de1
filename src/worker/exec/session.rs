//! One client and one program, until either ends.
//!
//! Two halves run side by side: what the client sends goes to the program as fast as it reads, what
//! the program writes goes to the client as fast as that reads. A ping now and then finds clients
//! that are gone while nothing is said.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;

use super::channels::{self, Said};
use super::output::{Chunks, Queue};
use super::terminal::Terminal;
use super::{Command, start};
use crate::errors::chain;
use crate::runtime::spec::LogStream;
use crate::runtime::{ContainerHandle, PodSandbox, Stdin};
use crate::worker::context::Context;

const PING: Duration = Duration::from_secs(10);
/// A client that takes nothing for so long is gone.
const SEND: Duration = Duration::from_secs(30);
/// How long a client may take to answer the close.
const GOODBYE: Duration = Duration::from_secs(2);
/// What a shell shows for a program that was interrupted: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The program did.
    Program,
    /// The client went away.
    Client,
    /// The client pressed Ctrl-C.
    Interrupted,
}

/// Runs a command for a client; it ends with the connection.
pub async fn exec(
    context: Arc<Context>,
    sandbox: Arc<PodSandbox>,
    command: Command,
    options: Options,
    socket: WebSocket,
) {
    let (queue, chunks) = Queue::new();
    let started = start(&context, &sandbox, command, queue).await;
    match started {
        Ok(guard) => {
            let handle = guard.handle();
            let stdin = handle.stdin().cloned();
            talk(socket, handle, chunks, stdin.as_ref(), options).await;
        }
        Err(error) => {
            let text = chain(&error).to_string();
            let (mut sink, _stream) = socket.split();
            finish(&mut sink, &channels::failed(&text)).await;
        }
    }
}

/// Passes bytes both ways until the program or the client ends; tells the client how.
pub(super) async fn talk(
    socket: WebSocket,
    handle: &ContainerHandle,
    chunks: Chunks,
    stdin: Option<&Stdin>,
    options: Options,
) -> Ended {
    let (mut sink, mut stream) = socket.split();
    let (echo, echoed) = mpsc::channel(64);
    let mut speaker = Speaker {
        sink: &mut sink,
        chunks,
        echoed,
        options,
        terminal: Terminal::default(),
    };
    let ended = tokio::select! {
        ended = listen(&mut stream, stdin, options, echo) => ended,
        ended = speaker.speak() => ended,
    };
    match ended {
        Ended::Client => {}
        Ended::Interrupted => {
            handle.kill();
            finish(&mut sink, &channels::ended(INTERRUPTED)).await;
        }
        Ended::Program => {
            let exit = handle.wait().await;
            finish(&mut sink, &channels::ended(exit.code)).await;
        }
    }
    // The client answers the close; a connection that is cut before would lose what it has not read.
    let draining = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = tokio::time::timeout(GOODBYE, draining).await;
    ended
}

type Sink = SplitSink<WebSocket, Message>;

async fn send(sink: &mut Sink, message: Message) -> bool {
    let sent = tokio::time::timeout(SEND, sink.send(message)).await;
    matches!(sent, Ok(Ok(())))
}

async fn finish(sink: &mut Sink, status: &serde_json::Value) {
    let told = send(sink, Message::Binary(channels::status(status).into())).await;
    if told {
        let close = axum::extract::ws::CloseFrame {
            code: axum::extract::ws::close_code::NORMAL,
            reason: "".into(),
        };
        send(sink, Message::Close(Some(close))).await;
    }
}

/// The client's half: ends when it goes away.
async fn listen(
    stream: &mut SplitStream<WebSocket>,
    stdin: Option<&Stdin>,
    options: Options,
    echo: mpsc::Sender<Vec<u8>>,
) -> Ended {
    let mut terminal = Terminal::default();
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => break,
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) => continue,
        };
        match (channels::read(&bytes), stdin) {
            (Said::Input(keys), Some(stdin)) if options.tty => {
                let typed = terminal.keys(keys);
                // Nobody who reads echoes means that the session is over.
                let _ = echo.send(typed.echo).await;
                if typed.is_interrupt {
                    return Ended::Interrupted;
                }
                stdin.send(&typed.input).await;
                if typed.is_end {
                    stdin.close();
                }
            }
            (Said::Input(bytes), Some(stdin)) => {
                stdin.send(bytes).await;
            }
            (Said::EndOfInput, Some(stdin)) => stdin.close(),
            (Said::Input(_) | Said::EndOfInput, None) | (Said::Nothing, _) => {}
            (Said::Nonsense, _) => break,
        }
    }
    Ended::Client
}

/// The program's half.
struct Speaker<'a> {
    sink: &'a mut Sink,
    chunks: Chunks,
    echoed: mpsc::Receiver<Vec<u8>>,
    options: Options,
    terminal: Terminal,
}

impl Speaker<'_> {
    /// Ends when the program has said all, or the client does not hear it.
    async fn speak(&mut self) -> Ended {
        loop {
            let message = tokio::select! {
                chunk = self.chunks.next() => match chunk {
                    Some((stream, chunk)) => match self.output(stream, &chunk) {
                        Some(message) => message,
                        None => continue,
                    },
                    None => return Ended::Program,
                },
                Some(echo) = self.echoed.recv() => {
                    Message::Binary(channels::output(LogStream::Stdout, &echo).into())
                }
                () = tokio::time::sleep(PING) => Message::Ping(Vec::new().into()),
            };
            if !send(self.sink, message).await {
                return Ended::Client;
            }
        }
    }

    fn output(&mut self, stream: LogStream, chunk: &[u8]) -> Option<Message> {
        if self.options.tty {
            // A terminal has one stream for both.
            let text = self.terminal.output(chunk);
            let message = channels::output(LogStream::Stdout, &text);
            return Some(Message::Binary(message.into()));
        }
        let is_wanted = match stream {
            LogStream::Stdout => self.options.stdout,
            LogStream::Stderr => self.options.stderr,
        };
        is_wanted.then(|| Message::Binary(channels::output(stream, chunk).into()))
    }
}
