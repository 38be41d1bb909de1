//! A client of `exec` and `attach`, as small as the protocol allows.

use futures::{SinkExt as _, StreamExt as _};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::harness::{World, within};

/// A connection to a command.
pub(super) struct Remote(WebSocketStream<TokioIo<Upgraded>>);

/// What came of a command.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) status: Value,
}

impl Outcome {
    /// The exit code that the status tells.
    pub(super) fn code(&self) -> i32 {
        if self.status["status"] == "Success" {
            return 0;
        }
        let cause = &self.status["details"]["causes"][0];
        assert_eq!(cause["reason"], "ExitCode", "{self:?}");
        cause["message"].as_str().unwrap().parse().unwrap()
    }
}

impl Remote {
    /// Connects to `pods/{pod}/{what}`; a refusal is its status and text.
    pub(super) async fn open(
        world: &World,
        pod: &str,
        what: &str,
        query: &[(&str, &str)],
    ) -> Result<Self, (u16, String)> {
        Self::offering(world, pod, what, query, ("websocket", "v5.channel.k8s.io")).await
    }

    pub(super) async fn offering(
        world: &World,
        pod: &str,
        what: &str,
        query: &[(&str, &str)],
        (upgrade, protocols): (&str, &str),
    ) -> Result<Self, (u16, String)> {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        pairs.extend_pairs(query);
        let path = format!(
            "/api/v1/namespaces/default/pods/{pod}/{what}?{}",
            pairs.finish()
        );
        let mut request = Request::get(path)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, upgrade)
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key());
        if !protocols.is_empty() {
            request = request.header(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = within(world.client.send(request)).await.unwrap();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            return Err((status, String::from_utf8_lossy(&body).into_owned()));
        }
        let upgraded = within(hyper::upgrade::on(response)).await.unwrap();
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        Ok(Self(socket))
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        let message = [&[0], bytes].concat();
        self.0.send(Message::Binary(message.into())).await.unwrap();
    }

    pub(super) async fn end_input(&mut self) {
        let message = vec![255, 0];
        self.0.send(Message::Binary(message.into())).await.unwrap();
    }

    /// Reads until standard output has `text`.
    pub(super) async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let reading = async {
            while !seen.contains(text) {
                match self.0.next().await.unwrap().unwrap() {
                    Message::Binary(bytes) if bytes[0] == 1 => {
                        seen.push_str(&String::from_utf8_lossy(&bytes[1..]));
                    }
                    Message::Binary(bytes) => {
                        panic!("{seen:?} and then {:?}", String::from_utf8_lossy(&bytes))
                    }
                    // Pings go on for as long as the session does.
                    _ => {}
                }
            }
        };
        within(reading).await;
        seen
    }

    /// The messages up to the end, but for those that keep the connection.
    pub(super) async fn messages(mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        let reading = async {
            while let Some(Ok(message)) = self.0.next().await {
                if matches!(message, Message::Binary(_) | Message::Text(_)) {
                    messages.push(message);
                }
            }
        };
        within(reading).await;
        messages
    }

    /// Reads to the end.
    pub(super) async fn finish(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let reading = async {
            while let Some(Ok(message)) = self.0.next().await {
                let Message::Binary(bytes) = message else {
                    continue;
                };
                let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
                match bytes[0] {
                    1 => outcome.stdout.push_str(&text),
                    2 => outcome.stderr.push_str(&text),
                    3 => outcome.status = serde_json::from_str(&text).unwrap(),
                    channel => panic!("channel {channel}"),
                }
            }
        };
        within(reading).await;
        outcome
    }
}

/// Runs a command to its end.
pub(super) async fn exec(world: &World, pod: &str, words: &[&str]) -> Outcome {
    let mut query = vec![("stdout", "true"), ("stderr", "true")];
    query.extend(words.iter().map(|word| ("command", *word)));
    let remote = Remote::open(world, pod, "exec", &query).await.unwrap();
    remote.finish().await
}
