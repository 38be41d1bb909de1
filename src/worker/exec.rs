//! Commands beside a running container: what `exec`, probes and hooks have in common.
//!
//! The first word decides what runs: the name of the container's image is its own program once
//! more; a path to a wasm file in the pod is that file; anything else is a command of the toolbox,
//! which is built in. Whatever runs, it ends with the container, and with whoever asked for it
//! ([`Guard`]).

mod attach;
mod channels;
mod client;
mod output;
mod over_spdy;
mod session;
mod terminal;

use std::sync::Arc;

use super::context::Context;
use super::images::Program;
use super::lifecycle::PullFailure;
use crate::errors::chain;
use crate::runtime::fs::Root;
use crate::runtime::spec::{ExecSpec, LogSink};
use crate::runtime::{self, ContainerHandle, PodSandbox};

pub use attach::{Tap, Taps, attach};
pub use client::Client;
pub use output::Collected;
pub use over_spdy::{PROTOCOLS as SPDY_PROTOCOLS, serve as serve_spdy};
pub use session::{Options, exec};

/// A program in a pod that is larger is not run.
const MAX_PROGRAM: usize = 32 << 20;

/// What to run.
#[derive(Clone, Debug)]
pub struct Command {
    pub container: String,
    /// The name of the container's image.
    pub image: String,
    pub words: Vec<String>,
    pub stdin: bool,
    pub tty: bool,
    /// Whether a user asked for it.
    pub is_counted: bool,
}

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("which command?")]
    NoCommand,
    #[error("load {what}: {}", .failure.message)]
    Load { what: String, failure: PullFailure },
    #[error("read `{path}`: {errno}")]
    Read {
        path: String,
        errno: runtime::fs::errno::Errno,
    },
    #[error("`{path}` has more than {MAX_PROGRAM} bytes")]
    TooLarge { path: String },
    #[error(transparent)]
    Run(#[from] runtime::Error),
}

/// Starts it.
pub async fn start(
    context: &Context,
    sandbox: &PodSandbox,
    command: Command,
    output: Arc<dyn LogSink>,
) -> Result<Guard, Error> {
    let word = command.words.first().ok_or(Error::NoCommand)?;
    let artifact = if *word == command.image {
        sandbox.program_of(&command.container)?
    } else if let Some(program) = program(sandbox, &command.container, word).await? {
        let loaded = context.images.load_program(&program).await;
        loaded.map_err(|failure| Error::Load {
            what: format!("`{word}`"),
            failure,
        })?
    } else {
        let toolbox = context.images.toolbox().await;
        let toolbox = toolbox.map_err(|failure| Error::Load {
            what: "the toolbox".to_owned(),
            failure,
        })?;
        toolbox.artifact
    };
    let env = if command.tty {
        vec![("TERM".to_owned(), "xterm".to_owned())]
    } else {
        Vec::new()
    };
    let spec = ExecSpec {
        container: command.container,
        args: command.words,
        env,
        stdin: command.stdin,
        tty: command.tty,
        is_counted: command.is_counted,
    };
    Ok(Guard(sandbox.exec(spec, artifact, output)?))
}

/// The wasm file that a word names, if it names one.
async fn program(
    sandbox: &PodSandbox,
    container: &str,
    word: &str,
) -> Result<Option<Program>, Error> {
    if !word.contains(['/', '.']) {
        return Ok(None);
    }
    sandbox.file_of(container, word, read_program).await?
}

fn read_program(root: &Arc<Root>, path: &str) -> Result<Option<Program>, Error> {
    match root.read_file(path, 4) {
        Ok(magic) if magic == b"\0asm" => {}
        // A path like /bin/ls means the toolbox's.
        Ok(_) | Err(_) => return Ok(None),
    }
    let path = || path.to_owned();
    let read = root.read_file(&path(), MAX_PROGRAM + 1);
    let bytes = read.map_err(|errno| Error::Read {
        path: path(),
        errno,
    })?;
    if bytes.len() > MAX_PROGRAM {
        return Err(Error::TooLarge { path: path() });
    }
    Ok(Some(Program::new(bytes)))
}

/// A running command, killed when nobody waits for it any more.
pub struct Guard(ContainerHandle);

impl Guard {
    pub fn handle(&self) -> &ContainerHandle {
        &self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Runs a command to its end; the error is what it wrote, or why it did not run.
pub async fn check(
    context: &Context,
    sandbox: &PodSandbox,
    command: Command,
) -> Result<(), String> {
    let output = Arc::new(Collected::default());
    let started = start(context, sandbox, command, Arc::clone(&output) as _).await;
    let guard = started.map_err(|error| chain(&error).to_string())?;
    let exit = guard.handle().wait().await;
    match (exit.code, output.text()) {
        (0, _) => Ok(()),
        (code, text) if text.is_empty() => Err(format!("exit code {code}")),
        (code, text) => Err(format!("exit code {code}: {text}")),
    }
}
