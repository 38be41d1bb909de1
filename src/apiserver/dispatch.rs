//! The one way of every request: who asks, for what, may they, who answers.
//!
//! Order matters. A caller is identified before anything is told, but public paths answer anyone,
//! also one with a stale token. Rights are asked before the resource is looked up, so a stranger
//! cannot tell what exists. A body is read before a place among those who are worked for is taken
//! ([`shares`](super::shares)): slow senders keep nobody else out. Every answer gets its `Audit-Id` and `Cache-Control`, and is counted.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body::Body as _;
use serde_json::json;

use crate::ids;
use crate::registry::Caller;

use super::authorize::{self, Attributes};
use super::error::Error;
use super::handlers::{self, Context};
use super::pace::paced;
use super::query::Query;
use super::request::{RequestInfo, Target, Verb};
use super::shares::Permit;
use super::{
    OBJECT_LIMIT, Server, body, dashboard, discovery, gzip, health, impersonate, respond, reviews,
    subresources, tokens, uploads, usage_api, written,
};

/// Answers any request.
pub(crate) async fn dispatch(server: Arc<Server>, request: Request<Body>) -> Response {
    let started = server.registry.clock().monotonic();
    let (mut parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let target = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let (verb, resource) = labels(&server, &target);
    let is_read = is_read(&target, parts.uri.path());
    let style =
        written::wanted(&parts.headers, &query).filter(|_| is_own(&target, parts.uri.path()));
    let mut response = answer(&server, &mut parts, body, query, target)
        .await
        .unwrap_or_else(Error::into_response);
    let took = server
        .registry
        .clock()
        .monotonic()
        .saturating_duration_since(started);
    server
        .metrics
        .observe(verb, resource, response.status().as_u16(), took);
    finish(&mut response);
    if let Some(style) = style {
        response = written::restyle(response, style, &server.writers).await;
    }
    if is_read {
        response = gzip::compress(response, &parts.headers).await;
    }
    response
}

/// Whether the answer is an object, a list or a schema, not a stream and not another's.
fn is_read(target: &Target, path: &str) -> bool {
    match target {
        Target::Resource(info) => {
            matches!(info.verb, Verb::Get | Verb::List)
                && !matches!(
                    info.subresource.as_deref(),
                    Some("log" | "proxy" | "content")
                )
        }
        Target::NonResource => path.starts_with("/openapi/"),
        Target::Unknown => false,
    }
}

/// Whether the answer is made here, and is no stream: then it is written as the client wants it.
fn is_own(target: &Target, path: &str) -> bool {
    match target {
        Target::Resource(info) => {
            info.verb != Verb::Watch && info.subresource.as_deref() != Some("proxy")
        }
        Target::NonResource => !path.starts_with("/openapi/"),
        Target::Unknown => true,
    }
}

/// What the request is counted under.
fn labels(server: &Server, target: &Target) -> (&'static str, &'static str) {
    match target {
        Target::Resource(info) => {
            let verb = match info.verb {
                Verb::Get => "GET",
                Verb::List => "LIST",
                Verb::Watch => "WATCH",
                Verb::Create => "POST",
                Verb::Update => "PUT",
                Verb::Patch => "PATCH",
                Verb::Delete => "DELETE",
                Verb::DeleteCollection => "DELETECOLLECTION",
            };
            let resource = server
                .registry
                .find(&info.group, &info.version, &info.resource)
                .map_or("unknown", |resource| resource.plural);
            (verb, resource)
        }
        Target::NonResource | Target::Unknown => ("GET", ""),
    }
}

fn finish(response: &mut Response) {
    let headers = response.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-cache, private"));
    if let Ok(id) = HeaderValue::from_str(&ids::uid()) {
        headers.insert(HeaderName::from_static("audit-id"), id);
    }
}

async fn answer(
    server: &Arc<Server>,
    parts: &mut Parts,
    body: Body,
    query: Query,
    target: Target,
) -> Result<Response, Error> {
    let path = place(parts.uri.path()).to_owned();
    let caller = match server.identify(&parts.headers, parts.extensions.get()) {
        Ok(caller) => caller,
        Err(_) if authorize::is_public(&path) => None,
        Err(_) => return Err(Error::Unauthorized),
    };
    let caller = caller
        .map(|caller| impersonate::resolve(server.registry.rbac(), caller, &parts.headers))
        .transpose()?;
    let info = match target {
        Target::Unknown => return Err(Error::UnknownPath),
        Target::NonResource => {
            return non_resource(server, parts, &query, (caller.as_ref(), &path));
        }
        Target::Resource(info) => info,
    };
    let caller = caller.ok_or(Error::Unauthorized)?;
    authorize(server, &info, &query, &caller)?;
    let is_stream = matches!(info.subresource.as_deref(), Some("log" | "proxy"));
    if info.verb == Verb::Watch || is_stream {
        return resource(server, parts, body, query, (info, caller)).await;
    }
    if is_transfer(&info) {
        // Bounded chunk by chunk instead: a large module over a slow line is no failure.
        let _permit = server.transfers.take(&caller)?;
        return resource(server, parts, paced(body), query, (info, caller)).await;
    }
    let limit = server.limits.request_timeout;
    let work = async {
        // A slow sender holds the memory that he fills, but no place of those who are worked for.
        let (body, _memory) = read_ahead(server, &parts.headers, body, &caller).await?;
        let _permit = server.requests.take(&caller)?;
        resource(server, parts, body, query, (info, caller)).await
    };
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| Error::Timeout {
            seconds: limit.as_secs(),
        })?
}

/// The same body when all of it is here, and what it takes of the memory for bodies.
async fn read_ahead(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
    caller: &Caller,
) -> Result<(Body, Option<Permit>), Error> {
    if body.is_end_stream() {
        return Ok((body, None));
    }
    let most = body.size_hint().upper().unwrap_or(OBJECT_LIMIT as u64);
    let most = usize::try_from(most)
        .unwrap_or(OBJECT_LIMIT)
        .min(OBJECT_LIMIT);
    let memory = server.bodies.take_many(caller, most.div_ceil(1 << 10))?;
    let bytes = body::read(headers, body).await?;
    Ok((Body::from(bytes), Some(memory)))
}

/// A place is the same with a slash after it, which some clients write (`/version/`); the dashboard's
/// files are a directory.
fn place(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        _ if path.starts_with("/ui") => path,
        trimmed => trimmed,
    }
}

/// Whether the body is larger than an object's. What is downloaded is on its way once it is found.
fn is_transfer(info: &RequestInfo) -> bool {
    uploads::is_meant(info)
        || (info.subresource.as_deref() == Some("content")
            && matches!(info.verb, Verb::Create | Verb::Update))
}

fn authorize(
    server: &Server,
    info: &RequestInfo,
    query: &Query,
    caller: &Caller,
) -> Result<(), Error> {
    // A list of one name is a request for that object, also for rights.
    let selected = query
        .get("fieldSelector")
        .and_then(|selector| selector.strip_prefix("metadata.name="))
        .filter(|name| !name.contains([',', '!', '=']));
    authorize::authorize(
        server.registry.rbac(),
        caller,
        Attributes {
            verb: info.verb.as_str(),
            group: &info.group,
            resource: &info.resource,
            subresource: info.subresource.as_deref(),
            namespace: info.namespace.as_deref(),
            name: info.name.as_deref().or(match info.verb {
                Verb::List | Verb::Watch => selected,
                Verb::Get
                | Verb::Create
                | Verb::Update
                | Verb::Patch
                | Verb::Delete
                | Verb::DeleteCollection => None,
            }),
        },
    )
    .map_err(Error::Denied)
}

async fn resource(
    server: &Arc<Server>,
    parts: &mut Parts,
    body: Body,
    query: Query,
    (info, caller): (RequestInfo, Caller),
) -> Result<Response, Error> {
    if let Some(review) = reviews::find(&info) {
        return reviews::create(server, review, &info, &caller, (&parts.headers, body)).await;
    }
    if usage_api::is_meant(&info) {
        return usage_api::serve(&server.registry, &info, &query);
    }
    if uploads::is_meant(&info) {
        let request = (&parts.headers, &query, body);
        return uploads::create(server, &info, &caller, request).await;
    }
    let resource = server
        .registry
        .find(&info.group, &info.version, &info.resource)
        .ok_or(Error::UnknownPath)?;
    if !resource.namespaced && info.namespace.is_some() {
        return Err(Error::UnknownPath);
    }
    let needs_namespace =
        info.name.is_some() || matches!(info.verb, Verb::Create | Verb::DeleteCollection);
    if resource.namespaced && info.namespace.is_none() && needs_namespace {
        return Err(match info.verb {
            Verb::Create | Verb::DeleteCollection => Error::MethodNotAllowed,
            Verb::Get | Verb::List | Verb::Watch | Verb::Update | Verb::Patch | Verb::Delete => {
                Error::UnknownPath
            }
        });
    }
    let ctx = Context {
        server: Arc::clone(server),
        info,
        resource,
        caller,
        headers: parts.headers.clone(),
        query,
    };
    let answer = serve(&ctx, parts, body).await;
    let Some(warning) = resource.deprecation() else {
        return answer;
    };
    let mut response = answer.unwrap_or_else(Error::into_response);
    respond::add_warnings(&mut response, &[warning]);
    Ok(response)
}

/// Answers a request for a resource that exists.
async fn serve(ctx: &Context, parts: &mut Parts, body: Body) -> Result<Response, Error> {
    if let Some(subresource) = ctx.info.subresource.clone() {
        return subresources::serve(ctx, &subresource, parts, body).await;
    }
    match ctx.info.verb {
        Verb::Get => handlers::get::get(ctx),
        Verb::List => handlers::list::list(ctx).await,
        Verb::Watch => handlers::watch::watch(ctx, parts).await,
        Verb::Create => handlers::create::create(ctx, body).await,
        Verb::Update => handlers::update::update(ctx, body).await,
        Verb::Patch => handlers::patch::patch(ctx, body).await,
        Verb::Delete => handlers::delete::delete(ctx, body).await,
        Verb::DeleteCollection => handlers::delete::delete_collection(ctx, body).await,
    }
}

fn non_resource(
    server: &Server,
    parts: &Parts,
    query: &Query,
    (caller, path): (Option<&Caller>, &str),
) -> Result<Response, Error> {
    let verb = match parts.method {
        http::Method::HEAD => "get".to_owned(),
        _ => parts.method.as_str().to_lowercase(),
    };
    if !authorize::authorize_path(server.registry.rbac(), caller, &verb, path) {
        return Err(match caller {
            None => Error::Unauthorized,
            Some(caller) => Error::Forbidden(format!(
                "forbidden: User \"{}\" cannot {verb} path \"{path}\"",
                caller.user
            )),
        });
    }
    if parts.method != http::Method::GET && parts.method != http::Method::HEAD {
        return Err(Error::MethodNotAllowed);
    }
    if let Some(response) =
        health::serve(server, path, query).or_else(|| dashboard::serve(path, &parts.headers))
    {
        return Ok(response);
    }
    if path == "/metrics" {
        return Ok(respond::text(StatusCode::OK, server.metrics.render(server)));
    }
    if let Some(result) = server.openapi.serve(&server.registry, path, &parts.headers) {
        return result;
    }
    match path {
        "/.well-known/openid-configuration" => {
            let about = tokens::openid_configuration();
            return Ok(respond::json(StatusCode::OK, &about));
        }
        "/openid/v1/jwks" => {
            let mut keys = respond::json(StatusCode::OK, &server.signer.key_set());
            let kind = HeaderValue::from_static("application/jwk-set+json");
            keys.headers_mut().insert(header::CONTENT_TYPE, kind);
            return Ok(keys);
        }
        _ => {}
    }
    if path == "/" {
        return Ok(respond::json(
            StatusCode::OK,
            &json!({"paths": [
                "/api", "/api/v1", "/apis", "/cacerts", "/healthz", "/livez", "/metrics",
                "/openapi/v2", "/openapi/v3", "/readyz", "/ui/", "/version"
            ]}),
        ));
    }
    discovery::serve(&server.registry.resources(), path, &parts.headers)
        .unwrap_or(Err(Error::UnknownPath))
}
