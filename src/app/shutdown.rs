//! When a role should end: on SIGTERM or SIGINT, or when the process that started it is gone.
//!
//! `wasmorch dev` holds a pipe to each child's standard input and never writes to it. If `dev` dies,
//! even by `kill -9`, the pipe closes and the children drain instead of staying behind. The pipe is
//! read without blocking a thread: a read that blocks would keep the runtime, and so the process,
//! from ending for as long as `dev` lives.

use std::io;
use std::os::fd::AsFd as _;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

/// Set by `dev` for its children: end when standard input ends.
pub const PARENT_PIPE: &str = "WASMORCH_PARENT_PIPE";

/// Resolves when the process should drain and end.
pub async fn requested() {
    tokio::select! {
        () = terminated() => {}
        () = parent_gone() => {}
    }
}

async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::warn!("signals cannot be caught; the process ends without draining");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn parent_gone() {
    if std::env::var_os(PARENT_PIPE).is_none() {
        return std::future::pending().await;
    }
    match standard_input() {
        Ok(pipe) => closed(pipe).await,
        Err(error) => {
            tracing::warn!(%error, "standard input is no pipe; the end of its writer is not seen");
            std::future::pending::<()>().await;
        }
    }
}

fn standard_input() -> io::Result<pipe::Receiver> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    pipe::Receiver::from_owned_fd(input)
}

async fn closed(mut pipe: pipe::Receiver) {
    let mut buffer = [0; 16];
    while !matches!(pipe.read(&mut buffer).await, Ok(0) | Err(_)) {}
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn only_the_end_of_the_writer_counts() {
        let (reader, mut writer) = io::pipe().unwrap();
        let pipe = pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        let mut watching = Box::pin(closed(pipe));
        writer.write_all(b"x").unwrap();
        assert!(futures::poll!(&mut watching).is_pending());
        drop(writer);
        watching.await;
    }
}
