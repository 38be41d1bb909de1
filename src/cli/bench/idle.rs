//! What the cluster costs while nothing is asked of it.

use std::time::Duration;

use anstream::println;

use super::{Target, cpu};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// How long to watch.
    #[arg(short, long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let cluster = args.target.open()?;
    let mut meters = Vec::new();
    for (name, process) in &cluster.processes {
        meters.push((name, *process, cpu::Meter::start(&[*process])?));
    }
    let time = Duration::from_secs(args.seconds);
    tokio::time::sleep(time).await;
    let (mut cpu_sum, mut memory_sum) = (0.0, 0.0);
    for (name, process, meter) in meters {
        let spent = meter.spent()?.unwrap_or_default();
        let share = spent.as_secs_f64() / time.as_secs_f64() * 100.0;
        let memory = cpu::memory_kib(process)? as f64 / 1024.0;
        println!("  {name:<10} {memory:>8.1} MiB   {share:>6.2} % of a core");
        cpu_sum += share;
        memory_sum += memory;
    }
    println!(
        "  {:<10} {memory_sum:>8.1} MiB   {cpu_sum:>6.2} % of a core, over {} s; memory is the proportional share (PSS)",
        "together", args.seconds
    );
    Ok(())
}
