//! PATCH of one object or of its status, in every form that Kubernetes has.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;

use crate::apiserver::authorize::{self, Attributes};
use crate::apiserver::error::Error;
use crate::apiserver::media::{self, PatchType};
use crate::apiserver::{body, respond};
use crate::registry::Patch;

use super::Context;

pub(crate) async fn patch(ctx: &Context, body: Body) -> Result<Response, Error> {
    let form = ctx.form()?;
    let options = ctx.write_options()?;
    let name = ctx.name()?;
    let patch = read_patch(ctx, body).await?;
    let written = ctx
        .registry()
        .patch(
            ctx.resource,
            ctx.namespace(),
            name,
            ctx.info.subresource.as_deref(),
            patch,
            &options,
            &ctx.caller,
        )
        .await?;
    respond::written(ctx.registry(), ctx.resource, &written, form)
}

/// The patch as its content type says.
pub(crate) async fn read_patch(ctx: &Context, body: Body) -> Result<Patch, Error> {
    let patch_type = media::patch_type(&ctx.headers)?;
    if ctx.query.get("force").is_some() && patch_type != PatchType::Apply {
        return Err(Error::Unprocessable {
            message: "force: Forbidden: may not be specified for non-apply patch".to_owned(),
            field: "force".to_owned(),
        });
    }
    if ctx.query.get("fieldManager").is_none() && patch_type == PatchType::Apply {
        return Err(Error::Unprocessable {
            message: "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch".to_owned(),
            field: "fieldManager".to_owned(),
        });
    }
    let bytes = body::read(&ctx.headers, body).await?;
    decode(ctx, patch_type, &bytes)
}

fn decode(ctx: &Context, patch_type: PatchType, bytes: &Bytes) -> Result<Patch, Error> {
    match patch_type {
        PatchType::Json => Ok(Patch::Json(body::json(bytes)?)),
        PatchType::Merge => Ok(Patch::Merge(body::json(bytes)?)),
        PatchType::Strategic => Ok(Patch::Strategic(body::json(bytes)?)),
        PatchType::Apply => Ok(Patch::Apply {
            object: body::manifest(bytes)?,
            force: ctx.query.is_true("force"),
            may_create: may_create(ctx),
        }),
    }
}

/// An apply may create, for which the right to patch is not enough.
fn may_create(ctx: &Context) -> bool {
    let wanted = Attributes {
        verb: "create",
        group: &ctx.info.group,
        resource: &ctx.info.resource,
        subresource: ctx.info.subresource.as_deref(),
        namespace: ctx.namespace(),
        name: ctx.info.name.as_deref(),
    };
    authorize::authorize(ctx.registry().rbac(), &ctx.caller, wanted).is_ok()
}
