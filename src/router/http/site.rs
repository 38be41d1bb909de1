//! Where a request came in, and whom that means.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Uri, header};

use super::reply::Reply;
use crate::router::table::{Backend, Listener, Port, PortIndex, Protocol, RoutingTable, Service};

/// Which listener a connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::router) enum Site {
    /// The front address, where hosts and paths decide.
    Front,
    NodePort(u16),
    Balancer(SocketAddr),
}

impl Site {
    /// The service of a listener that belongs to one.
    pub(in crate::router) fn listener(self, table: &RoutingTable) -> Option<Listener> {
        let listeners = table.listeners();
        match self {
            Self::Front => None,
            Self::NodePort(port) => listeners.node_port(port, Protocol::Tcp),
            Self::Balancer(addr) => listeners.balancer(addr, Protocol::Tcp),
        }
    }

    /// Who answers a request.
    pub(super) fn target<B>(
        self,
        table: &RoutingTable,
        request: &Request<B>,
    ) -> Result<Target, Reply> {
        if self != Self::Front {
            let listener = self.listener(table).ok_or(Reply::NoService)?;
            let port = listener.service.tcp_port(&listener.port);
            let position = port.and_then(|port| listener.service.position(port));
            return Ok(Target {
                port: position.ok_or(Reply::NoService)?,
                service: listener.service,
            });
        }
        let host = host_of(request).ok_or(Reply::NoHost)?;
        match table.http(&host, request.uri().path()) {
            Backend::Port(service, port) => Ok(Target {
                service: Arc::clone(service),
                port,
            }),
            Backend::NoRule => Err(Reply::NoRule(host.into_owned())),
            Backend::NoService(key) => Err(Reply::Unknown(key)),
        }
    }
}

/// The service port that a request is for.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) service: Arc<Service>,
    port: PortIndex,
}

impl Target {
    pub(super) fn port(&self) -> Option<&Port> {
        self.port.of(&self.service)
    }

    /// The same port as a newer table has it.
    pub(super) fn renewed(&self, table: &RoutingTable) -> Option<Self> {
        let known = self.port()?;
        let service = table.service(&self.service.namespace, &self.service.name)?;
        let port = service.position(service.port(known.number, known.protocol)?)?;
        Some(Self {
            service: Arc::clone(service),
            port,
        })
    }
}

/// The host a client asked for, without port and in lower case.
fn host_of<B>(request: &Request<B>) -> Option<Cow<'_, str>> {
    let host = match request.headers().get(header::HOST) {
        Some(value) => value.to_str().ok()?,
        None => request
            .uri()
            .authority()
            .map(http::uri::Authority::as_str)?,
    };
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return None;
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(host.to_ascii_lowercase().into());
    }
    Some(host.into())
}

/// The path and query, which is all that a server is asked for.
pub(super) fn origin_form(uri: &Uri) -> Uri {
    match uri.path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::from_static("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_from_the_header_or_the_authority() {
        let cases = [
            (
                "/",
                Some("Web.Shop.localhost:8080"),
                Some("web.shop.localhost"),
            ),
            ("/", Some("web.shop.localhost."), Some("web.shop.localhost")),
            ("/", Some("[::1]:80"), Some("[::1]")),
            ("/", Some("[::1]"), Some("[::1]")),
            ("/", Some(""), None),
            ("/", None, None),
            ("http://a.test/x", None, Some("a.test")),
            ("http://a.test:80/x", None, Some("a.test")),
        ];
        for (uri, host, expected) in cases {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(host_of(&request).as_deref(), expected, "{uri} {host:?}");
        }
    }
}
