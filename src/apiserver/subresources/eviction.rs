//! `pods/{name}/eviction`: a deletion that a disruption budget may refuse.
//!
//! The body may be of any version of the policy group: `kubectl` of all ages sends one.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use crate::apiserver::error::Error;
use crate::apiserver::handlers::Context;
use crate::apiserver::subresources::check_meant;
use crate::apiserver::{body, respond, status};

pub(crate) async fn create(ctx: &Context, body: Body) -> Result<Response, Error> {
    let name = ctx.name()?;
    let eviction = body::object(&ctx.headers, body).await?;
    check_meant(ctx, "Eviction", &eviction)?;
    let in_body = eviction
        .get("deleteOptions")
        .filter(|options| !options.is_null());
    let mut options = ctx.query.delete_options(in_body)?;
    options.dry_run |= ctx.write_options()?.dry_run;
    let namespace = ctx.namespace().ok_or(Error::UnknownPath)?;
    ctx.registry()
        .evict(namespace, name, &options, &ctx.caller)
        .await?;
    Ok(respond::json(
        StatusCode::CREATED,
        &status::success(&json!({})),
    ))
}
