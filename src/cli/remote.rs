//! The other end of `exec` and `attach`: Kubernetes' remote command over a WebSocket.
//!
//! Bytes are passed on as they are: output is the guest's, so nothing is stripped. The program's
//! exit code becomes ours.

use std::io::ErrorKind;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::core::Status;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::console;
use super::discovery::Catalog;
use super::failure::{Failure, Result};
use super::logs;
use super::session::{Session, query};
use super::target;
use super::terminal::Raw;

const PROTOCOL: &str = "v5.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const CLOSE: u8 = 255;

/// An answer that is larger is no `Status`.
const MAX_REFUSAL: usize = 64 << 10;

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Which streams are passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

impl Streams {
    /// As parameters; a terminal has one stream for output and errors.
    pub(super) fn pairs(self) -> [(&'static str, &'static str); 4] {
        let flag = |set: bool| if set { "true" } else { "" };
        [
            ("stdin", flag(self.stdin)),
            ("stdout", "true"),
            ("stderr", flag(!self.tty)),
            ("tty", flag(self.tty)),
        ]
    }
}

/// The pod that is meant: by its name, or one of those behind TYPE/NAME.
pub(super) async fn pod(session: &Session, name: &str) -> Result<String> {
    if !name.contains('/') {
        return Ok(name.to_owned());
    }
    let (kind, name) = target::one(&[name.to_owned()])?;
    let catalog = Catalog::read(session).await?;
    let resource = catalog.resolve(&kind)?;
    if resource.plural == "pods" {
        return Ok(name);
    }
    let path = resource.path(session.namespace(), &name);
    let object = session.get(&path).await?;
    let none = || Failure::usage(format!("{} has no running pod", resource.display(&name)));
    let labels = logs::selector(&object["spec"]["selector"]).ok_or_else(none)?;
    let pods = catalog.resolve("pods")?;
    let collection = pods.collection(Some(session.namespace()));
    let list = format!("{collection}{}", query(&[("labelSelector", &labels)]));
    let list = session.get(&list).await?;
    let mut items = list["items"].as_array().into_iter().flatten();
    let running = items.find(|pod| {
        pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
    });
    let name = running.and_then(|pod| pod["metadata"]["name"].as_str());
    name.map(str::to_owned).ok_or_else(none)
}

/// The path of a pod.
pub(super) fn pod_path(session: &Session, pod: &str) -> String {
    format!("/api/v1/namespaces/{}/pods/{pod}", session.namespace())
}

/// Connects, passes bytes both ways until the program has ended, and gives its exit code.
pub(super) async fn run(session: &Session, path: &str, streams: Streams) -> Result<u8> {
    session.insist_on_ours().await?;
    let socket = connect(session, path, PROTOCOL).await?;
    let raw = streams.tty.then(Raw::enter).flatten();
    let (sink, stream) = socket.split();
    let status = tokio::select! {
        status = hear(stream) => status,
        () = speak(sink, streams.stdin) => Err(lost()),
    };
    drop(raw);
    exit_code(&status?)
}

/// Ends this process with a program's exit code.
pub(super) fn end(code: u8) -> Result {
    match code {
        0 => Ok(()),
        code => {
            console::note(&format!("command terminated with exit code {code}"));
            std::process::exit(code.into())
        }
    }
}

/// Opens a WebSocket that speaks `protocol`.
pub(super) async fn connect(
    session: &Session,
    path: &str,
    protocol: &'static str,
) -> Result<Socket> {
    let request = Request::get(path)
        .header(header::CONNECTION, HeaderValue::from_static("Upgrade"))
        .header(header::UPGRADE, HeaderValue::from_static("websocket"))
        .header(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        )
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(Body::empty())
        .map_err(|error| Failure::usage(format!("`{path}` is no path: {error}")))?;
    let response = session.client.send(request).await;
    let response = response.map_err(|error| session.explain(error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), MAX_REFUSAL);
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        let refusal = body
            .ok()
            .and_then(|body| serde_json::from_slice::<Status>(&body).ok());
        return Err(match refusal {
            Some(refusal) => Failure::from_status(&refusal),
            None => Failure::failed("Upgrade", format!("the server answered {status}")),
        });
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| {
        Failure::failed("Upgrade", "the connection was not upgraded").because(error.to_string())
    })?;
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

fn lost() -> Failure {
    Failure::failed("Connection", "the connection ended before the program did")
}

/// Output, until the status that ends it.
async fn hear(mut stream: SplitStream<Socket>) -> Result<Value> {
    while let Some(message) = stream.next().await {
        let message = message.map_err(|error| lost().because(error.to_string()))?;
        let Message::Binary(bytes) = message else {
            continue;
        };
        match bytes.split_first() {
            Some((&STDOUT, text)) => write(&mut std::io::stdout().lock(), text)?,
            Some((&STDERR, text)) => write(&mut std::io::stderr().lock(), text)?,
            Some((&ERROR, status)) => {
                return serde_json::from_slice(status).map_err(|error| {
                    Failure::failed("Status", "the program's end is not understood")
                        .because(error.to_string())
                });
            }
            Some(_) | None => {}
        }
    }
    Err(lost())
}

fn write(stream: &mut impl std::io::Write, bytes: &[u8]) -> Result {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::failed("Output", format!("write output: {error}"))),
    }
}

/// Standard input, then silence: the other side ends the session.
async fn speak(mut sink: SplitSink<Socket, Message>, has_input: bool) {
    if has_input {
        pass_on(&mut sink).await;
    }
    // Dropping this half would close the connection.
    std::future::pending::<()>().await;
}

async fn pass_on(sink: &mut SplitSink<Socket, Message>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = stdin.read(&mut buffer).await.unwrap_or(0);
        let message = if read == 0 {
            vec![CLOSE, STDIN]
        } else {
            [&[STDIN], &buffer[..read]].concat()
        };
        let sent = sink.send(Message::Binary(message.into())).await;
        // The status may still be on its way to us.
        if sent.is_err() || read == 0 {
            return;
        }
    }
}

fn exit_code(status: &Value) -> Result<u8> {
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array();
    let cause = causes
        .into_iter()
        .flatten()
        .find(|cause| cause["reason"] == "ExitCode");
    let code = cause.and_then(|cause| cause["message"].as_str()?.parse::<u8>().ok());
    code.ok_or_else(|| {
        let message = status["message"].as_str().unwrap_or("it did not run");
        Failure::failed("Exec", message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_tells_how_it_ended() {
        let code = |status: Value| exit_code(&status).ok();
        assert_eq!(code(json!({"status": "Success"})), Some(0));
        let causes = json!([{"reason": "ExitCode", "message": "3"}]);
        let failed = json!({"status": "Failure", "details": {"causes": causes}});
        assert_eq!(code(failed), Some(3));
        assert_eq!(code(json!({"status": "Failure", "message": "no"})), None);
    }
}
