//! A few verbs on the cluster under test, over one connection.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::Cluster;
use crate::app::dev::demo;
use crate::tasks::TaskGroup;

/// One keep-alive connection.
async fn connect(
    address: SocketAddr,
    tasks: &TaskGroup,
) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tasks.spawn_contained("bench-connection", async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// One connection to one of the cluster's addresses.
pub(super) struct Rest {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    bearer: Option<String>,
}

impl Rest {
    pub(super) async fn api(cluster: &Cluster, tasks: &TaskGroup) -> anyhow::Result<Self> {
        Ok(Self {
            sender: connect(cluster.api, tasks).await?,
            host: cluster.api.to_string(),
            bearer: Some(format!("Bearer {}", cluster.token)),
        })
    }

    pub(super) async fn front(
        cluster: &Cluster,
        host: &str,
        tasks: &TaskGroup,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            sender: connect(cluster.ingress, tasks).await?,
            host: host.to_owned(),
            bearer: None,
        })
    }

    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, kind);
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        self.sender.ready().await?;
        let response = self
            .sender
            .send_request(request.body(Full::new(body))?)
            .await?;
        Ok((
            response.status(),
            response.into_body().collect().await?.to_bytes(),
        ))
    }

    pub(super) async fn json(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let kind = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            serde_json::to_vec(body)?.into()
        };
        let (status, answer) = self.send(method.clone(), path, kind, bytes).await?;
        anyhow::ensure!(
            status.is_success(),
            "{method} {path}: {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        serde_json::from_slice(&answer)
            .with_context(|| format!("read the answer of {method} {path}"))
    }

    pub(super) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::GET, path, &Value::Null).await
    }

    /// Deletes what a run that was cut off may have left.
    pub(super) async fn forget(&mut self, path: &str) -> anyhow::Result<()> {
        let options = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        let (status, answer) = self
            .send(
                Method::DELETE,
                path,
                "application/json",
                serde_json::to_vec(&options)?.into(),
            )
            .await?;
        anyhow::ensure!(
            status.is_success() || status == StatusCode::NOT_FOUND,
            "DELETE {path}: {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }

    pub(super) async fn push_hello(&mut self) -> anyhow::Result<()> {
        let wasm = demo::guest("hello-http").context("this build holds no guests")?;
        self.push("bench-hello", wasm).await
    }

    pub(super) async fn push(&mut self, module: &str, wasm: Bytes) -> anyhow::Result<()> {
        let path = format!("/apis/wasmorch.dev/v1/namespaces/default/modules/{module}/content");
        let (status, answer) = self
            .send(Method::PUT, &path, "application/wasm", wasm)
            .await?;
        anyhow::ensure!(
            status.is_success(),
            "PUT {path}: {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }
}
