//! GET of one object. Memory answers; nothing waits.

use axum::response::Response;
use http::StatusCode;

use crate::apiserver::error::Error;
use crate::apiserver::respond;

use super::Context;

pub(crate) fn get(ctx: &Context) -> Result<Response, Error> {
    let form = ctx.form()?;
    let stored = ctx
        .registry()
        .get(ctx.resource, ctx.namespace(), ctx.name()?)?;
    respond::object(ctx.registry(), ctx.resource, &stored, form, StatusCode::OK)
}
