//! Why a handler gave no response, and which status a client gets for it.
//!
//! The text is for the container's log and the operator; a client gets the status and
//! [`Error::public`], which tells nothing of the guest's inside.

use http::StatusCode;

use crate::api::unseen::Unseen;

/// A request that was not answered by the guest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every instance slot or every byte of the container's memory is taken by other requests.
    #[error("no room for one more request: {0}")]
    Overloaded(String),
    /// The container was stopping when the request came.
    #[error("the container is stopping")]
    Stopping,
    /// The container was killed while the guest was at work.
    #[error("the container was killed")]
    Killed,
    /// The guest did not answer in time.
    #[error("no response within {0:?}")]
    Deadline(std::time::Duration),
    /// The guest trapped or passed its memory limit; the text is in the container's log too.
    #[error("the guest failed: {0}")]
    Trap(String),
    /// The guest returned without setting a response.
    #[error("the guest returned without a response")]
    NoResponse,
    /// The guest answered with an error code of `wasi:http`.
    #[error("the guest answered with an error: {0}")]
    Guest(String),
    /// The request passed through too many handlers that call each other.
    #[error("the request went through {0} handlers, which looks like a loop")]
    Loop(u32),
    /// The request cannot be given to a guest.
    #[error("malformed request: {0}")]
    BadRequest(String),
    /// A body could not be read to its end.
    #[error("body broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The status a client gets.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Overloaded(_) | Self::Stopping | Self::Killed => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Trap(_) | Self::NoResponse | Self::Guest(_) | Self::Body(_) => {
                StatusCode::BAD_GATEWAY
            }
            Self::Loop(_) => StatusCode::LOOP_DETECTED,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// What a client may read.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Overloaded(_) => "overloaded\n",
            Self::Stopping | Self::Killed => "stopping\n",
            Self::Deadline(_) => "deadline exceeded\n",
            Self::Trap(_) | Self::NoResponse | Self::Guest(_) | Self::Body(_) => {
                "the application failed\n"
            }
            Self::Loop(_) => "loop detected\n",
            Self::BadRequest(_) => "bad request\n",
        }
    }

    /// Why the guest never saw the request, if that is so: then it may safely be sent elsewhere.
    pub fn unseen(&self) -> Option<Unseen> {
        match self {
            Self::Overloaded(_) => Some(Unseen::Busy),
            Self::Stopping => Some(Unseen::Gone),
            Self::Killed
            | Self::Deadline(_)
            | Self::Trap(_)
            | Self::NoResponse
            | Self::Guest(_)
            | Self::Loop(_)
            | Self::BadRequest(_)
            | Self::Body(_) => None,
        }
    }

    /// The response a client gets.
    pub fn response(&self) -> http::Response<super::Body> {
        let mut response = http::Response::new(super::Body::full(self.public()));
        *response.status_mut() = self.status();
        response
    }
}
