//! Requests per second and latency of one URL, beside another.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use anstream::println;
use anyhow::Context as _;
use http::Uri;

use super::raw::{Target, Until};
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
    /// Processes that answer: their CPU time for each request is shown.
    #[arg(long = "pid", value_delimiter = ',')]
    processes: Vec<u32>,
    /// The same for the peer.
    #[arg(long = "peer-pid", value_delimiter = ',')]
    peer_processes: Vec<u32>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut peer = args.peer.as_ref().map(target).transpose()?;
    let mut subject = target(&args.url)?;
    subject.processes.clone_from(&args.processes);
    if let Some(peer) = &mut peer {
        peer.processes.clone_from(&args.peer_processes);
    }
    let until = Until::Elapsed(Duration::from_secs(args.seconds));
    for _ in 0..args.pairs {
        ours.push(subject.load(args.connections, until).await?);
        if let Some(peer) = &peer {
            theirs.push(peer.load(args.connections, until).await?);
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

fn target(url: &Uri) -> anyhow::Result<Target> {
    anyhow::ensure!(
        url.scheme_str() == Some("http"),
        "{url}: only plain http URLs are measured"
    );
    let host = url.host().with_context(|| format!("{url} names no host"))?;
    let port = url.port_u16().unwrap_or(80);
    // Names under localhost are this machine by definition (RFC 6761), whatever the resolver says.
    let name = if host.ends_with(".localhost") {
        "127.0.0.1"
    } else {
        host
    };
    let address = (name, port)
        .to_socket_addrs()?
        .next()
        .with_context(|| format!("{host} has no address"))?;
    anyhow::ensure!(
        address.ip().is_loopback(),
        "{url} is not on this machine; the load generator talks to loopback only"
    );
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    Ok(Target::get(address, &format!("{host}:{port}"), path))
}
