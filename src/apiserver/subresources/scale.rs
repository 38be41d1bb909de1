//! `…/scale`: the replica count of anything that has one, in one shape for all.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;

use crate::apiserver::error::Error;
use crate::apiserver::handlers::{Context, patch::read_patch};
use crate::apiserver::{body, respond};
use crate::registry::Written;

pub(crate) fn get(ctx: &Context) -> Result<Response, Error> {
    let scale = ctx
        .registry()
        .scale(ctx.resource, ctx.namespace(), ctx.name()?)?;
    Ok(respond::json(StatusCode::OK, &scale))
}

pub(crate) async fn update(ctx: &Context, body: Body) -> Result<Response, Error> {
    let options = ctx.write_options()?;
    let name = ctx.name()?;
    let scale = body::object(&ctx.headers, body).await?;
    let written = ctx
        .registry()
        .update(
            ctx.resource,
            ctx.namespace(),
            name,
            Some("scale"),
            scale,
            &options,
            &ctx.caller,
        )
        .await?;
    answer(ctx, &written)
}

pub(crate) async fn patch(ctx: &Context, body: Body) -> Result<Response, Error> {
    let options = ctx.write_options()?;
    let name = ctx.name()?;
    let patch = read_patch(ctx, body).await?;
    let written = ctx
        .registry()
        .patch(
            ctx.resource,
            ctx.namespace(),
            name,
            Some("scale"),
            patch,
            &options,
            &ctx.caller,
        )
        .await?;
    answer(ctx, &written)
}

/// The scale of what was written, which after a dry run is nowhere else.
fn answer(ctx: &Context, written: &Written) -> Result<Response, Error> {
    let scale = ctx.registry().scale_of(ctx.resource, &written.object)?;
    let mut response = respond::json(StatusCode::OK, &scale);
    respond::add_warnings(&mut response, &written.warnings);
    Ok(response)
}
