//! GET with `watch`: opens the stream, then hands it to the wire it goes over.

use axum::response::Response;
use http::request::Parts;

use crate::apiserver::error::Error;
use crate::apiserver::media;
use crate::apiserver::watch::{self, Feed, Form};
use crate::ids;

use super::Context;

/// Opens a watch; over a WebSocket if the client asked for an upgrade.
pub(crate) async fn watch(ctx: &Context, parts: &mut Parts) -> Result<Response, Error> {
    let output = media::json_only(&ctx.headers)?;
    let (_, query) = ctx.form()?;
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
    let socket = watch::websocket::asked(parts).await?;
    let bookmarks = options.allow_bookmarks.then_some(if socket.is_some() {
        watch::BOOKMARK_PERIOD_FOR_PAGES
    } else {
        watch::BOOKMARK_PERIOD
    });
    let opened = ctx
        .registry()
        .watch(ctx.resource, ctx.namespace(), &options)
        .await;
    let feed = Feed::new(ctx, opened, form, (lasting, bookmarks), permit)?;
    Ok(match socket {
        Some(socket) => watch::websocket::serve(&ctx.server, socket, feed),
        None => watch::http::serve(feed),
    })
}
