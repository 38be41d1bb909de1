//! One write that many watch: how long until the last watcher has it, and whether watchers that do not
//! read cost the others anything.
//!
//! Every watcher has a connection of its own, on both sides. An event is counted where its bytes have
//! arrived; nothing is decoded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anstream::println;
use anyhow::Context as _;
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{Args, Bench};
use crate::cli::bench::etcd::Etcd;
use crate::cli::bench::{Cluster, Sample, cpu, stats};
use crate::tasks::TaskGroup;

const OBJECT: &str = "/api/v1/namespaces/default/configmaps/bench-watch";
const PATH: &str = "/api/v1/namespaces/default/configmaps";
const EVENTS: u64 = 50;
const SMALL: usize = 1 << 10;
/// So large that a watcher that does not read has its socket full after a few.
const LARGE: usize = 32 << 10;
const SLOW: u64 = 10;
const OTHERS: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(30);

/// Events that have arrived, at all watchers.
#[derive(Default)]
pub(in crate::cli::bench) struct Arrivals {
    count: AtomicU64,
    wanted: AtomicU64,
    all_there: Notify,
}

impl Arrivals {
    pub(in crate::cli::bench) fn add(&self, events: u64) {
        let before = self.count.fetch_add(events, Ordering::AcqRel);
        let wanted = self.wanted.load(Ordering::Acquire);
        if before < wanted && before + events >= wanted {
            self.all_there.notify_one();
        }
    }

    async fn wait(&self) -> anyhow::Result<()> {
        tokio::time::timeout(PATIENCE, self.all_there.notified())
            .await
            .context("an event did not reach every watcher within 30 s")
    }

    fn expect(&self, more: u64) {
        let so_far = self.count.load(Ordering::Acquire);
        self.wanted.store(so_far + more, Ordering::Release);
    }
}

pub(super) async fn fan_out(bench: &mut Bench, args: &Args) -> anyhow::Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut memory = Vec::new();
    for _ in 0..args.pairs {
        let (sample, each) = ours_watch(bench, args.watchers, 0, SMALL).await?;
        ours.push(sample);
        memory.push(each);
        if let Some(etcd) = &bench.etcd {
            let (sample, each) = etcd_watch(etcd, args.watchers, 0, SMALL).await?;
            theirs.push(sample);
            memory.push(each);
        }
    }
    println!(
        "one write of {SMALL} B to {} watchers until the last one has it, {} × {EVENTS}; CPU per write",
        args.watchers, args.pairs
    );
    stats::print_side("wasmorch", &ours);
    if bench.etcd.is_some() {
        stats::print_side("etcd", &theirs);
        stats::print_latency_ratio("p50, ours to theirs", &ours, &theirs);
        stats::print_tail_ratio("p99, ours to theirs", &ours, &theirs);
    }
    if let [first, rest @ ..] = memory.as_slice() {
        println!("  memory per watcher, first measurement: wasmorch {first:.1} KiB");
        if let (Some(_), [etcd, ..]) = (&bench.etcd, rest) {
            println!("  memory per watcher, first measurement: etcd {etcd:.1} KiB");
        }
    }
    Ok(())
}

pub(super) async fn slow(bench: &mut Bench, args: &Args) -> anyhow::Result<()> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let (mut etcd_alone, mut etcd_beside) = (Vec::new(), Vec::new());
    for _ in 0..args.pairs {
        alone.push(ours_watch(bench, OTHERS, 0, LARGE).await?.0);
        beside.push(ours_watch(bench, OTHERS, SLOW, LARGE).await?.0);
        if let Some(etcd) = &bench.etcd {
            etcd_alone.push(etcd_watch(etcd, OTHERS, 0, LARGE).await?.0);
            etcd_beside.push(etcd_watch(etcd, OTHERS, SLOW, LARGE).await?.0);
        }
    }
    println!(
        "one write of {} KiB to {OTHERS} watchers, alone and beside {SLOW} that do not read, {} × {EVENTS}",
        LARGE >> 10,
        args.pairs
    );
    stats::print_side("wasmorch, alone", &alone);
    stats::print_side("wasmorch, beside slow ones", &beside);
    stats::print_tail_ratio("p99, beside to alone", &beside, &alone);
    if bench.etcd.is_some() {
        stats::print_side("etcd, alone", &etcd_alone);
        stats::print_side("etcd, beside slow ones", &etcd_beside);
        stats::print_tail_ratio("p99, beside to alone", &etcd_beside, &etcd_alone);
    }
    Ok(())
}

/// The measurement, and the server's memory for each watcher in KiB.
async fn ours_watch(
    bench: &mut Bench,
    watchers: u64,
    stalled: u64,
    size: usize,
) -> anyhow::Result<(Sample, f64)> {
    let tasks = TaskGroup::new();
    bench.api.forget(OBJECT).await?;
    let mut object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bench-watch"}, "data": {},
    });
    bench.api.json(Method::POST, PATH, &object).await?;
    let server = bench.cluster.processes(|name| name == "server");
    let before = memory(&server)?;
    let arrivals = Arc::new(Arrivals::default());
    // Every watch begins with the object as it is.
    arrivals.expect(watchers);
    for _ in 0..watchers {
        let stream = watch(&bench.cluster).await?;
        let (arrivals, cancelled) = (Arc::clone(&arrivals), tasks.cancelled());
        tasks.spawn_contained("bench-watch", async move {
            cancelled.run_until_cancelled(read(stream, &arrivals)).await;
        });
    }
    let mut unread = Vec::new();
    for _ in 0..stalled {
        unread.push(watch(&bench.cluster).await?);
    }
    arrivals.wait().await?;
    let each = (memory(&server)? - before) / watchers as f64;
    let meter = cpu::Meter::start(&server)?;
    let mut latencies = Vec::new();
    let started = Instant::now();
    for number in 0..EVENTS {
        object["data"] = json!({"number": number.to_string(), "filler": "x".repeat(size)});
        arrivals.expect(watchers);
        let since = Instant::now();
        bench.api.json(Method::PUT, OBJECT, &object).await?;
        arrivals.wait().await?;
        latencies.push(since.elapsed());
    }
    let elapsed = started.elapsed();
    let sample = Sample::new(latencies, elapsed, 0).with_cpu(&meter, elapsed)?;
    tasks.shutdown(Duration::from_secs(5)).await;
    bench.api.forget(OBJECT).await?;
    Ok((sample, each))
}

async fn etcd_watch(
    etcd: &Etcd,
    watchers: u64,
    stalled: u64,
    size: usize,
) -> anyhow::Result<(Sample, f64)> {
    let tasks = TaskGroup::new();
    let before = memory(&etcd.processes())?;
    let arrivals = Arc::new(Arrivals::default());
    // Every watch begins with the word that it is there.
    arrivals.expect(watchers);
    let key = etcd.fresh_key();
    for _ in 0..watchers {
        let watch = etcd.watch(&key).await?;
        let arrivals = Arc::clone(&arrivals);
        let cancelled = tasks.cancelled();
        tasks.spawn_contained("bench-watch", async move {
            let _ = cancelled.run_until_cancelled(watch.count(&arrivals)).await;
        });
    }
    let mut unread = Vec::new();
    for _ in 0..stalled {
        unread.push(etcd.watch(&key).await?);
    }
    arrivals.wait().await?;
    let each = (memory(&etcd.processes())? - before) / watchers as f64;
    let meter = cpu::Meter::start(&etcd.processes())?;
    let mut putter = etcd.putter().await?;
    let mut latencies = Vec::new();
    let started = Instant::now();
    for _ in 0..EVENTS {
        arrivals.expect(watchers);
        let since = Instant::now();
        putter.put(&key, size).await?;
        arrivals.wait().await?;
        latencies.push(since.elapsed());
    }
    let elapsed = started.elapsed();
    let sample = Sample::new(latencies, elapsed, 0).with_cpu(&meter, elapsed)?;
    tasks.shutdown(Duration::from_secs(5)).await;
    Ok((sample, each))
}

fn memory(processes: &[u32]) -> anyhow::Result<f64> {
    let mut kib = 0;
    for process in processes {
        kib += cpu::memory_kib(*process)?;
    }
    Ok(kib as f64)
}

/// A watch of the object that nobody has read from yet.
async fn watch(cluster: &Cluster) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(cluster.api).await?;
    let request = format!(
        "GET {PATH}?watch=1&fieldSelector=metadata.name%3Dbench-watch HTTP/1.1\r\nhost: {}\r\n\
         authorization: Bearer {}\r\n\r\n",
        cluster.api, cluster.token
    );
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Counts the events of a watch: each is a line of JSON, which has no line break inside.
async fn read(mut stream: TcpStream, arrivals: &Arrivals) {
    let mut buffer = vec![0; LARGE];
    let mut head = true;
    loop {
        let Ok(length @ 1..) = stream.read(&mut buffer).await else {
            return;
        };
        let mut bytes = &buffer[..length];
        if head {
            let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
                return;
            };
            bytes = &bytes[end + 4..];
            head = false;
        }
        arrivals.add(events(bytes));
    }
}

/// The ends of JSON lines. A chunk of HTTP ends its lines otherwise.
fn events(bytes: &[u8]) -> u64 {
    let is_end = |pair: &&[u8]| *pair == b"}\n";
    bytes.windows(2).filter(is_end).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_from_the_lines_around_them() {
        assert_eq!(events(b"1a\r\n{\"type\":\"ADDED\"}\n\r\n1b\r\n{}\n\r\n"), 2);
        assert_eq!(events(b"\r\n"), 0);
    }

    #[tokio::test]
    async fn arrivals_are_awaited_by_number() -> anyhow::Result<()> {
        let arrivals = Arrivals::default();
        arrivals.expect(3);
        arrivals.add(2);
        arrivals.add(1);
        arrivals.wait().await?;
        arrivals.expect(1);
        arrivals.add(1);
        arrivals.wait().await?;
        assert_eq!(arrivals.count.load(Ordering::Acquire), 4);
        Ok(())
    }
}
