//! Connections passed through as they are: TCP services on node ports and load-balancer addresses.
//!
//! Endpoints are taken in turn, or by client where the service wants that; one that cannot be
//! reached is followed by the next. The two directions end on their own, as the programs at both
//! ends may expect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::dial;
use super::http::Site;
use super::lane::Lane;
use super::table::{Endpoint, Service};
use super::tunnel::Source;
use super::upstream::InFlight;
use crate::errors::chain;

const MOST_ENDPOINTS: usize = 4;
const BUFFER: usize = 16 << 10;

/// Serves one client of a TCP service.
pub(super) async fn serve(lane: &Arc<Lane>, site: Site, client: TcpStream, from: SocketAddr) {
    let (service, endpoints) = candidates(lane, site, from);
    let Some(service) = service else {
        return;
    };
    let _under_way = service.traffic.began();
    service.traffic.connected();
    match reach(lane, &endpoints, from).await {
        Ok((pod, _in_flight)) => copy(client, pod, lane.front.limits.idle_timeout).await,
        Err(error) => {
            let (namespace, name) = (&service.namespace, &service.name);
            tracing::debug!(namespace, name, error = %error, "pass a connection through");
        }
    }
}

/// The service of a listener and the endpoints to try, in order.
fn candidates(lane: &Lane, site: Site, from: SocketAddr) -> (Option<Arc<Service>>, Vec<Endpoint>) {
    let Some(listener) = site.listener(&lane.front.table()) else {
        return (None, Vec::new());
    };
    let mut endpoints = Vec::new();
    if let Some(port) = listener.service.tcp_port(&listener.port)
        && let Some(first) = port.pick(from.ip())
    {
        let start = port.ready.iter().position(|it| it == first).unwrap_or(0);
        let (before, after) = port.ready.split_at(start);
        let all = after.iter().chain(before).take(MOST_ENDPOINTS);
        endpoints = all.cloned().collect();
    }
    (Some(listener.service), endpoints)
}

async fn reach(
    lane: &Lane,
    endpoints: &[Endpoint],
    client: SocketAddr,
) -> Result<(dial::Stream, InFlight), String> {
    let mut failure = "no ready pod".to_owned();
    for endpoint in endpoints {
        let in_flight = InFlight::enter(lane.upstreams.get(endpoint.addr));
        match lane.open(endpoint, Source::Peer(client)).await {
            Ok(stream) => return Ok((stream, in_flight)),
            Err(error) => failure = chain(&error).to_string(),
        }
    }
    Err(failure)
}

/// Copies both ways until both have ended, one breaks, or neither has said anything for
/// `patience`.
pub(super) async fn copy<A, B>(one: A, other: B, patience: Duration)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut one_in, mut one_out) = tokio::io::split(one);
    let (mut other_in, mut other_out) = tokio::io::split(other);
    let said = std::sync::Mutex::new(Instant::now());
    let there = copy_one_way(&mut one_in, &mut other_out, &said);
    let back = copy_one_way(&mut other_in, &mut one_out, &said);
    let both = async { tokio::try_join!(there, back) };
    let silence = async {
        loop {
            let last = *said
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let deadline = last + patience;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    };
    tokio::select! {
        _ = both => {}
        () = silence => {}
    }
}

async fn copy_one_way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    said: &std::sync::Mutex<Instant>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        *said
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}
