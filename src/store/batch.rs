//! What a group of writes comes to: pure, no disk, no clock.
//!
//! Every write is judged against memory plus the writes before it in the batch, so a batch means
//! the same as its writes one after another. A write that fails takes nothing with it; a write of
//! several operations that fails at its last undoes its first. Answers are kept back until the
//! disk has decided: also a refusal may rest on a write that the disk then loses.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::key::{ObjectKey, Revision};
use super::object::{Draft, Stored};
use super::state::Snapshot;
use super::{Change, ChangeKind, Error, Shared};

/// What a write comes to: one version for each of its operations.
pub(super) type Outcome = Result<Vec<Arc<Stored>>, Error>;
pub(super) type Answer = oneshot::Sender<Outcome>;

/// A waiting write: all of its operations or none.
pub(super) struct Write {
    pub(super) ops: Vec<DraftOp>,
    pub(super) answer: Answer,
}

impl Write {
    pub(super) fn weight(&self) -> usize {
        self.ops.iter().map(DraftOp::weight).sum()
    }

    /// Whether it touches volatile resources only.
    pub(super) fn is_volatile(&self, at: &Shared) -> bool {
        self.ops.iter().all(|op| at.is_volatile(&op.key().resource))
    }
}

pub(super) enum DraftOp {
    Create {
        key: ObjectKey,
        draft: Draft,
    },
    Update {
        key: ObjectKey,
        expected: Option<Revision>,
        draft: Draft,
    },
    Delete {
        key: ObjectKey,
        expected: Option<Revision>,
    },
}

impl DraftOp {
    fn key(&self) -> &ObjectKey {
        match self {
            Self::Create { key, .. } | Self::Update { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Create { draft, .. } | Self::Update { draft, .. } => draft.weight(),
            Self::Delete { .. } => 0,
        }
    }
}

/// The outcome of a group of writes, if the disk agrees.
pub(super) struct Batch {
    pub(super) next: Snapshot,
    /// In revision order, without a gap.
    pub(super) changes: Vec<Change>,
    answers: Vec<(Answer, Outcome)>,
}

impl Batch {
    pub(super) fn plan(base: &Snapshot, writes: Vec<Write>, at: &Shared) -> Self {
        let mut batch = Self {
            next: base.clone(),
            changes: Vec::with_capacity(writes.len()),
            answers: Vec::with_capacity(writes.len()),
        };
        for write in writes {
            let result = batch.apply_all(write.ops, at);
            batch.answers.push((write.answer, result));
        }
        batch
    }

    /// The last revision that the batch gave out.
    pub(super) fn last(&self) -> Revision {
        self.next.revision
    }

    pub(super) fn into_parts(self) -> (Snapshot, Vec<Change>, Answers) {
        (self.next, self.changes, Answers(self.answers))
    }

    /// The disk refused: every write of the batch fails with `error`.
    pub(super) fn fail(self, error: impl Fn() -> Error) {
        for (answer, _) in self.answers {
            let _ = answer.send(Err(error()));
        }
    }

    fn apply_all(&mut self, ops: Vec<DraftOp>, at: &Shared) -> Outcome {
        let before = (ops.len() > 1).then(|| (self.next.clone(), self.changes.len()));
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            match self.apply(op, at) {
                Ok(stored) => results.push(stored),
                Err(error) => {
                    if let Some((next, changes)) = before {
                        self.next = next;
                        self.changes.truncate(changes);
                    }
                    return Err(error);
                }
            }
        }
        Ok(results)
    }

    /// Changes nothing if it fails.
    fn apply(&mut self, op: DraftOp, at: &Shared) -> Result<Arc<Stored>, Error> {
        let revision = Revision(self.next.revision.0 + 1);
        let change = match op {
            DraftOp::Create { key, draft } => {
                if self.next.get(&key).is_some() {
                    return Err(Error::AlreadyExists(key));
                }
                let created = if at.is_volatile(&key.resource) {
                    Revision(0)
                } else {
                    revision
                };
                let object = Arc::new(draft.finish(key, revision, created));
                self.next.insert(Arc::clone(&object));
                Change {
                    revision,
                    kind: ChangeKind::Created,
                    object,
                    previous: None,
                }
            }
            DraftOp::Update {
                key,
                expected,
                draft,
            } => {
                let current = self.current(key, expected)?;
                // The key of the version before is reused: versions share their names.
                let object = draft.finish(current.key.clone(), revision, current.created);
                let object = Arc::new(object);
                self.next.insert(Arc::clone(&object));
                Change {
                    revision,
                    kind: ChangeKind::Updated,
                    object,
                    previous: Some(current),
                }
            }
            DraftOp::Delete { key, expected } => {
                let current = self.current(key, expected)?;
                self.next.remove(&current.key);
                Change {
                    revision,
                    kind: ChangeKind::Deleted,
                    object: Arc::new(current.tombstone(revision)),
                    previous: Some(current),
                }
            }
        };
        self.next.revision = revision;
        let object = Arc::clone(&change.object);
        self.changes.push(change);
        Ok(object)
    }

    fn current(&self, key: ObjectKey, expected: Option<Revision>) -> Result<Arc<Stored>, Error> {
        let Some(current) = self.next.get(&key) else {
            return Err(Error::NotFound(key));
        };
        match expected {
            Some(expected) if expected != current.revision => Err(Error::Conflict {
                key,
                current: current.revision,
            }),
            Some(_) | None => Ok(Arc::clone(current)),
        }
    }
}

/// Kept-back answers.
pub(super) struct Answers(Vec<(Answer, Outcome)>);

impl Answers {
    /// Tells everyone what became of their write. A caller that went away does not mind.
    pub(super) fn send(self) {
        for (answer, outcome) in self.0 {
            let _ = answer.send(outcome);
        }
    }
}
