//! A watch over a WebSocket: one message for each event. Beside Kubernetes' protocols there is
//! `text.wasmorch.dev` (plain text, which is also what a client without protocols gets).

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::request::Parts;

use crate::apiserver::Server;
use crate::apiserver::error::Error;
use crate::apiserver::websocket::{BINARY, Encoding, Socket};

use super::Feed;

/// The upgrade that is asked for, if it is.
pub(crate) async fn asked(parts: &mut Parts) -> Result<Option<Socket>, Error> {
    let spoken = [("text.wasmorch.dev", Encoding::Text)].into_iter();
    Socket::asked(parts, spoken.chain(BINARY), Encoding::Text).await
}

pub(crate) fn serve(server: &Arc<Server>, socket: Socket, feed: Feed) -> Response {
    let frames = stream::unfold(feed, |mut feed| async {
        let frame = feed.next().await?;
        Some((Bytes::from(frame), feed))
    });
    let events = frames.flat_map(|frame| {
        let lines = frame.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty());
        let events: Vec<Bytes> = lines.map(|line| frame.slice_ref(line)).collect();
        stream::iter(events)
    });
    socket.serve(server, "watch over websocket", events)
}
