//! Asking a probe's or a hook's question: a request to the pod's handler, a connection to its port,
//! or a command beside the container.
//!
//! A handler is called directly; a program that listens by itself is asked over its virtual socket.
//! Redirects are not followed: 200–399 is healthy, as in Kubernetes.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;

use super::context::Context;
use super::exec::{self, Command};
use super::probes::Action;
use crate::errors::chain;
use crate::runtime::PodSandbox;
use crate::runtime::http::Body;

/// Who is asked: a container of a pod.
pub struct Asked {
    pub sandbox: Arc<PodSandbox>,
    pub container: String,
    /// The name of its image.
    pub image: String,
}

/// Asks; the error is what the event says.
pub async fn ask(
    context: Arc<Context>,
    asked: Asked,
    action: Action,
    within: Duration,
) -> Result<(), String> {
    let Asked {
        sandbox,
        container,
        image,
    } = asked;
    let asking = async {
        match action {
            Action::TcpSocket { port } => connect(&sandbox, port),
            Action::HttpGet {
                path,
                port,
                headers,
            } => get(&sandbox, port, &path, &headers).await,
            Action::Exec { command } => {
                let command = Command {
                    container,
                    image,
                    words: command,
                    stdin: false,
                    tty: false,
                    is_counted: false,
                };
                exec::check(&context, &sandbox, command).await
            }
        }
    };
    let asked = tokio::time::timeout(within, asking).await;
    asked.unwrap_or_else(|_| Err(format!("no answer within {}", seconds(within))))
}

fn seconds(length: Duration) -> String {
    format!("{} s", length.as_secs())
}

fn connect(sandbox: &PodSandbox, port: u16) -> Result<(), String> {
    if sandbox.handler_inside(port).is_some() {
        return Ok(());
    }
    match sandbox.dial_inside(port) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("dial tcp {}:{port}: {error}", sandbox.spec().ip)),
    }
}

async fn get(
    sandbox: &PodSandbox,
    port: u16,
    path: &str,
    headers: &[(String, String)],
) -> Result<(), String> {
    let mut request = Request::get(path).header(header::USER_AGENT, "kube-probe/1.34");
    let has_host = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !has_host {
        request = request.header(header::HOST, format!("{}:{port}", sandbox.spec().ip));
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let status = if let Some(handler) = sandbox.handler_inside(port) {
        let request = request
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        let response = handler.call(request).await;
        response
            .map_err(|error| chain(&error).to_string())?
            .status()
    } else {
        let connection = sandbox.dial_inside(port).map_err(|error| {
            format!("Get \"http://{}:{port}{path}\": {error}", sandbox.spec().ip)
        })?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await;
        let (mut sender, connection) = handshake.map_err(|error| chain(&error).to_string())?;
        let request = request.body(Empty::<bytes::Bytes>::new());
        let asking = sender.send_request(request.map_err(|error| error.to_string())?);
        let response = tokio::select! {
            response = asking => response,
            ended = connection => match ended {
                Err(error) => Err(error),
                Ok(()) => return Err("the connection was closed without an answer".to_owned()),
            },
        };
        response
            .map_err(|error| chain(&error).to_string())?
            .status()
    };
    if (200..400).contains(&status.as_u16()) {
        Ok(())
    } else {
        Err(format!(
            "HTTP probe failed with statuscode: {}",
            status.as_u16()
        ))
    }
}
