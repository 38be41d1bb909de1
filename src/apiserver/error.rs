//! Everything that can go wrong with a request, as facts. How a fact is told to the client is the
//! business of [`super::status`] alone.

use crate::modules::refusal::Refusal;
use crate::registry;

use super::authorize::Denial;

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// No such path, resource or subresource.
    #[error("the server could not find the requested resource")]
    UnknownPath,
    /// An object that the registry does not keep: a blob, a log.
    #[error("{0}")]
    NotFound(String),
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("Unauthorized")]
    Unauthorized,
    #[error("{0}")]
    Forbidden(String),
    /// The caller has no right to a resource.
    #[error("{}", .0.message)]
    Denied(Denial),
    #[error("{0}")]
    BadRequest(String),
    #[error("{message}")]
    Unprocessable { message: String, field: String },
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(&'static str),
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    UnsupportedMedia(&'static str),
    #[error("Request entity too large: limit is {limit}")]
    TooLarge { limit: usize },
    /// A wasm file that cannot run here.
    #[error("refuse `{file}`")]
    Refused { file: String, refusal: Refusal },
    #[error("{message}")]
    Conflict {
        message: String,
        kind: &'static str,
        name: String,
    },
    #[error("too many requests, please try again later")]
    Busy,
    #[error("the request did not complete within {seconds} s")]
    Timeout { seconds: u64 },
    /// Another process that the answer depends on cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// A bug or a broken disk; the client learns nothing of it but this.
    #[error("{operation}")]
    Internal {
        operation: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<crate::modules::blobs::Error> for Error {
    fn from(source: crate::modules::blobs::Error) -> Self {
        Self::Internal {
            operation: "keep a module's bytes",
            source: Box::new(source),
        }
    }
}
