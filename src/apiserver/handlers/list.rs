//! GET of a collection.

use axum::response::Response;

use crate::apiserver::error::Error;
use crate::apiserver::respond;

use super::Context;

pub(crate) async fn list(ctx: &Context) -> Result<Response, Error> {
    let form = ctx.form()?;
    let options = ctx.query.list_options()?;
    let list = ctx
        .registry()
        .list(ctx.resource, ctx.namespace(), &options)
        .await?;
    respond::list(ctx.registry(), ctx.resource, &list, form)
}
