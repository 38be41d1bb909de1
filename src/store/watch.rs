//! A watch: a cursor into the log of its resource.
//!
//! Backlog and live changes are the same log, so there is no seam between them to lose or repeat a
//! change at. A watch holds one chunk of the log and nothing else; if it falls so far behind that
//! the next chunk is trimmed, it ends with `Compacted` and its owner lists anew.

use std::sync::Arc;

use tokio::sync::watch;

use super::history::{Cursor, History, Log, Step};
use super::key::Revision;
use super::{Change, Error};

/// A subscription: `next` gives changes in order, then waits; ends with `Err(Compacted)` when the
/// reader is too slow, with `None` when the store closes.
pub struct Watch {
    history: Arc<History>,
    log: Arc<Log>,
    signal: watch::Receiver<()>,
    cursor: Cursor,
    namespace: Option<Box<str>>,
    /// The last change that the cursor has passed, or the revision the watch began at.
    passed: Revision,
    ended: bool,
}

impl Watch {
    pub(super) fn new(
        history: Arc<History>,
        log: Arc<Log>,
        namespace: Option<&str>,
        since: Revision,
    ) -> Result<Self, Error> {
        let compacted = |oldest| Error::Compacted {
            requested: since,
            oldest,
        };
        if since > history.published() {
            return Err(compacted(history.published()));
        }
        // Subscribed before the first look: what is appended in between has raised the signal.
        let signal = log.subscribe();
        let cursor = log.seek(since).map_err(compacted)?;
        Ok(Self {
            history,
            log,
            signal,
            cursor,
            namespace: namespace.map(Into::into),
            passed: since,
            ended: false,
        })
    }

    /// The next matching change. Losing the future loses no change.
    pub async fn next(&mut self) -> Option<Result<Change, Error>> {
        loop {
            if let Some(result) = self.try_next() {
                return Some(result);
            }
            if self.ended || self.history.is_closed() || self.signal.changed().await.is_err() {
                self.ended = true;
                return None;
            }
        }
    }

    /// The next matching change if it is there already; `None` says nothing about the end.
    pub fn try_next(&mut self) -> Option<Result<Change, Error>> {
        if self.ended {
            return None;
        }
        let published = self.history.published();
        loop {
            match self.cursor.step(&self.log, published) {
                Step::Change(change) => {
                    self.passed = change.revision;
                    let matches = self
                        .namespace
                        .as_deref()
                        .is_none_or(|namespace| *change.object.key.namespace == *namespace);
                    if matches {
                        return Some(Ok(change.clone()));
                    }
                }
                Step::End => return None,
                Step::Lost(oldest) => {
                    self.ended = true;
                    return Some(Err(Error::Compacted {
                        requested: self.passed,
                        oldest,
                    }));
                }
            }
        }
    }

    /// A revision R such that every matching change up to R has been returned by `next` already
    /// (for bookmarks).
    pub fn progress(&self) -> Revision {
        let published = self.history.published();
        match self.cursor.clone().step(&self.log, published) {
            Step::End => published.max(self.passed),
            Step::Change(_) | Step::Lost(_) => self.passed,
        }
    }
}
