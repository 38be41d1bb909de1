//! What clients of the API wait for, beside the same thing asked of etcd: writes, reads, watches, and
//! what becomes of them as the cluster grows.

mod creates;
mod growth;
mod reads;
mod watchers;

use anstream::println;

pub(super) use self::watchers::Arrivals;

use super::Cluster;
use super::etcd::Etcd;
use super::rest::Rest;
use crate::tasks::TaskGroup;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: super::Target,
    /// The parts to measure.
    #[arg(long, value_delimiter = ',', default_values_t = Part::ALL)]
    only: Vec<Part>,
    /// How many creates are in flight; measured one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100], value_parser = clap::value_parser!(u64).range(1..=1024))]
    in_flight: Vec<u64>,
    /// Creates per measurement, per request in flight (at least 2,000 in all).
    #[arg(long, default_value_t = 100)]
    writes: u64,
    /// How many pods a list has; measured one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 50_000], value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pods: Vec<u64>,
    /// Watchers of one object, each with a connection of its own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=5_000))]
    watchers: u64,
    /// Measurements of each side.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=50))]
    pairs: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Durable creates.
    Creates,
    /// One object, many times.
    Get,
    /// Pods, all at once and by pages.
    List,
    /// One write that many watch.
    Watch,
    /// The same with watchers that do not read.
    SlowWatcher,
    /// Creates, status writes and pages as pods become many.
    Growth,
}

impl Part {
    const ALL: [Self; 6] = [
        Self::Creates,
        Self::Get,
        Self::List,
        Self::Watch,
        Self::SlowWatcher,
        Self::Growth,
    ];
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use clap::ValueEnum as _;
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Both sides.
struct Bench {
    cluster: Cluster,
    api: Rest,
    etcd: Option<Etcd>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let cluster = args.target.open()?;
    let tasks = TaskGroup::new();
    let mut bench = Bench {
        api: Rest::api(&cluster, &tasks).await?,
        etcd: Etcd::start(&args.target.dir).await?,
        cluster,
    };
    if bench.etcd.is_none() {
        println!("etcd is not installed: measured alone");
    }
    for part in &args.only {
        match part {
            Part::Creates => creates::run(&mut bench, &args).await?,
            Part::Get => reads::get(&mut bench, &args).await?,
            Part::List => reads::list(&mut bench, &args).await?,
            Part::Watch => watchers::fan_out(&mut bench, &args).await?,
            Part::SlowWatcher => watchers::slow(&mut bench, &args).await?,
            Part::Growth => growth::run(&mut bench, &args).await?,
        }
    }
    Ok(())
}
