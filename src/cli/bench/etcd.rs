//! The peer of the store: a throw-away etcd, written to over its own gRPC.
//!
//! The client is the few bytes that `etcdserverpb.KV/Put` needs over HTTP/2; a whole gRPC stack would
//! be a large dependency for one call, and its cost would count against etcd.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{Sample, stats};
use crate::tasks::TaskGroup;

/// A running etcd; it ends with this value.
pub(super) struct Etcd {
    address: SocketAddr,
    _process: Child,
    _directory: tempfile::TempDir,
}

impl Etcd {
    /// Starts one beside the cluster, on the same file system; `None` if etcd is not installed.
    pub(super) async fn start(beside: &Path) -> anyhow::Result<Option<Self>> {
        let directory = tempfile::tempdir_in(beside).context("make a directory for etcd")?;
        let (client, peer) = (free_port()?, free_port()?);
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(directory.path())
            .args([
                "--listen-client-urls",
                &format!("http://{client}"),
                "--advertise-client-urls",
                &format!("http://{client}"),
            ])
            .args([
                "--listen-peer-urls",
                &format!("http://{peer}"),
                "--initial-advertise-peer-urls",
                &format!("http://{peer}"),
            ])
            .args([
                "--initial-cluster",
                &format!("default=http://{peer}"),
                "--log-level",
                "error",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let process = match process {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("start etcd"),
        };
        let etcd = Self {
            address: client,
            _process: process,
            _directory: directory,
        };
        let deadline = Instant::now() + Duration::from_secs(15);
        while etcd.puts(1, 1, 16).await.is_err() {
            anyhow::ensure!(Instant::now() < deadline, "etcd did not answer within 15 s");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Some(etcd))
    }

    /// Puts `total` keys, `in_flight` at a time, over one connection per ten in flight.
    pub(super) async fn puts(
        &self,
        in_flight: u64,
        total: u64,
        size: usize,
    ) -> anyhow::Result<Sample> {
        let tasks = TaskGroup::new();
        let (results, mut finished) = tokio::sync::mpsc::channel(usize::try_from(in_flight)?);
        let mut connections = Vec::new();
        for _ in 0..in_flight.div_ceil(10) {
            connections.push(self.connect(&tasks).await?);
        }
        let started = Instant::now();
        for index in 0..in_flight {
            let sender = connections[usize::try_from(index)? % connections.len()].clone();
            let share = total / in_flight + u64::from(index < total % in_flight);
            let results = results.clone();
            tasks.spawn_contained("bench-etcd", async move {
                let _ = results
                    .send(put_many(sender, index << 32, share, size).await)
                    .await;
            });
        }
        drop(results);
        let mut latencies = Vec::new();
        while let Some(mine) = finished.recv().await {
            latencies.extend(mine?);
        }
        let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
        let (p50, p99) = (
            stats::percentile(&mut latencies, 0.5),
            stats::percentile(&mut latencies, 0.99),
        );
        Ok(Sample {
            rate,
            p50,
            p99,
            failed: 0,
        })
    }

    async fn connect(&self, tasks: &TaskGroup) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await?;
        tasks.spawn_contained("bench-etcd-connection", async move {
            let _ = connection.await;
        });
        Ok(sender)
    }
}

async fn put_many(
    mut sender: SendRequest<Full<Bytes>>,
    first: u64,
    share: u64,
    size: usize,
) -> anyhow::Result<Vec<Duration>> {
    let value = vec![b'x'; size];
    let mut latencies = Vec::new();
    for number in 0..share {
        let since = Instant::now();
        sender.ready().await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri("http://etcd/etcdserverpb.KV/Put")
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Full::new(put_frame(
                &format!("/bench/{:x}", first + number),
                &value,
            )))?;
        let response = sender
            .send_request(request)
            .await?
            .into_body()
            .collect()
            .await?;
        let status = response
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status"));
        anyhow::ensure!(
            status.is_none_or(|status| status == "0"),
            "etcd refused a put: {status:?}"
        );
        latencies.push(since.elapsed());
    }
    Ok(latencies)
}

/// A gRPC frame around `PutRequest { bytes key = 1; bytes value = 2; }`.
fn put_frame(key: &str, value: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    for (tag, bytes) in [(0x0a, key.as_bytes()), (0x12, value)] {
        message.put_u8(tag);
        let mut length = bytes.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(bytes);
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_framed_as_grpc_wants_it() {
        let frame = put_frame("k", &[7; 200]);
        assert_eq!(&frame[..8], &[0, 0, 0, 0, 206, 0x0a, 1, b'k']);
        assert_eq!(&frame[8..12], &[0x12, 0xc8, 0x01, 7]);
        assert_eq!(frame.len(), 5 + 206);
    }
}
