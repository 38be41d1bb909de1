//! What processes cost: CPU time and memory, as the kernel counts them.
//!
//! CPU time for each operation is the figure that a shared machine disturbs least: it does not care
//! how much of the machine the load generator or a neighbour takes.

use std::time::Duration;

use anyhow::Context as _;

/// The unit of `/proc/…/stat`, which Linux keeps at a hundredth of a second whatever its own clock.
const TICKS_PER_SECOND: u64 = 100;

/// Counts what some processes spend from now on.
pub(super) struct Meter {
    processes: Vec<u32>,
    before: Duration,
}

impl Meter {
    pub(super) fn start(processes: &[u32]) -> anyhow::Result<Self> {
        Ok(Self {
            processes: processes.to_vec(),
            before: total(processes)?,
        })
    }

    /// `None` if nobody said whom to count.
    pub(super) fn spent(&self) -> anyhow::Result<Option<Duration>> {
        if self.processes.is_empty() {
            return Ok(None);
        }
        Ok(Some(total(&self.processes)?.saturating_sub(self.before)))
    }
}

/// CPU time that the processes have spent so far, ended threads included.
fn total(processes: &[u32]) -> anyhow::Result<Duration> {
    let mut ticks = 0;
    for process in processes {
        let text = read(*process, "stat")?;
        ticks += ticks_of(&text).with_context(|| format!("read the stat of process {process}"))?;
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// User and system time of a line of `/proc/…/stat`; the name before them may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The proportional share of memory, in KiB: shared pages are split among who shares them.
pub(super) fn memory_kib(process: u32) -> anyhow::Result<u64> {
    let text = read(process, "smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("read the memory of process {process}"))
}

fn read(process: u32, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{process}/{file}");
    std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let line = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0";
        assert_eq!(ticks_of(line), Some(42));
        assert_eq!(ticks_of("7 (short) S 1"), None);
    }
}
