//! GET with `watch`: opens the stream, then hands it to the wire it goes over.

use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use http::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;

use crate::apiserver::error::Error;
use crate::apiserver::watch::{self, Feed, Form};
use crate::ids;

use super::Context;

/// Opens a watch; over a WebSocket if the client asked for an upgrade.
pub(crate) async fn watch(ctx: &Context, parts: &mut Parts) -> Result<Response, Error> {
    let (output, query) = ctx.form()?;
    let form = Form::new(ctx.resource, output, query)?;
    let mut options = query.watch_options();
    if let Some(name) = &ctx.info.name {
        // The deprecated `/watch/…/{name}` form watches one object.
        options.field_selector = Some(format!("metadata.name={name}"));
    }
    let lasting = query.timeout_seconds()?.unwrap_or_else(|| {
        let half_hour = std::time::Duration::from_mins(30);
        half_hour + half_hour.mul_f64(ids::jitter())
    });
    let permit = ctx.server.streams.take(&ctx.caller)?;
    let is_socket = parts.headers.contains_key(UPGRADE);
    let bookmarks = options.allow_bookmarks.then_some(if is_socket {
        watch::BOOKMARK_PERIOD_FOR_PAGES
    } else {
        watch::BOOKMARK_PERIOD
    });
    let opened = ctx
        .registry()
        .watch(ctx.resource, ctx.namespace(), &options)
        .await;
    let feed = Feed::new(ctx, opened, form, (lasting, bookmarks), permit)?;
    if is_socket {
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &())
            .await
            .map_err(|error| Error::BadRequest(error.to_string()))?;
        let offered = parts
            .headers
            .get(SEC_WEBSOCKET_PROTOCOL)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        return Ok(watch::websocket::serve(&ctx.server, upgrade, offered, feed));
    }
    Ok(watch::http::serve(feed))
}
