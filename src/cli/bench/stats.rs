//! Medians, quartiles, percentiles, and how a comparison is printed.

use std::time::Duration;

use anstream::println;

use super::Sample;

/// The value below which `fraction` of the sorted values lie.
pub(super) fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * fraction).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// The same for durations; sorts them.
pub(super) fn percentile(latencies: &mut [Duration], fraction: f64) -> Duration {
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    latencies
        .get((last as f64 * fraction).round() as usize)
        .copied()
        .unwrap_or_default()
}

/// Prints one side's median sample.
pub(super) fn print_side(name: &str, samples: &[Sample]) {
    let sorted = |value: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    };
    let mut cpu: Vec<f64> = samples
        .iter()
        .filter_map(|sample| sample.cpu)
        .map(|cpu| cpu.as_secs_f64() * 1e6)
        .collect();
    cpu.sort_by(f64::total_cmp);
    let cpu = if cpu.is_empty() {
        String::new()
    } else {
        format!("   CPU {:>6.1} µs", quantile(&cpu, 0.5))
    };
    let failed: u64 = samples.iter().map(|sample| sample.failed).sum();
    println!(
        "  {name:<28} {:>10.0}/s   p50 {:>8.3} ms   p99 {:>8.3} ms{cpu}   failed {failed}",
        sorted(|sample| sample.rate),
        sorted(|sample| sample.p50.as_secs_f64() * 1e3),
        sorted(|sample| sample.p99.as_secs_f64() * 1e3),
    );
}

/// Prints how many times the peer's rate ours is: the median of the pairs, and the lower quartile.
pub(super) fn print_ratio(what: &str, ours: &[Sample], peer: &[Sample]) {
    print_quotients(what, ours, peer, |ours, peer| ours.rate / peer.rate);
}

/// Prints how many times the peer's median latency ours is.
pub(super) fn print_latency_ratio(what: &str, ours: &[Sample], peer: &[Sample]) {
    print_quotients(what, ours, peer, |ours, peer| {
        ours.p50.as_secs_f64() / peer.p50.as_secs_f64()
    });
}

/// Prints how many times the peer's p99 ours is.
pub(super) fn print_tail_ratio(what: &str, ours: &[Sample], peer: &[Sample]) {
    print_quotients(what, ours, peer, |ours, peer| {
        ours.p99.as_secs_f64() / peer.p99.as_secs_f64()
    });
}

fn print_quotients(
    what: &str,
    ours: &[Sample],
    peer: &[Sample],
    quotient: fn(&Sample, &Sample) -> f64,
) {
    let mut ratios: Vec<f64> = ours.iter().zip(peer).map(|(a, b)| quotient(a, b)).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "  {what:<28} {:>10.2}×    lower quartile {:.2}× of {} pairs",
        quantile(&ratios, 0.5),
        quantile(&ratios, 0.25),
        ratios.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_pick_values_that_were_measured() {
        assert!((quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.5) - 3.0).abs() < f64::EPSILON);
        assert!(quantile(&[], 0.5).is_nan());
        let mut latencies: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut latencies, 0.99), Duration::from_millis(99));
    }
}
