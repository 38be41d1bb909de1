//! `/exec` and `/attach`: a stream to a command, or to a container's own program.
//!
//! What is wrong with the request is said before the upgrade; what goes wrong afterwards is said on
//! the error channel (`exec::channels`). The API server has checked who asks.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures::future::BoxFuture;

use super::upgrade::{Spoken, Switched, Upgrade};
use super::{Refusal, Shared, find};
use crate::api::image::ImageRef;
use crate::api::wire::COMMAND_PROTOCOLS;
use crate::runtime::PodSandbox;
use crate::worker::context::PodView;
use crate::worker::exec::{self, Client, Command, Options};

/// The words of a command line together, as Linux has it.
const MAX_WORDS: usize = 128 << 10;

/// The query of both.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    words: Vec<String>,
    options: Options,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut asked = Self::default();
        let mut length = 0;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_set = matches!(&*value, "true" | "1");
            match &*name {
                "command" => {
                    length += value.len();
                    asked.words.push(value.into_owned());
                }
                "stdin" => asked.options.stdin = is_set,
                "stdout" => asked.options.stdout = is_set,
                "stderr" => asked.options.stderr = is_set,
                "tty" => asked.options.tty = is_set,
                _ => {}
            }
        }
        if length > MAX_WORDS {
            let text = format!("a command line has at most {MAX_WORDS} bytes");
            return Err((StatusCode::BAD_REQUEST, text));
        }
        Ok(asked)
    }
}

type Names = Path<(String, String, String)>;

pub(super) async fn exec(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Names,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let prepared = || {
        let asked = Asked::parse(query.as_deref().unwrap_or_default())?;
        if asked.words.is_empty() {
            let text = "you must specify at least one command for the container";
            return Err((StatusCode::BAD_REQUEST, text.to_owned()));
        }
        let (view, found) = find(&shared, &namespace, &pod, &container)?;
        let sandbox = running(&view, &container)?;
        let image = found.image.as_deref().unwrap_or_default();
        let image = image.parse::<ImageRef>().map(|image| image.name);
        let command = Command {
            container: container.clone(),
            image: image.unwrap_or_default(),
            words: asked.words,
            stdin: asked.options.stdin,
            tty: asked.options.tty,
            is_counted: true,
        };
        Ok((sandbox, command, asked.options))
    };
    let (sandbox, command, options) = match prepared() {
        Ok(prepared) => prepared,
        Err(refusal) => return refusal.into_response(),
    };
    let context = Arc::clone(&shared.context);
    serve(&shared, request, options, move |client| {
        Box::pin(exec::exec(context, sandbox, command, options, client))
    })
    .await
}

pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Names,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let prepared = || {
        let mut options = Asked::parse(query.as_deref().unwrap_or_default())?.options;
        let (view, found) = find(&shared, &namespace, &pod, &container)?;
        let sandbox = running(&view, &container)?;
        let uid = view.pod.metadata.uid.clone().unwrap_or_default();
        let tap = shared.context.taps.find(&uid, &container);
        let handle = sandbox.container_named(&container);
        let (Some(tap), Some(handle)) = (tap, handle) else {
            return Err(not_running(&container));
        };
        if options.stdin && handle.stdin().is_none() {
            let text = format!(
                "container {container} keeps no standard input open: it needs `stdin: true` and a command, not a handler"
            );
            return Err((StatusCode::BAD_REQUEST, text));
        }
        let offered = options;
        options.tty &= found.tty == Some(true);
        Ok((
            (handle, tap),
            (options, offered),
            found.stdin_once == Some(true),
        ))
    };
    let ((handle, tap), (options, offered), is_once) = match prepared() {
        Ok(prepared) => prepared,
        Err(refusal) => return refusal.into_response(),
    };
    serve(&shared, request, offered, move |client| {
        Box::pin(exec::attach(handle, tap, options, is_once, client))
    })
    .await
}

fn not_running(container: &str) -> Refusal {
    let text = format!("container {container} is not running");
    (StatusCode::BAD_REQUEST, text)
}

fn running(view: &PodView, container: &str) -> Result<Arc<PodSandbox>, Refusal> {
    let sandbox = view.sandbox.clone().ok_or_else(|| not_running(container))?;
    match sandbox.container_named(container) {
        Some(handle) if handle.exit().is_none() => Ok(sandbox),
        Some(_) | None => Err(not_running(container)),
    }
}

/// Answers the upgrade and serves the client who then speaks. `options` are the streams that it
/// opens.
async fn serve(
    shared: &Shared,
    request: Request,
    options: Options,
    work: impl FnOnce(Client) -> BoxFuture<'static, ()> + Send + 'static,
) -> Response {
    let spoken = Spoken {
        websocket: &COMMAND_PROTOCOLS,
        spdy: &exec::SPDY_PROTOCOLS,
    };
    let (mut parts, _) = request.into_parts();
    match Upgrade::of(&mut parts, &spoken).await {
        Ok(upgrade) => upgrade.serve(shared, move |switched| match switched {
            Switched::WebSocket(socket, protocol) => {
                work(Client::over_websocket(*socket, protocol))
            }
            Switched::Spdy(io) => Box::pin(exec::serve_spdy(io, options, work)),
        }),
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_kubernetes_writes_them() {
        let asked = Asked::parse("command=sh&command=-c&command=a+%26%26+b&stdout=true&tty=1");
        let asked = asked.unwrap();
        assert_eq!(asked.words, ["sh", "-c", "a && b"]);
        let options = Options {
            stdout: true,
            tty: true,
            ..Options::default()
        };
        assert_eq!(asked.options, options);
        let long = format!("command={}", "x".repeat(MAX_WORDS + 1));
        assert!(Asked::parse(&long).is_err());
    }
}
