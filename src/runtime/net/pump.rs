//! Carries bytes between a guest's connection and a real stream.
//!
//! The two directions end on their own, so half-close passes through. A break on either side
//! breaks the other: a failing stream resets the guest, a reset guest drops the stream. When the
//! guest is gone there is nobody to read for, and only what it wrote before is still delivered.
//! While a direction is idle it holds no buffer of its own on the guest's side.

use std::future::poll_fn;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::cluster::Duplex;
use super::conn::{Conn, Shutdown};
use super::error::Error;

const BUFFER: usize = 16 << 10;

/// Runs until both directions have ended.
pub(super) async fn pump(host: &Conn, remote: Box<dyn Duplex>) {
    let (reader, writer) = tokio::io::split(remote);
    let ((), ()) = tokio::join!(to_remote(host, writer), to_guest(host, reader));
}

async fn to_remote(host: &Conn, mut remote: WriteHalf<Box<dyn Duplex>>) {
    loop {
        poll_fn(|cx| host.poll_readable(cx)).await;
        let sent = match host.try_read_vec(BUFFER) {
            Ok(data) if data.is_empty() => remote.shutdown().await,
            Ok(data) => match remote.write_all(&data).await {
                Ok(()) => continue,
                Err(error) => Err(error),
            },
            Err(Error::WouldBlock) => continue,
            Err(error) => return broke(host, "read from the guest", &error.into()),
        };
        if let Err(error) = sent {
            broke(host, "write to the peer", &error);
        }
        return;
    }
}

async fn to_guest(host: &Conn, mut remote: ReadHalf<Box<dyn Duplex>>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let received = tokio::select! {
            biased;
            () = poll_fn(|cx| host.poll_abandoned(cx)) => return,
            received = remote.read(&mut buffer) => received,
        };
        let mut rest = match received {
            Ok(0) => return host.shutdown(Shutdown::Send),
            Ok(length) => &buffer[..length],
            Err(error) => return broke(host, "read from the peer", &error),
        };
        while !rest.is_empty() {
            match host.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(Error::WouldBlock) => poll_fn(|cx| host.poll_writable(cx)).await,
                // Nobody reads any more; or the pod has no memory for the buffer, and bytes that
                // cannot be delivered must not be dropped in silence.
                Err(error @ Error::OutOfMemory) => {
                    return broke(host, "buffer for the guest", &error.into());
                }
                Err(_) => return,
            }
        }
    }
}

fn broke(host: &Conn, doing: &str, error: &io::Error) {
    tracing::debug!(to = %host.local_addr(), doing, %error, "a pod's connection broke");
    host.reset();
}
