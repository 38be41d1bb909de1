//! DELETE of one object or of a collection.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;

use crate::api::object;
use crate::apiserver::error::Error;
use crate::apiserver::{body, respond, status};
use crate::registry::{Deleted, List};

use super::Context;

pub(crate) async fn delete(ctx: &Context, body: Body) -> Result<Response, Error> {
    let form = ctx.form()?;
    let name = ctx.name()?;
    let body = body::optional(&ctx.headers, body).await?;
    let options = ctx.query.delete_options(body.as_ref())?;
    let deleted = ctx
        .registry()
        .delete(ctx.resource, ctx.namespace(), name, &options, &ctx.caller)
        .await?;
    match deleted {
        Deleted::Gone(stored) => {
            let mut details = status::object_details(&ctx.info.qualified(), name);
            details["uid"] = object::uid(&stored.object).into();
            Ok(respond::json(StatusCode::OK, &status::success(&details)))
        }
        Deleted::Pending(stored) => {
            respond::object(ctx.registry(), ctx.resource, &stored, form, StatusCode::OK)
        }
    }
}

pub(crate) async fn delete_collection(ctx: &Context, body: Body) -> Result<Response, Error> {
    let form = ctx.form()?;
    let list = ctx.query.list_options()?;
    let body = body::optional(&ctx.headers, body).await?;
    let options = ctx.query.delete_options(body.as_ref())?;
    let items = ctx
        .registry()
        .delete_collection(ctx.resource, ctx.namespace(), &list, &options, &ctx.caller)
        .await?;
    let list = List {
        revision: ctx.registry().store().revision().0,
        items,
        continue_token: None,
        remaining: None,
    };
    respond::list(ctx.registry(), ctx.resource, &list, form)
}
