//! What hangs below an object and is not the object: one file per name.
//!
//! A subresource exists where the kind's row announces it; a name that no row announces is an
//! unknown path. `status` and `finalize` are plain writes that the registry tells apart, so the
//! verbs' own handlers serve them.

pub(crate) mod binding;
pub(crate) mod eviction;
pub(crate) mod log;
pub(crate) mod proxy;
pub(crate) mod scale;
pub(crate) mod stream;
pub(crate) mod token;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use serde_json::Value;

use super::error::Error;
use super::handlers::{self, Context};
use super::request::Verb;
use super::{media, modules};
use crate::api::object;
use crate::registry::check_namespace;
use stream::Purpose;

/// Refuses a body that is about another object than the path.
fn check_meant(ctx: &Context, kind: &str, body: &Value) -> Result<(), Error> {
    if object::name(body) != ctx.name()? {
        return Err(Error::BadRequest(format!(
            "name in URL does not match name in {kind} object"
        )));
    }
    check_namespace(ctx.resource, ctx.namespace(), body)?;
    Ok(())
}

/// Calls the subresource's handler.
pub(crate) async fn serve(
    ctx: &Context,
    name: &str,
    parts: &mut Parts,
    body: Body,
) -> Result<Response, Error> {
    let announced = ctx.resource.subresources.iter().any(|sub| sub.name == name);
    if !announced {
        return Err(Error::UnknownPath);
    }
    if matches!(name, "scale" | "binding" | "eviction" | "token") {
        // Whoever cannot read the answer has nothing done.
        media::output(&ctx.headers)?;
    }
    match (name, ctx.info.verb) {
        ("status" | "ephemeralcontainers", Verb::Get) => handlers::get::get(ctx),
        ("status" | "finalize" | "ephemeralcontainers", Verb::Update) => {
            handlers::update::update(ctx, body).await
        }
        ("status" | "ephemeralcontainers", Verb::Patch) => handlers::patch::patch(ctx, body).await,
        ("scale", Verb::Get) => scale::get(ctx),
        ("scale", Verb::Update) => scale::update(ctx, body).await,
        ("scale", Verb::Patch) => scale::patch(ctx, body).await,
        ("binding", Verb::Create) => binding::create(ctx, body).await,
        ("eviction", Verb::Create) => eviction::create(ctx, body).await,
        ("token", Verb::Create) => token::create(ctx, body).await,
        ("log", Verb::Get) => log::get(ctx, parts).await,
        ("exec", Verb::Get | Verb::Create) => stream::connect(ctx, Purpose::Exec, parts).await,
        ("attach", Verb::Get | Verb::Create) => stream::connect(ctx, Purpose::Attach, parts).await,
        ("portforward", Verb::Get | Verb::Create) => {
            stream::connect(ctx, Purpose::PortForward, parts).await
        }
        ("proxy", Verb::Get | Verb::Create | Verb::Update | Verb::Patch | Verb::Delete) => {
            proxy::connect(ctx, parts, body).await
        }
        ("content", Verb::Get) => modules::download(ctx).await,
        ("content", Verb::Create | Verb::Update) => modules::push(ctx, body).await,
        (
            "status"
            | "finalize"
            | "scale"
            | "binding"
            | "eviction"
            | "log"
            | "token"
            | "content"
            | "exec"
            | "attach"
            | "portforward"
            | "proxy"
            | "ephemeralcontainers",
            Verb::Get
            | Verb::List
            | Verb::Watch
            | Verb::Create
            | Verb::Update
            | Verb::Patch
            | Verb::Delete
            | Verb::DeleteCollection,
        ) => Err(Error::MethodNotAllowed),
        _ => Err(Error::UnknownPath),
    }
}
