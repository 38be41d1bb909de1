//! Attaching to a container's own program: its output from now on, and its standard input if it
//! keeps one.
//!
//! Output passes through a [`Tap`] on its way to the log. Whoever attached and reads too slowly is
//! cut off, for a container must not wait for its spectators.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::Client;
use super::output::{Chunks, Queue};
use super::session::{Ended, Input, Options, talk};
use crate::runtime::ContainerHandle;
use crate::runtime::spec::{LogSink, LogStream};

/// A container's log, and who listens.
pub struct Tap {
    log: Arc<dyn LogSink>,
    listeners: Mutex<Vec<Arc<Queue>>>,
}

impl Tap {
    pub fn new(log: Arc<dyn LogSink>) -> Arc<Self> {
        Arc::new(Self {
            log,
            listeners: Mutex::default(),
        })
    }

    pub(super) fn listen(&self) -> Chunks {
        let (queue, chunks) = Queue::new();
        let mut listeners = self.lock();
        // A program that writes nothing never notices who left.
        listeners.retain(|listener| !listener.is_abandoned());
        listeners.push(queue);
        chunks
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Queue>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for Tap {
    fn write(&self, stream: LogStream, chunk: &[u8]) {
        self.log.write(stream, chunk);
        let mut listeners = self.lock();
        if !listeners.is_empty() {
            listeners.retain(|queue| {
                let reads = queue.room() > 0 && queue.push(stream, chunk);
                if !reads {
                    queue.end();
                }
                reads
            });
        }
    }

    fn capacity(&self) -> usize {
        self.log.capacity()
    }

    fn dropped(&self) -> u64 {
        self.log.dropped()
    }

    fn close(&self) {
        self.log.close();
        for queue in self.lock().drain(..) {
            queue.end();
        }
    }
}

/// The taps of the containers that run, by pod uid and container.
#[derive(Default)]
pub struct Taps(Mutex<HashMap<(String, String), Arc<Tap>>>);

impl Taps {
    pub fn put(&self, uid: &str, container: &str, tap: Arc<Tap>) {
        self.lock()
            .insert((uid.to_owned(), container.to_owned()), tap);
    }

    pub fn find(&self, uid: &str, container: &str) -> Option<Arc<Tap>> {
        self.lock()
            .get(&(uid.to_owned(), container.to_owned()))
            .cloned()
    }

    /// Forgets a pod's.
    pub fn remove_pod(&self, uid: &str) {
        self.lock().retain(|(of, _), _| of != uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<Tap>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects a client to a running container until either ends. `is_once`: its input ends with the
/// first client.
pub async fn attach(
    handle: ContainerHandle,
    tap: Arc<Tap>,
    options: Options,
    is_once: bool,
    client: Client,
) {
    let chunks = tap.listen();
    let stdin = handle.stdin().filter(|_| options.stdin).cloned();
    let input = stdin.as_ref().map(|stdin| Input {
        stdin,
        stays_open: !is_once,
    });
    let ended = talk(client, &handle, chunks, input, options).await;
    match (ended, stdin) {
        (Ended::Client, Some(stdin)) if is_once => stdin.close(),
        (Ended::Client | Ended::Said | Ended::Program | Ended::Interrupted, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::{Collected, QUEUE};
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_is_cut_and_the_log_has_everything() {
        let log = Arc::new(Collected::default());
        let tap = Tap::new(Arc::clone(&log) as _);
        let mut slow = tap.listen();
        tap.write(LogStream::Stdout, b"first");
        tap.write(LogStream::Stdout, &vec![b'x'; QUEUE]);
        tap.write(LogStream::Stdout, b"lost");
        let (_, first) = slow.next().await.unwrap();
        assert_eq!(first, "first");
        assert!(slow.next().await.is_some());
        assert!(slow.next().await.is_none(), "cut off");
        assert!(log.text().starts_with("first"));
    }

    #[tokio::test]
    async fn listeners_hear_the_end() {
        let tap = Tap::new(Arc::new(Collected::default()));
        let mut listener = tap.listen();
        tap.write(LogStream::Stderr, b"bye");
        tap.close();
        assert_eq!(listener.next().await.unwrap().1, "bye");
        assert!(listener.next().await.is_none());
    }
}
