//! The measured program's own source, compiled into this one: the native side does the very same
//! work, and what the guest prints is read back with the same words.

#[path = "../../../../guest-examples/meter/src/files.rs"]
pub(super) mod files;
#[path = "../../../../guest-examples/meter/src/net.rs"]
pub(super) mod net;
#[path = "../../../../guest-examples/meter/src/timing.rs"]
pub(super) mod timing;

use anyhow::Context as _;

use super::figure::{Better, What};
use timing::Timing;

/// What the guest has printed.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Timing>> {
    text.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let mut next = || {
                words
                    .next()
                    .with_context(|| format!("read {line:?} of the guest"))
            };
            Ok(Timing {
                name: next()?.to_owned(),
                count: next()?.parse()?,
                nanos: next()?.parse()?,
            })
        })
        .collect()
}

/// The figure that a step makes.
pub(super) fn figure(timing: &Timing) -> (What<'_>, f64) {
    let (count, seconds) = (timing.count as f64, timing.nanos as f64 / 1e9);
    let name = match timing.name.as_str() {
        "bulk" => "bulk in 64 KiB writes",
        "messages" => "messages of 64 B, one way",
        "round-trips" => "64 B to and fro",
        name => name,
    };
    let what = |unit, better| What { name, unit, better };
    match timing.name.as_str() {
        "messages" => (what("thousands/s", Better::More), count / seconds / 1e3),
        "bulk" | "write-64k" | "read-64k" | "write-4k" | "read-4k" => (
            what("MiB/s", Better::More),
            count / seconds / f64::from(1 << 20),
        ),
        _ => (what("µs each", Better::Less), seconds * 1e6 / count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_lines_become_figures() {
        let timings =
            read("create 1000 2000000\nwrite-64k 1048576 500000000\nround-trips 10 50000\n")
                .unwrap();
        let figures: Vec<(&str, f64)> = timings
            .iter()
            .map(figure)
            .map(|(what, value)| (what.unit, value))
            .collect();
        assert_eq!(
            figures,
            [("µs each", 2.0), ("MiB/s", 2.0), ("µs each", 5.0)]
        );
        assert!(read("oops").is_err());
    }
}
