//! The peer of the store: a throw-away etcd, asked over its own gRPC.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::process::{Child, Command};

use super::api::Arrivals;
use super::grpc::{self, Answers, Connection};
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

    /// The process whose CPU time and memory count.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.process.id().into_iter().collect()
    }

    /// A key that no measurement has used.
    pub(super) fn fresh_key(&self) -> String {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        format!("/bench/{run}/key")
    }

    /// Puts `total` keys, `in_flight` at a time, each over a connection of its own, as ours are.
    pub(super) async fn puts(
        &self,
        in_flight: u64,
        total: u64,
        size: usize,
    ) -> anyhow::Result<Sample> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        self.load("/etcdserverpb.KV/Put", in_flight, total, |index| {
            let value = vec![b'x'; size];
            move |number| {
                let key = format!("/bench/{run}/{:x}", (index << 32) + number);
                put_request(key.as_bytes(), &value)
            }
        })
        .await
    }

    /// Reads one key over and over, from memory and without asking other members.
    pub(super) async fn ranges(
        &self,
        connections: u64,
        total: u64,
        size: usize,
    ) -> anyhow::Result<Sample> {
        let key = self.fresh_key();
        self.putter().await?.put(&key, size).await?;
        let request = range_request(&[(1, key.as_bytes())])?;
        self.load("/etcdserverpb.KV/Range", connections, total, |_| {
            let request = request.clone();
            move |_| Ok(request.clone())
        })
        .await
    }

    /// Puts keys for [`Etcd::lists`] until there are `wanted`.
    pub(super) async fn fill(
        &self,
        there: &mut u64,
        wanted: u64,
        size: usize,
    ) -> anyhow::Result<()> {
        let first = *there;
        let more = wanted.saturating_sub(first);
        *there = wanted.max(first);
        if more == 0 {
            return Ok(());
        }
        self.load("/etcdserverpb.KV/Put", more.min(64), more, |index| {
            let value = vec![b'x'; size];
            move |number| {
                let key = format!("/list/{first:x}/{:x}", (index << 32) + number);
                put_request(key.as_bytes(), &value)
            }
        })
        .await
        .map(drop)
    }

    /// Reads all of these keys at once, so many times.
    pub(super) async fn lists(&self, times: usize) -> anyhow::Result<Sample> {
        // The end of a range of a prefix is the prefix with its last byte raised.
        let request = range_request(&[(1, b"/list/"), (2, b"/list0")])?;
        self.load("/etcdserverpb.KV/Range", 1, times as u64, |_| {
            let request = request.clone();
            move |_| Ok(request.clone())
        })
        .await
    }

    /// A watch of one key.
    pub(super) async fn watch(&self, key: &str) -> anyhow::Result<Watch> {
        // `WatchRequest { create_request = 1: WatchCreateRequest { bytes key = 1 } }`
        let create = grpc::message(&[(1, key.as_bytes())])?;
        let connection = Connection::open(self.address, "/etcdserverpb.Watch/Watch").await?;
        let answers = connection.begin(&grpc::message(&[(1, &create)])?).await?;
        Ok(Watch(answers))
    }

    /// A connection for single puts.
    pub(super) async fn putter(&self) -> anyhow::Result<Putter> {
        let connection = Connection::open(self.address, "/etcdserverpb.KV/Put").await?;
        Ok(Putter(connection))
    }

    /// Makes `total` calls, `in_flight` at a time, each over a connection of its own;
    /// `requests` makes the maker of a connection's requests.
    async fn load<M>(
        &self,
        method: &str,
        in_flight: u64,
        total: u64,
        requests: impl Fn(u64) -> M,
    ) -> anyhow::Result<Sample>
    where
        M: Fn(u64) -> anyhow::Result<Vec<u8>> + Send + 'static,
    {
        let tasks = TaskGroup::new();
        let (results, mut finished) = tokio::sync::mpsc::channel(usize::try_from(in_flight)?);
        let mut connections = Vec::new();
        for _ in 0..in_flight {
            connections.push(Connection::open(self.address, method).await?);
        }
        let meter = cpu::Meter::start(&self.processes())?;
        let started = Instant::now();
        for (index, connection) in (0..).zip(connections) {
            let share = total / in_flight + u64::from(index < total % in_flight);
            let (results, request) = (results.clone(), requests(index));
            tasks.spawn_contained("bench-etcd", async move {
                let _ = results
                    .send(call_many(connection, share, request).await)
                    .await;
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

/// Events of one key.
pub(super) struct Watch(Answers);

impl Watch {
    /// Counts events, and first that the watch is there, until the connection ends.
    pub(super) async fn count(mut self, arrivals: &Arrivals) {
        while self.0.next().await.is_ok() {
            arrivals.add(1);
        }
    }
}

/// Puts, one after another.
pub(super) struct Putter(Connection);

impl Putter {
    pub(super) async fn put(&mut self, key: &str, size: usize) -> anyhow::Result<()> {
        let request = put_request(key.as_bytes(), &vec![b'x'; size])?;
        self.0.call(&request).await
    }
}

/// `PutRequest { bytes key = 1; bytes value = 2; }`
fn put_request(key: &[u8], value: &[u8]) -> anyhow::Result<Vec<u8>> {
    grpc::message(&[(1, key), (2, value)])
}

/// `RangeRequest { bytes key = 1; bytes range_end = 2; bool serializable = 7; }`
fn range_request(fields: &[(u8, &[u8])]) -> anyhow::Result<Vec<u8>> {
    let mut request = grpc::message(fields)?;
    request.extend([7 << 3, 1]);
    Ok(request)
}

async fn call_many(
    mut connection: Connection,
    share: u64,
    request: impl Fn(u64) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    for number in 0..share {
        let request = request(number)?;
        let since = Instant::now();
        connection.call(&request).await?;
        latencies.push(since.elapsed());
    }
    Ok(latencies)
}
