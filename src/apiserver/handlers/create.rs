//! POST to a collection.

use axum::body::Body;
use axum::response::Response;

use crate::apiserver::error::Error;
use crate::apiserver::{body, respond};

use super::Context;

pub(crate) async fn create(ctx: &Context, body: Body) -> Result<Response, Error> {
    if ctx.info.name.is_some() {
        return Err(Error::MethodNotAllowed);
    }
    let form = ctx.form()?;
    let options = ctx.write_options()?;
    let object = body::object(&ctx.headers, body).await?;
    let written = ctx
        .registry()
        .create(ctx.resource, ctx.namespace(), object, &options, &ctx.caller)
        .await?;
    respond::written(ctx.registry(), ctx.resource, &written, form)
}
