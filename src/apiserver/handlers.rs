//! One handler per verb; none of them knows a kind.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod patch;
pub(crate) mod update;
pub(crate) mod watch;

use std::sync::Arc;

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::registry::{Caller, Registry, ResourceInfo, WriteOptions};

use super::Server;
use super::error::Error;
use super::media::{self, Output};
use super::query::Query;
use super::request::{RequestInfo, Verb};
use super::table::Include;

/// A request for a resource that exists, by a caller who may.
pub(crate) struct Context {
    pub(crate) server: Arc<Server>,
    pub(crate) info: RequestInfo,
    pub(crate) resource: &'static ResourceInfo,
    pub(crate) caller: Caller,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
}

impl Context {
    pub(crate) fn registry(&self) -> &Registry {
        &self.server.registry
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.info.namespace.as_deref()
    }

    /// The name in the path; a verb on one object has one.
    pub(crate) fn name(&self) -> Result<&str, Error> {
        self.info.name.as_deref().ok_or(Error::MethodNotAllowed)
    }

    /// The form of the answer, with the query that refines it; judged before anything is done.
    pub(crate) fn form(&self) -> Result<(Output, &Query), Error> {
        let output = media::output(&self.headers)?;
        if matches!(output, Output::Table { .. }) {
            Include::of(&self.query)?;
        }
        Ok((output, &self.query))
    }

    pub(crate) fn write_options(&self) -> Result<WriteOptions, Error> {
        let agent = self
            .headers
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok());
        let kind = match self.info.verb {
            Verb::Update => "UpdateOptions",
            Verb::Patch => "PatchOptions",
            Verb::Get
            | Verb::List
            | Verb::Watch
            | Verb::Create
            | Verb::Delete
            | Verb::DeleteCollection => "CreateOptions",
        };
        self.query.write_options(agent, kind)
    }
}
