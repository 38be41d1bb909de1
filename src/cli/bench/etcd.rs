//! The peer of the store: a throw-away etcd, written to over its own gRPC.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::process::{Child, Command};

use super::grpc::{self, Connection};
use super::peers::free_port;
use super::{Sample, cpu};
use crate::tasks::TaskGroup;

/// A running etcd; it ends with this value.
pub(super) struct Etcd {
    address: SocketAddr,
    process: Child,
    /// Each measurement writes keys of its own: a create is compared with a create.
    runs: AtomicU64,
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
            process,
            runs: AtomicU64::new(0),
            _directory: directory,
        };
        let deadline = Instant::now() + Duration::from_secs(15);
        while etcd.puts(1, 1, 16).await.is_err() {
            anyhow::ensure!(Instant::now() < deadline, "etcd did not answer within 15 s");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Some(etcd))
    }

    /// Puts `total` keys, `in_flight` at a time, each over a connection of its own, as ours are.
    pub(super) async fn puts(
        &self,
        in_flight: u64,
        total: u64,
        size: usize,
    ) -> anyhow::Result<Sample> {
        let tasks = TaskGroup::new();
        let (results, mut finished) = tokio::sync::mpsc::channel(usize::try_from(in_flight)?);
        let mut connections = Vec::new();
        for _ in 0..in_flight {
            connections.push(Connection::open(self.address, "/etcdserverpb.KV/Put").await?);
        }
        let meter = cpu::Meter::start(&self.process.id().into_iter().collect::<Vec<_>>())?;
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        for (index, connection) in (0..).zip(connections) {
            let share = total / in_flight + u64::from(index < total % in_flight);
            let results = results.clone();
            tasks.spawn_contained("bench-etcd", async move {
                let putting = put_many(connection, (run, index << 32), share, size);
                let _ = results.send(putting.await).await;
            });
        }
        drop(results);
        let mut latencies = Vec::new();
        while let Some(mine) = finished.recv().await {
            latencies.extend(mine?);
        }
        let elapsed = started.elapsed();
        Sample::new(latencies, elapsed, 0).with_cpu(&meter, elapsed)
    }
}

async fn put_many(
    mut connection: Connection,
    (run, first): (u64, u64),
    share: u64,
    size: usize,
) -> anyhow::Result<Vec<Duration>> {
    let value = vec![b'x'; size];
    let mut latencies = Vec::new();
    for number in 0..share {
        let key = format!("/bench/{run}/{:x}", first + number);
        // `PutRequest { bytes key = 1; bytes value = 2; }`
        let request = grpc::message(&[(1, key.as_bytes()), (2, &value)])?;
        let since = Instant::now();
        connection.call(&request).await?;
        latencies.push(since.elapsed());
    }
    Ok(latencies)
}
