//! `pods/{name}/binding`: the one way a pod gets its node.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use crate::api::object;
use crate::apiserver::error::Error;
use crate::apiserver::handlers::Context;
use crate::apiserver::subresources::check_meant;
use crate::apiserver::{body, respond, status};

pub(crate) async fn create(ctx: &Context, body: Body) -> Result<Response, Error> {
    let pod = ctx.name()?;
    let namespace = ctx.namespace().ok_or(Error::UnknownPath)?;
    let binding = body::object(&ctx.headers, body).await?;
    check_meant(ctx, "Binding", &binding)?;
    let kind = object::str_at(&binding, &["target", "kind"]).unwrap_or("Node");
    let node = object::str_at(&binding, &["target", "name"]).unwrap_or_default();
    if kind != "Node" || node.is_empty() {
        return Err(Error::Unprocessable {
            message: format!("Binding \"{pod}\" is invalid: target.name: Required value"),
            field: "target.name".to_owned(),
        });
    }
    let uid = object::meta_str(&binding, "uid").filter(|uid| !uid.is_empty());
    if !ctx.write_options()?.dry_run {
        ctx.registry().bind(namespace, pod, uid, node).await?;
    }
    Ok(respond::json(
        StatusCode::CREATED,
        &status::success(&json!({})),
    ))
}
