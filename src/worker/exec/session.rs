//! One client and one program, until either ends.
//!
//! Two halves run side by side: what the client sends goes to the program as fast as it reads, what
//! the program writes goes to the client as fast as that reads. A ping now and then finds clients
//! that are gone while nothing is said.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::channels;
use super::client::{Client, Ear, Heard, Voice};
use super::output::{Chunks, Queue};
use super::terminal::Terminal;
use super::{Command, start};
use crate::errors::chain;
use crate::runtime::spec::LogStream;
use crate::runtime::{ContainerHandle, PodSandbox, Stdin};
use crate::worker::context::Context;

const PING: Duration = Duration::from_secs(10);
/// How long a session whose client will say nothing more listens for the answer.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a client may take to answer the close.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);
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

/// A program's input, and what the end of a client's means for it.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub stdin: &'a Stdin,
    /// Another client may go on typing: the end of this one's input ends the session, not the input.
    pub stays_open: bool,
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
    /// The client has said all, and the program goes on without it.
    Said,
}

/// Runs a command for a client; it ends with the connection.
pub async fn exec(
    context: Arc<Context>,
    sandbox: Arc<PodSandbox>,
    command: Command,
    options: Options,
    mut client: Client,
) {
    let (queue, chunks) = Queue::new();
    let started = start(&context, &sandbox, command, queue).await;
    match started {
        Ok(guard) => {
            let handle = guard.handle();
            let stdin = handle.stdin().cloned();
            let input = stdin.as_ref().map(|stdin| Input {
                stdin,
                stays_open: false,
            });
            talk(client, handle, chunks, input, options).await;
        }
        Err(error) => {
            let text = chain(&error).to_string();
            client.voice.finish(&channels::failed(&text)).await;
        }
    }
}

/// Passes bytes both ways until the program or the client ends; tells the client how.
pub(super) async fn talk(
    client: Client,
    handle: &ContainerHandle,
    chunks: Chunks,
    input: Option<Input<'_>>,
    options: Options,
) -> Ended {
    let Client { mut ear, mut voice } = client;
    let (echo, echoed) = mpsc::channel(64);
    let mut speaker = Speaker {
        voice: &mut voice,
        chunks,
        echoed,
        options,
        terminal: Terminal::default(),
    };
    let ended = tokio::select! {
        ended = listen(&mut ear, input, options, echo) => ended,
        ended = speaker.speak() => ended,
    };
    match ended {
        Ended::Client => {}
        Ended::Said => {
            voice.finish(&channels::ended(0)).await;
        }
        Ended::Interrupted => {
            handle.kill();
            voice.finish(&channels::ended(INTERRUPTED)).await;
        }
        Ended::Program => {
            let exit = handle.wait().await;
            voice.finish(&channels::ended(exit.code)).await;
        }
    }
    let _ = tokio::time::timeout(GOODBYE, ear.drain()).await;
    ended
}

/// The client's half: ends when it goes away.
async fn listen(
    ear: &mut Ear,
    input: Option<Input<'_>>,
    options: Options,
    echo: mpsc::Sender<Vec<u8>>,
) -> Ended {
    let mut terminal = Terminal::default();
    while let Some(heard) = ear.next().await {
        match (heard, input) {
            (Heard::Input(keys), Some(Input { stdin, .. })) if options.tty => {
                let typed = terminal.keys(&keys);
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
            (Heard::Input(bytes), Some(Input { stdin, .. })) => {
                stdin.send(&bytes).await;
            }
            (Heard::EndOfInput, Some(input)) if input.stays_open => {
                // The speaker goes on meanwhile.
                tokio::time::sleep(LAST_WORDS).await;
                return Ended::Said;
            }
            (Heard::EndOfInput, Some(input)) => input.stdin.close(),
            (Heard::Input(_) | Heard::EndOfInput, None) | (Heard::Nothing, _) => {}
        }
    }
    Ended::Client
}

/// The program's half.
struct Speaker<'a> {
    voice: &'a mut Voice,
    chunks: Chunks,
    echoed: mpsc::Receiver<Vec<u8>>,
    options: Options,
    terminal: Terminal,
}

impl Speaker<'_> {
    /// Ends when the program has said all, or the client does not hear it.
    async fn speak(&mut self) -> Ended {
        loop {
            let is_heard = tokio::select! {
                // What was typed is echoed before the program has it, and so before its answer.
                biased;
                Some(echo) = self.echoed.recv() => {
                    self.voice.output(LogStream::Stdout, &echo).await
                }
                chunk = self.chunks.next() => match chunk {
                    Some((stream, chunk)) => self.output(stream, &chunk).await,
                    None => return Ended::Program,
                },
                () = tokio::time::sleep(PING) => self.voice.ping().await,
            };
            if !is_heard {
                return Ended::Client;
            }
        }
    }

    async fn output(&mut self, stream: LogStream, chunk: &[u8]) -> bool {
        if self.options.tty {
            // A terminal has one stream for both.
            let text = self.terminal.output(chunk);
            return self.voice.output(LogStream::Stdout, &text).await;
        }
        let is_wanted = match stream {
            LogStream::Stdout => self.options.stdout,
            LogStream::Stderr => self.options.stderr,
        };
        !is_wanted || self.voice.output(stream, chunk).await
    }
}
