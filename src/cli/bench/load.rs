//! A closed-loop load generator: N connections, each sending its next request when the last one is
//! answered. Says what a server can bear, not what a user waits at a given rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Sample, stats};
use crate::tasks::TaskGroup;

/// Makes the n-th request of a connection.
pub(super) type MakeRequest = Arc<dyn Fn(u64) -> Request<Full<Bytes>> + Send + Sync>;

/// One keep-alive connection.
pub(super) async fn connect(
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

/// When to stop.
#[derive(Clone, Copy)]
pub(super) enum Until {
    Elapsed(Duration),
    Requests(u64),
}

/// Loads `address` over `connections` connections.
pub(super) async fn closed_loop(
    address: SocketAddr,
    connections: u64,
    until: Until,
    make: MakeRequest,
) -> anyhow::Result<Sample> {
    let tasks = TaskGroup::new();
    let stop = Arc::new(AtomicBool::new(false));
    let (results, mut finished) = tokio::sync::mpsc::channel(usize::try_from(connections)?);
    let mut senders = Vec::new();
    for _ in 0..connections {
        senders.push(connect(address, &tasks).await?);
    }
    let started = Instant::now();
    for (index, sender) in (0..).zip(senders) {
        let (stop, make, results) = (Arc::clone(&stop), Arc::clone(&make), results.clone());
        let share = match until {
            Until::Elapsed(_) => u64::MAX,
            Until::Requests(total) => total / connections + u64::from(index < total % connections),
        };
        tasks.spawn_contained("bench-load", async move {
            let _ = results
                .send(one_connection(sender, index << 32, share, &stop, &make).await)
                .await;
        });
    }
    drop(results);
    if let Until::Elapsed(time) = until {
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
    }
    let (mut latencies, mut failed) = (Vec::new(), 0);
    while let Some((mine, wrong)) = finished.recv().await {
        latencies.extend(mine);
        failed += wrong;
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
        failed,
    })
}

async fn one_connection(
    mut sender: SendRequest<Full<Bytes>>,
    first: u64,
    share: u64,
    stop: &AtomicBool,
    make: &MakeRequest,
) -> (Vec<Duration>, u64) {
    let (mut latencies, mut failed) = (Vec::new(), 0);
    for number in 0..share {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let since = Instant::now();
        match answered(&mut sender, make(first + number)).await {
            Ok(true) => latencies.push(since.elapsed()),
            Ok(false) => failed += 1,
            Err(_) => {
                failed += 1;
                break;
            }
        }
    }
    (latencies, failed)
}

/// Whether the whole answer came and was a success.
pub(super) async fn answered(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<bool> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let good = response.status().is_success();
    response.into_body().collect().await?;
    Ok(good)
}
