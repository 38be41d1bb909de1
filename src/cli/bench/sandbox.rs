//! `wasmorch bench sandbox`: what our host costs, on one machine in one run beside its peers.
//!
//! | what | ours | peer |
//! |---|---|---|
//! | a request, a first response, a cold start | a pod of our runtime | wasmtime with wasmtime-wasi-http and nothing else |
//! | a connection inside a pod | two guests on the virtual network | the same guests on the kernel's loopback; the same source, native |
//! | files | a guest on the virtual filesystem | the same guest by wasmtime-wasi on tmpfs; the same source, native |
//! | idle pods | a process with a runtime of ours | a process with bare instances |
//!
//! Everything runs in this process, without a cluster, except the idle pods: memory is that of a
//! whole process, so each count of them has one. All sides run the same wasm bytes.

mod bare;
mod figure;
mod idle;
mod machine;
mod meter;
mod pods;
mod programs;
mod requests;

use std::time::Instant;

use anstream::println;
use serde_json::json;

use self::figure::Section;
use crate::cli::output::Output;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// Rounds; every side is measured once in each.
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pairs: u32,
    /// How much to do: percent of the usual counts.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    size: u64,
    /// The sections to measure.
    #[arg(long, value_delimiter = ',', default_values_t = Part::ALL)]
    only: Vec<Part>,
    /// Idle handler pods, one process for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000])]
    idle_handlers: Vec<u32>,
    /// Idle command pods, each of which is an instance that sleeps; 8,000 are about the most.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 7_000])]
    idle_commands: Vec<u32>,
    /// Seconds to watch each process of idle pods.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3600))]
    idle_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Requests,
    Starts,
    Network,
    Files,
    Idle,
}

impl Part {
    const ALL: [Self; 5] = [
        Self::Requests,
        Self::Starts,
        Self::Network,
        Self::Files,
        Self::Idle,
    ];
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests",
            Self::Starts => "starts",
            Self::Network => "network",
            Self::Files => "files",
            Self::Idle => "idle",
        })
    }
}

/// The child process that holds idle pods.
pub(super) use self::idle::{ChildArgs, child};

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let is_json = match output {
        Output::Json => true,
        Output::Table | Output::Wide => false,
        Output::Yaml | Output::Name | Output::JsonPath(_) => {
            anyhow::bail!("the figures are told as a table or with -o json")
        }
    };
    let machine = machine::Machine::look()?;
    if !is_json {
        println!("{machine}");
    }
    let since = Instant::now();
    let mut sections = Vec::new();
    for part in Part::ALL {
        if !args.only.contains(&part) {
            continue;
        }
        let section = match part {
            Part::Requests => requests::requests(args.pairs, args.size).await?,
            Part::Starts => requests::starts(args.pairs, args.size).await?,
            Part::Network => programs::network(args.pairs, args.size).await?,
            Part::Files => programs::files(args.pairs, args.size).await?,
            Part::Idle => {
                idle::section(&args.idle_handlers, &args.idle_commands, args.idle_seconds).await?
            }
        };
        if !is_json {
            println!("{section}");
        }
        sections.push(section);
    }
    let seconds = since.elapsed().as_secs();
    if is_json {
        let sections: Vec<_> = sections.iter().map(Section::json).collect();
        let all = json!({
            "machine": machine.json(), "pairs": args.pairs, "size": args.size,
            "seconds": seconds, "sections": sections,
        });
        println!("{all:#}");
    } else {
        println!(
            "Medians of {} rounds, turn by turn, {seconds} s in all. The ratio is ours to the peer's, the median over\n\
             the rounds, in parentheses its worse quartile; where less is better, less than 1 is ours.",
            args.pairs
        );
    }
    Ok(())
}
