//! One instance of a handler, and one request through it.
//!
//! [`Instance::serve`] is the guest's side of an exchange: it gives the response to `head` when the
//! guest sets it and returns when the guest has nothing more to do, which may be before or after
//! the body has been read. Both WASI versions look the same from outside.

use std::future::poll_fn;
use std::pin::Pin;

use http::uri::{Authority, PathAndQuery};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error as WasiHttpError, WasiBody, WasiHttpView as _, p2, p3};

use super::{Body, Error};
use crate::runtime::artifact::{Artifact, Entry};
use crate::runtime::host::Host;

/// The response or the error code that the guest sets.
pub(super) type Head = Result<http::Response<WasiBody>, Error>;

/// Ends when the request's body was read, with the error that the guest learns.
type BodyRead = Pin<Box<dyn Future<Output = Result<(), WasiHttpError>> + Send>>;

/// A store with the guest's handler in it.
pub(super) struct Instance {
    store: Store<Host>,
    proxy: Proxy,
    /// Requests served.
    pub(super) served: u32,
}

enum Proxy {
    P2(p2::bindings::Proxy),
    P3(p3::bindings::Service),
}

impl Instance {
    /// Instantiates the artifact, which must be a handler, in `store`.
    pub(super) async fn new(artifact: &Artifact, mut store: Store<Host>) -> wasmtime::Result<Self> {
        let proxy = match artifact.entry() {
            Entry::Handler2(pre) => Proxy::P2(pre.instantiate_async(&mut store).await?),
            Entry::Handler3(pre) => Proxy::P3(pre.instantiate_async(&mut store).await?),
            Entry::Core { .. } | Entry::Command2(_) | Entry::Command3(_) => {
                wasmtime::bail!("a command answers no requests");
            }
        };
        Ok(Self {
            store,
            proxy,
            served: 0,
        })
    }

    /// The host state, to be prepared for a request.
    pub(super) fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    /// Whether a growth of memory was refused to it.
    pub(super) fn refusal(&self) -> Option<crate::runtime::budget::Exceeded> {
        self.store.data().limits.refusal()
    }

    /// Serves one request to its end; `ended` tells that the response's body was read or dropped.
    pub(super) async fn serve(
        &mut self,
        request: http::Request<Body>,
        head: oneshot::Sender<Head>,
        ended: oneshot::Receiver<()>,
    ) -> wasmtime::Result<()> {
        self.served += 1;
        match &self.proxy {
            Proxy::P2(proxy) => serve2(&mut self.store, proxy, request, head).await,
            Proxy::P3(service) => serve3(&mut self.store, service, request, head, ended).await,
        }
    }
}

async fn serve2(
    store: &mut Store<Host>,
    proxy: &p2::bindings::Proxy,
    request: http::Request<Body>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<()> {
    let request = request.map(Body::into_wasi);
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam_from_callback(move |response| {
        // The caller may be gone; then nobody wants the response.
        let _ = head.send(match response {
            Ok(response) => Ok(response.map(convert_body)),
            Err(code) => Err(Error::Guest(format!("{code:?}"))),
        });
    })?;
    proxy
        .wasi_http_incoming_handler()
        .call_handle(store, request, out)
        .await
}

fn convert_body(body: p2::body::HyperOutgoingBody) -> WasiBody {
    use http_body_util::BodyExt as _;
    body.map_err(Into::into).boxed_unsync()
}

/// A guest is told scheme and authority; on the wire the one is not said and the other a header.
fn absolute<B>(request: http::Request<B>) -> http::Request<B> {
    let (mut head, body) = request.into_parts();
    let host = head.headers.get(http::header::HOST);
    let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = head.uri.clone().into_parts();
    parts.authority = parts.authority.or(host);
    parts.scheme = parts.scheme.or(Some(http::uri::Scheme::HTTP));
    parts.path_and_query = Some(match parts.path_and_query {
        Some(path) => path,
        None => PathAndQuery::from_static("/"),
    });
    // Without an authority it stays as it is: it was checked to have a host, if not a valid one.
    if let Ok(uri) = http::Uri::from_parts(parts) {
        head.uri = uri;
    }
    http::Request::from_parts(head, body)
}

async fn serve3(
    store: &mut Store<Host>,
    service: &p3::bindings::Service,
    request: http::Request<Body>,
    head: oneshot::Sender<Head>,
    ended: oneshot::Receiver<()>,
) -> wasmtime::Result<()> {
    let request = absolute(request).map(Body::into_wasi);
    let serving = async |accessor: &wasmtime::component::Accessor<Host>| {
        let (request, body_read) = accessor.with(|mut store| {
            let http = store.get().http();
            let (request, body_read) = p3::Request::from_http(http.hooks, request);
            let body_read: BodyRead = Box::pin(body_read);
            wasmtime::error::Ok((http.table.push(request)?, body_read))
        })?;
        let answer = service
            .wasi_http_handler()
            .call_handle(accessor, request)
            .await?;
        let response = match answer {
            Ok(response) => accessor.with(|mut store| {
                let response = store.get().http().table.delete(response)?;
                response.into_http_with_getter(&mut store, body_read, Host::http)
            })?,
            Err(code) => {
                let _ = head.send(Err(Error::Guest(format!("{code:?}"))));
                return Ok(());
            }
        };
        if head.send(Ok(response)).is_ok() {
            // The body may come from a stream that no task of the guest holds any more.
            let _ = ended.await;
        }
        poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
        Ok(())
    };
    store.run_concurrent(serving).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_with_scheme_authority_and_path() {
        let cases = [
            ("/a?b", Some("shop:80"), "http://shop:80/a?b"),
            ("http://shop/a", Some("other"), "http://shop/a"),
            ("http://shop", None, "http://shop/"),
            ("/a", None, "/a"),
            ("/a", Some("no host"), "/a"),
        ];
        for (uri, host, told) in cases {
            let mut request = http::Request::get(uri);
            if let Some(host) = host {
                request = request.header(http::header::HOST, host);
            }
            assert_eq!(absolute(request.body(()).unwrap()).uri(), told, "{uri}");
        }
    }
}
