//! Requests per second and latency of one URL, beside another.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use anstream::println;
use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Full;

use super::load::{MakeRequest, Until, closed_loop};
use super::stats;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// The URL to measure, plain http.
    url: Uri,
    /// The URL to compare it with; measured turn by turn.
    #[arg(long)]
    peer: Option<Uri>,
    /// Keep-alive connections.
    #[arg(short, long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1024))]
    connections: u64,
    /// Seconds per measurement.
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Measurements of each side.
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=50))]
    pairs: u64,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let peer = args.peer.as_ref().map(target).transpose()?;
    let subject = target(&args.url)?;
    for _ in 0..args.pairs {
        ours.push(measure(&subject, &args).await?);
        if let Some(peer) = &peer {
            theirs.push(measure(peer, &args).await?);
        }
    }
    println!(
        "GET over {} connections, {} × {} s each, turn by turn",
        args.connections, args.pairs, args.seconds
    );
    stats::print_side(&args.url.to_string(), &ours);
    if let Some(peer) = &args.peer {
        stats::print_side(&peer.to_string(), &theirs);
        stats::print_ratio("ratio", &ours, &theirs);
    }
    Ok(())
}

struct Server {
    address: SocketAddr,
    make: MakeRequest,
}

fn target(url: &Uri) -> anyhow::Result<Server> {
    anyhow::ensure!(
        url.scheme_str() == Some("http"),
        "{url}: only plain http URLs are measured"
    );
    let host = url
        .host()
        .with_context(|| format!("{url} names no host"))?
        .to_owned();
    let port = url.port_u16().unwrap_or(80);
    // Names under localhost are this machine by definition (RFC 6761), whatever the resolver says.
    let name = if host.ends_with(".localhost") {
        "127.0.0.1"
    } else {
        &host
    };
    let address = (name, port)
        .to_socket_addrs()?
        .next()
        .with_context(|| format!("{host} has no address"))?;
    anyhow::ensure!(
        address.ip().is_loopback(),
        "{url} is not on this machine; the load generator talks to loopback only"
    );
    let path = url
        .path_and_query()
        .map_or_else(|| "/".to_owned(), ToString::to_string);
    let authority = format!("{host}:{port}");
    let make: MakeRequest = Arc::new(move |_| {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = path.parse().unwrap_or_default();
        if let Ok(value) = authority.parse() {
            request.headers_mut().insert(header::HOST, value);
        }
        request
    });
    Ok(Server { address, make })
}

async fn measure(server: &Server, args: &Args) -> anyhow::Result<super::Sample> {
    closed_loop(
        server.address,
        args.connections,
        Until::Elapsed(Duration::from_secs(args.seconds)),
        Arc::clone(&server.make),
    )
    .await
}
