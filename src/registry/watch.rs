//! Watch: changes as a client with a selector sees them.
//!
//! To that client an object that begins to match is new, and one that ceases to match is gone, so
//! each change is judged by the object before and after it.

use std::sync::Arc;

use super::error::Error;
use super::field_error::Errors;
use super::filter::Filter;
use super::kinds::ResourceInfo;
use super::list::{parse_revision, refuse_options};
use super::options::WatchOptions;
use super::path::Path;
use super::{Registry, present};
use crate::store::{Change, ChangeKind, ListQuery, Revision, Stored, Watch};

#[derive(Clone)]
pub enum Event {
    Added(Arc<Stored>),
    Modified(Arc<Stored>),
    Deleted(Arc<Stored>),
    /// All matching changes up to this revision have been sent; `initial_end` marks the end of the initial events.
    Bookmark {
        revision: u64,
        initial_end: bool,
    },
}

/// A filtered watch; an object that leaves the selector is `Deleted`, one that enters is `Added`.
pub struct EventStream {
    res: &'static ResourceInfo,
    filter: Filter,
    initial: std::vec::IntoIter<Arc<Stored>>,
    /// The bookmark that follows the initial events, if one was asked for.
    initial_end: Option<Revision>,
    watch: Watch,
}

impl EventStream {
    /// `None` when the store closes; `Err(Error::Expired)` when too slow or compacted. Losing the
    /// future loses no event.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        if let Some(stored) = self.initial.next() {
            return Some(present(self.res, stored).map(Event::Added));
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(Ok(Event::Bookmark {
                revision: revision.0,
                initial_end: true,
            }));
        }
        loop {
            let change = match self.watch.next().await? {
                Ok(change) => change,
                Err(error) => return Some(Err(Error::from_store(self.res, "", error))),
            };
            if let Some(event) = self.translate(change) {
                return Some(event);
            }
        }
    }

    /// The objects that were there when the watch was opened; `next` then begins after them.
    pub(super) fn take_initial(&mut self) -> std::vec::IntoIter<Arc<Stored>> {
        std::mem::take(&mut self.initial)
    }

    /// A revision R such that every matching change up to R has been returned by `next` already.
    pub fn progress(&self) -> u64 {
        self.watch.progress().0
    }

    fn translate(&self, change: Change) -> Option<Result<Event, Error>> {
        let matched = change
            .previous
            .as_deref()
            .is_some_and(|previous| self.filter.matches(previous));
        let matches = self.filter.matches(&change.object);
        let (event, stored): (fn(Arc<Stored>) -> Event, _) = match change.kind {
            ChangeKind::Updated if matched && matches => (Event::Modified, change.object),
            ChangeKind::Created | ChangeKind::Updated if matches => (Event::Added, change.object),
            ChangeKind::Updated if matched => {
                // The client knows the object as it was; it leaves at this change's revision.
                let previous = change.previous?;
                let last = Stored::new(
                    previous.key.clone(),
                    change.revision,
                    previous.object.clone(),
                );
                (Event::Deleted, Arc::new(last))
            }
            ChangeKind::Deleted if matched || matches => (Event::Deleted, change.object),
            ChangeKind::Created | ChangeKind::Updated | ChangeKind::Deleted => return None,
        };
        Some(present(self.res, stored).map(event))
    }
}

impl Registry {
    pub async fn watch(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        options: &WatchOptions,
    ) -> Result<EventStream, Error> {
        check_options(options)?;
        let filter = Filter::parse(
            res,
            options.label_selector.as_deref(),
            options.field_selector.as_deref(),
        )?;
        let ns = ns.filter(|_| res.namespaced);
        let since = parse_revision(options.resource_version.as_deref().unwrap_or_default())?;
        self.wait_for(since).await?;
        let refused = |error| Error::from_store(res, "", error);
        if since > 0 && !options.send_initial_events {
            let watch = self.store().watch(res.storage, ns, Revision(since));
            return Ok(EventStream {
                res,
                filter,
                initial: Vec::new().into_iter(),
                initial_end: None,
                watch: watch.map_err(refused)?,
            });
        }
        let scan = self
            .store()
            .scan(&ListQuery {
                resource: res.storage.to_owned(),
                namespace: ns.map(str::to_owned),
                ..ListQuery::default()
            })
            .map_err(refused)?;
        let revision = scan.revision();
        let watch = self.store().watch(res.storage, ns, revision);
        let initial: Vec<Arc<Stored>> = scan.filter(|stored| filter.matches(stored)).collect();
        let wants_end = options.send_initial_events && options.allow_bookmarks;
        Ok(EventStream {
            res,
            filter,
            initial: initial.into_iter(),
            initial_end: wants_end.then_some(revision),
            watch: watch.map_err(refused)?,
        })
    }
}

fn check_options(options: &WatchOptions) -> Result<(), Error> {
    let mut errors = Errors::default();
    let rule = options
        .resource_version_match
        .as_deref()
        .filter(|r| !r.is_empty());
    let path = Path::Root.field("resourceVersionMatch");
    match rule {
        None if options.send_initial_events => errors.forbidden(
            &Path::Root.field("sendInitialEvents"),
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        Some(_) if !options.send_initial_events => errors.forbidden(
            &path,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        rule => errors.one_of(&path, rule, &["NotOlderThan"]),
    }
    refuse_options(errors)
}
