//! The router's own answers: a status and one line that names the reason.

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::body::Answer;
use crate::router::table::Key;

/// Why a request is answered by the router itself.
#[derive(Debug)]
pub(super) enum Reply {
    /// A request that two readers would frame differently.
    Ambiguous,
    /// `CONNECT`.
    NoTunnel,
    NoHost,
    NoRule(String),
    /// A host or rule names a service that is not there.
    Unknown(Key),
    /// A listener whose service has just gone.
    NoService,
    /// The service has no ready endpoint.
    NotReady(Key),
    /// No endpoint could be reached.
    Unreachable {
        service: Key,
        reason: String,
    },
    /// An endpoint broke off before it answered.
    Broken {
        service: Key,
        reason: String,
    },
    Timeout(Key),
    /// This thread has as many connections as it may have.
    Full,
    /// The endpoint's network policies do not let the client in.
    Denied(Key),
}

impl Reply {
    fn status(&self) -> StatusCode {
        match self {
            Self::Ambiguous | Self::NoHost => StatusCode::BAD_REQUEST,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::NoTunnel => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRule(_) | Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::NoService | Self::NotReady(_) | Self::Unreachable { .. } | Self::Full => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Broken { .. } => StatusCode::BAD_GATEWAY,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn text(&self) -> String {
        let name = |key: &Key| format!("{}/{}", key.namespace(), key.name());
        match self {
            Self::Ambiguous => {
                "the request has more than one Host, Content-Length or framing".to_owned()
            }
            Self::NoTunnel => "CONNECT is not supported".to_owned(),
            Self::NoHost => "the request names no host".to_owned(),
            Self::NoRule(host) => format!(
                "no Ingress matches host `{host}` and this path; a service is reached as \
                 <service>.<namespace>.localhost"
            ),
            Self::Unknown(key) => {
                format!("there is no service {} with such a port", name(key))
            }
            Self::NoService => "the service of this port is gone".to_owned(),
            Self::NotReady(key) => format!("service {} has no ready pod", name(key)),
            Self::Unreachable { service, reason } => {
                format!(
                    "no pod of service {} could be reached: {reason}",
                    name(service)
                )
            }
            Self::Broken { service, reason } => {
                format!("a pod of service {} broke off: {reason}", name(service))
            }
            Self::Timeout(key) => {
                format!("a pod of service {} did not answer in time", name(key))
            }
            Self::Full => "too many connections".to_owned(),
            Self::Denied(key) => {
                format!("a network policy keeps you from service {}", name(key))
            }
        }
    }

    pub(super) fn response(self) -> Response<Answer> {
        let mut response = Response::new(Answer::text(self.text() + "\n"));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
