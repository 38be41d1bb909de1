//! PUT of one object, or of its status.

use axum::body::Body;
use axum::response::Response;

use crate::apiserver::error::Error;
use crate::apiserver::{body, respond};

use super::Context;

pub(crate) async fn update(ctx: &Context, body: Body) -> Result<Response, Error> {
    let form = ctx.form()?;
    let mut options = ctx.write_options()?;
    let name = ctx.name()?;
    let parsed = body::parsed(&ctx.headers, body).await?;
    options.duplicate_fields = parsed.duplicates;
    let written = ctx
        .registry()
        .update(
            ctx.resource,
            ctx.namespace(),
            name,
            ctx.info.subresource.as_deref(),
            parsed.value,
            &options,
            &ctx.caller,
        )
        .await?;
    respond::written(ctx.registry(), ctx.resource, &written, form)
}
