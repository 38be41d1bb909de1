//! When a role should end: on SIGTERM or SIGINT, or when the process that started it is gone.
//!
//! `wasmorch dev` holds a pipe to each child's standard input and never writes to it. If `dev` dies,
//! even by `kill -9`, the pipe closes and the children drain instead of staying behind.

use tokio::io::AsyncReadExt as _;
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
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 16];
    while !matches!(stdin.read(&mut buffer).await, Ok(0) | Err(_)) {}
}
