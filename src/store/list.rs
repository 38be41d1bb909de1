//! Lists, of now and of the past.
//!
//! The past is now with the changes undone: for each place that has changed since, the version
//! before the first of these changes. The cost is the number of changes in between, and a page
//! after a page of one list asks for a revision of a moment ago.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use super::history::Log;
use super::key::Revision;
use super::object::Stored;
use super::state::Snapshot;
use super::tree::{Tree, Walk};
use super::{Error, ListQuery};

/// A list as a walk: it holds its version of the state, so it can be consumed at leisure.
pub struct Scan {
    revision: Revision,
    namespace: Option<Box<str>>,
    now: Peekable<Walk>,
    undone: Peekable<std::collections::btree_map::IntoIter<Place, Option<Arc<Stored>>>>,
}

/// (namespace, name)
type Place = (Arc<str>, Arc<str>);

impl Scan {
    pub(super) fn new(snapshot: &Snapshot, log: &Log, query: &ListQuery) -> Result<Self, Error> {
        let revision = query.at.unwrap_or(snapshot.revision);
        let undone = undone(snapshot, log, query, revision)?;
        let empty = Tree::default();
        let tree = snapshot.tree(&query.resource).unwrap_or(&empty);
        Ok(Self {
            revision,
            namespace: query.namespace.as_deref().map(Into::into),
            now: tree.walk(|place| is_before(query, place)).peekable(),
            undone: undone.into_iter().peekable(),
        })
    }

    /// The revision that the items are a snapshot of.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

impl Iterator for Scan {
    type Item = Arc<Stored>;

    fn next(&mut self) -> Option<Arc<Stored>> {
        let item = loop {
            let Some((place, _)) = self.undone.peek() else {
                break self.now.next()?;
            };
            let place: (&str, &str) = (&place.0, &place.1);
            match self.now.peek().map(|item| item.key.place().cmp(&place)) {
                Some(std::cmp::Ordering::Less) => break self.now.next()?,
                Some(std::cmp::Ordering::Equal) => {
                    self.now.next();
                }
                Some(std::cmp::Ordering::Greater) | None => {}
            }
            if let Some((_, Some(past))) = self.undone.next() {
                break past;
            }
        };
        let wanted = self.namespace.as_deref();
        wanted
            .is_none_or(|namespace| *item.key.namespace == *namespace)
            .then_some(item)
    }
}

/// The places after the query's start that have changed since `revision`, as they were then.
fn undone(
    snapshot: &Snapshot,
    log: &Log,
    query: &ListQuery,
    revision: Revision,
) -> Result<BTreeMap<Place, Option<Arc<Stored>>>, Error> {
    let mut undone = BTreeMap::new();
    if revision == snapshot.revision {
        return Ok(undone);
    }
    if revision > snapshot.revision {
        return Err(Error::Compacted {
            requested: revision,
            oldest: snapshot.revision,
        });
    }
    for change in log.between(revision, snapshot.revision)? {
        let key = &change.object.key;
        if !is_before(query, key.place()) {
            undone
                .entry((Arc::clone(&key.namespace), Arc::clone(&key.name)))
                .or_insert(change.previous);
        }
    }
    Ok(undone)
}

/// Whether a place comes before everything that the query asks for.
fn is_before(query: &ListQuery, place: (&str, &str)) -> bool {
    let before_namespace = query
        .namespace
        .as_deref()
        .is_some_and(|namespace| place.0 < namespace);
    let before_start = query
        .start_after
        .as_ref()
        .is_some_and(|(namespace, name)| place <= (namespace.as_str(), name.as_str()));
    before_namespace || before_start
}
