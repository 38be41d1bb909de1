//! A watch on its way out: events of the registry, framed for one client.
//!
//! A [`Feed`] yields frames, each holding every event that is ready, up to a bound: a burst goes out
//! in few writes, and nothing is held back to fill a frame. The bytes of an object are encoded once
//! and shared by all who watch it; a frame copies them between `{"type":"ADDED","object":` and `}`.
//!
//! A slow client holds nothing but its place: the store ends a watch that falls too far behind, and
//! the client is told `410 Expired` and lists again. The writer never waits for anyone.

pub(crate) mod http;
pub(crate) mod websocket;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::registry::{self, Event, EventStream, Registry, ResourceInfo};
use crate::store::Stored;

use super::error::Error;
use super::handlers::Context;
use super::media::Output;
use super::query::Query;
use super::shares::Permit;
use super::status::status_object;
use super::table::{self, Include};

/// A frame is closed when it holds so much; one event may exceed it.
const FRAME: usize = 64 << 10;
/// How often a client that asked for bookmarks gets one.
pub(crate) const BOOKMARK_PERIOD: Duration = Duration::from_mins(1);
/// The same over a WebSocket: a page in a browser sees no pings, so there a bookmark is also the sign
/// that the server lives.
pub(crate) const BOOKMARK_PERIOD_FOR_PAGES: Duration = Duration::from_secs(10);

/// How objects are shown in events.
pub(crate) struct Form {
    resource: &'static ResourceInfo,
    output: Output,
    include: Include,
    columns_sent: bool,
}

impl Form {
    pub(crate) fn new(
        resource: &'static ResourceInfo,
        output: Output,
        query: &Query,
    ) -> Result<Self, Error> {
        Ok(Self {
            resource,
            output,
            include: Include::of(query)?,
            columns_sent: false,
        })
    }

    /// Writes one event and its newline.
    fn write(&mut self, registry: &Registry, event: &Event, into: &mut Vec<u8>) {
        match event {
            Event::Added(stored) => self.write_object(registry, "ADDED", stored, into),
            Event::Modified(stored) => self.write_object(registry, "MODIFIED", stored, into),
            Event::Deleted(stored) => self.write_object(registry, "DELETED", stored, into),
            Event::Bookmark {
                revision,
                initial_end,
            } => {
                let object = self.bookmark(*revision, *initial_end);
                write_frame("BOOKMARK", object.to_string().as_bytes(), into);
            }
        }
    }

    fn write_object(
        &mut self,
        registry: &Registry,
        kind: &str,
        stored: &Arc<Stored>,
        into: &mut Vec<u8>,
    ) {
        match self.output {
            Output::Object => write_frame(kind, stored.json(), into),
            Output::Partial { version } => {
                let partial = table::partial(stored, version);
                write_frame(kind, partial.to_string().as_bytes(), into);
            }
            Output::Table { version } => {
                let mut table = table::head(self.resource, version, !self.columns_sent);
                self.columns_sent = true;
                table["metadata"] = json!({"resourceVersion": stored.revision.0.to_string()});
                table["rows"] = json!([table::row(registry, self.resource, stored, self.include)]);
                write_frame(kind, table.to_string().as_bytes(), into);
            }
        }
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Value {
        let mut metadata =
            json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.output {
            Output::Object => json!({
                "kind": self.resource.kind,
                "apiVersion": self.resource.api_version(),
                "metadata": metadata,
            }),
            Output::Partial { version } => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
            }),
            Output::Table { version } => {
                let mut table = table::head(self.resource, version, false);
                table["metadata"] = json!({"resourceVersion": revision.to_string()});
                table["rows"] = json!([{"cells": [], "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                }}]);
                table
            }
        }
    }
}

fn write_frame(kind: &str, object: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"type":""#);
    into.extend_from_slice(kind.as_bytes());
    into.extend_from_slice(br#"","object":"#);
    into.extend_from_slice(object);
    into.extend_from_slice(b"}\n");
}

/// Where the events come from.
enum Source {
    Live(EventStream),
    /// A last word, then the end: the watch could not be opened or was cut.
    Failed(Error),
    Ended,
}

/// Frames for one client; see the head of this file.
pub(crate) struct Feed {
    registry: Registry,
    source: Source,
    form: Form,
    end: std::pin::Pin<Box<Sleep>>,
    bookmark: Option<(Instant, Duration)>,
    stopping: CancellationToken,
    _permit: Permit,
}

impl Feed {
    /// An expired start is told inside the stream, as Kubernetes does; other errors are answers.
    pub(crate) fn new(
        ctx: &Context,
        opened: Result<EventStream, registry::Error>,
        form: Form,
        (lasting, bookmarks): (Duration, Option<Duration>),
        permit: Permit,
    ) -> Result<Self, Error> {
        let source = match opened {
            Ok(stream) => Source::Live(stream),
            Err(error @ registry::Error::Expired) => Source::Failed(error.into()),
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            registry: ctx.server.registry.clone(),
            source,
            form,
            end: Box::pin(tokio::time::sleep(lasting)),
            bookmark: bookmarks.map(|period| (Instant::now() + period, period)),
            stopping: ctx.server.tasks.cancelled(),
            _permit: permit,
        })
    }

    /// The next frame; `None` at the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        let stream = match &mut self.source {
            Source::Live(stream) => stream,
            Source::Failed(_) => return Some(self.last_word()),
            Source::Ended => return None,
        };
        let far = Instant::now() + Duration::from_hours(24);
        let (bookmark, period) = self.bookmark.unwrap_or((far, BOOKMARK_PERIOD));
        let first = tokio::select! {
            biased;
            () = self.stopping.cancelled() => return None,
            () = &mut self.end => return None,
            event = stream.next() => event,
            () = tokio::time::sleep_until(bookmark) => {
                self.bookmark = Some((Instant::now() + period, period));
                Some(Ok(Event::Bookmark { revision: stream.progress(), initial_end: false }))
            }
        };
        let mut frame = Vec::new();
        let mut upcoming = first;
        loop {
            match upcoming {
                Some(Ok(event)) => self.form.write(&self.registry, &event, &mut frame),
                Some(Err(error)) => {
                    self.source = Source::Failed(error.into());
                    break;
                }
                None => {
                    self.source = Source::Ended;
                    break;
                }
            }
            let Source::Live(stream) = &mut self.source else {
                break;
            };
            if frame.len() >= FRAME {
                break;
            }
            match stream.next().now_or_never() {
                Some(event) => upcoming = event,
                None => break,
            }
        }
        if frame.is_empty() {
            return match self.source {
                Source::Failed(_) => Some(self.last_word()),
                Source::Live(_) | Source::Ended => None,
            };
        }
        Some(frame)
    }

    fn last_word(&mut self) -> Vec<u8> {
        let mut frame = Vec::new();
        if let Source::Failed(error) = std::mem::replace(&mut self.source, Source::Ended) {
            let object = status_object(&error).to_string();
            write_frame("ERROR", object.as_bytes(), &mut frame);
        }
        frame
    }
}
