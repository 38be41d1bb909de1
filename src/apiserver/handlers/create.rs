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
    let mut options = ctx.write_options()?;
    let parsed = body::parsed(&ctx.headers, body).await?;
    options.duplicate_fields = parsed.duplicates;
    let written = ctx
        .registry()
        .create(
            ctx.resource,
            ctx.namespace(),
            parsed.value,
            &options,
            &ctx.caller,
        )
        .await?;
    respond::written(ctx.registry(), ctx.resource, &written, form)
}
