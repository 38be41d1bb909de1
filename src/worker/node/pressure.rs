//! Whether the machine runs out of memory or disk, told as the kubelet tells it.
//!
//! A signal below its threshold makes a condition true at once; the condition stays for
//! [`TRANSITION`] after the signal was below it last, so that a node does not flap between taking pods
//! and taking none. The node lifecycle controller makes a taint of the condition. Pods that run are
//! **not** evicted: guests have hard limits of their own, and what they write to `emptyDir` is in memory.
//! A signal that cannot be read is no pressure, as with the kubelet. Absent: soft thresholds, PIDs
//! (guests have none), and cgroups of version 1.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::quantity;

/// The kubelet's `evictionPressureTransitionPeriod`.
const TRANSITION: Duration = Duration::from_mins(5);
/// The kubelet's own thresholds.
pub const DEFAULTS: &str =
    "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%";

/// What there must be left; nothing is watched without thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(Vec<(Signal, Least)>);

/// What is watched. Modules and compiled code are the images' filesystem, all else is the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Least {
    Amount(u64),
    /// Of what there is in all.
    Percent(f64),
}

/// A list of thresholds that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a threshold ({DEFAULTS}; empty for none)")]
pub struct ParseError(String);

impl Default for Thresholds {
    fn default() -> Self {
        DEFAULTS.parse().expect("the kubelet's own thresholds")
    }
}

impl FromStr for Thresholds {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        let all = parts.map(|part| {
            let (signal, least) = part.split_once('<').unwrap_or((part, ""));
            let threshold = Signal::parse(signal).zip(Least::parse(least));
            threshold.ok_or_else(|| ParseError(part.to_owned()))
        });
        Ok(Self(all.collect::<Result<_, _>>()?))
    }
}

impl Signal {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "memory.available" => Some(Self::MemoryAvailable),
            "nodefs.available" => Some(Self::NodefsAvailable),
            "nodefs.inodesFree" => Some(Self::NodefsInodesFree),
            "imagefs.available" => Some(Self::ImagefsAvailable),
            "imagefs.inodesFree" => Some(Self::ImagefsInodesFree),
            _ => None,
        }
    }
}

impl Least {
    fn parse(text: &str) -> Option<Self> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().ok()?;
            return (0.0..=100.0)
                .contains(&percent)
                .then_some(Self::Percent(percent));
        }
        let amount = quantity::units(&Quantity(text.to_owned())).ok()?;
        u64::try_from(amount).ok().map(Self::Amount)
    }
}

/// What is left of something, and what there is in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub left: u64,
    pub of: u64,
}

/// A look at the machine; what could not be read is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    memory: Option<Left>,
    node_disk: Option<Disk>,
    image_disk: Option<Disk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disk {
    bytes: Left,
    inodes: Left,
}

/// What the machine runs out of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    pub memory: bool,
    pub disk: bool,
}

impl Thresholds {
    fn crossed(&self, seen: &Seen) -> Pressures {
        let mut crossed = Pressures::default();
        for (signal, least) in &self.0 {
            let is_low = seen.of(*signal).is_some_and(|left| least.is_over(left));
            match signal {
                Signal::MemoryAvailable => crossed.memory |= is_low,
                Signal::NodefsAvailable
                | Signal::NodefsInodesFree
                | Signal::ImagefsAvailable
                | Signal::ImagefsInodesFree => crossed.disk |= is_low,
            }
        }
        crossed
    }
}

impl Seen {
    fn of(&self, signal: Signal) -> Option<Left> {
        match signal {
            Signal::MemoryAvailable => self.memory,
            Signal::NodefsAvailable => self.node_disk.map(|disk| disk.bytes),
            Signal::NodefsInodesFree => self.node_disk.map(|disk| disk.inodes),
            Signal::ImagefsAvailable => self.image_disk.map(|disk| disk.bytes),
            Signal::ImagefsInodesFree => self.image_disk.map(|disk| disk.inodes),
        }
    }
}

impl Least {
    fn is_over(self, Left { left, of }: Left) -> bool {
        // There are filesystems without a number of inodes.
        if of == 0 {
            return false;
        }
        match self {
            Self::Amount(amount) => left < amount,
            Self::Percent(percent) => (left as f64) * 100.0 < (of as f64) * percent,
        }
    }
}

/// What was told so far; see [`TRANSITION`].
#[derive(Debug, Default)]
pub(super) struct Told {
    memory: Option<Instant>,
    disk: Option<Instant>,
}

impl Told {
    /// What is to be told now.
    pub(super) fn step(&mut self, thresholds: &Thresholds, seen: &Seen, now: Instant) -> Pressures {
        let crossed = thresholds.crossed(seen);
        let is_pressed = |last: &mut Option<Instant>, is_crossed: bool| {
            if is_crossed {
                *last = Some(now);
            }
            last.is_some_and(|last| now.saturating_duration_since(last) < TRANSITION)
        };
        Pressures {
            memory: is_pressed(&mut self.memory, crossed.memory),
            disk: is_pressed(&mut self.disk, crossed.disk),
        }
    }
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// Logs, checkpoints, volumes.
    pub node: PathBuf,
    /// Modules and compiled code.
    pub images: PathBuf,
}

/// Looks at the machine. It reads files and may wait for a disk.
pub(super) fn look(places: &Places) -> Seen {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| machine_memory(&text));
    let group = read("/proc/self/cgroup").and_then(|text| {
        let directory = format!("/sys/fs/cgroup{}", own_group(&text)?);
        let file = |name: &str| read(&format!("{directory}/{name}"));
        group_memory(
            &file("memory.max")?,
            &file("memory.current")?,
            &file("memory.stat")?,
        )
    });
    let memory = [machine, group].into_iter().flatten();
    Seen {
        memory: memory.min_by_key(|memory| memory.left),
        node_disk: disk(&places.node),
        image_disk: disk(&places.images),
    }
}

/// What is left of the disk that `path` is on; it may wait for it.
pub fn bytes_left(path: &Path) -> Option<Left> {
    disk(path).map(|disk| disk.bytes)
}

fn disk(path: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(Disk {
        bytes: Left {
            left: found.f_bavail.saturating_mul(found.f_frsize),
            of: found.f_blocks.saturating_mul(found.f_frsize),
        },
        inodes: Left {
            left: found.f_favail,
            of: found.f_files,
        },
    })
}

fn machine_memory(meminfo: &str) -> Option<Left> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(Left {
        left: field("MemAvailable:")?,
        of: field("MemTotal:")?,
    })
}

fn own_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// What is left below a group's limit. Files that nobody has used for a while make room at once.
fn group_memory(max: &str, current: &str, stat: &str) -> Option<Left> {
    // Without a limit it says `max`, and the machine's memory is the bound.
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let mut lines = stat.lines();
    let inactive = lines.find_map(|line| line.strip_prefix("inactive_file "));
    let inactive: u64 = inactive.and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(Left {
        left: max.saturating_sub(current.saturating_sub(inactive)),
        of: max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn seen(memory: u64, node_disk: u64, inodes: u64, image_disk: u64) -> Seen {
        let left = |left, of| Left { left, of };
        Seen {
            memory: Some(left(memory, 8 * GIB)),
            node_disk: Some(Disk {
                bytes: left(node_disk, 100 * GIB),
                inodes: left(inodes, 1000),
            }),
            image_disk: Some(Disk {
                bytes: left(image_disk, 100 * GIB),
                inodes: left(0, 0),
            }),
        }
    }

    #[test]
    fn thresholds_are_the_kubelets() {
        let none = Pressures::default();
        let memory = Pressures {
            memory: true,
            ..none
        };
        let disk = Pressures { disk: true, ..none };
        let usual = Thresholds::default();
        let cases = [
            (seen(GIB, 10 * GIB, 50, 15 * GIB), none),
            (seen(100 << 20, 10 * GIB, 50, 15 * GIB), none),
            (seen((100 << 20) - 1, 10 * GIB, 50, 15 * GIB), memory),
            (seen(GIB, 10 * GIB - 1, 50, 15 * GIB), disk),
            (seen(GIB, 10 * GIB, 49, 15 * GIB), disk),
            (seen(GIB, 10 * GIB, 50, 15 * GIB - 1), disk),
            (Seen::default(), none),
        ];
        for (seen, expected) in cases {
            assert_eq!(usual.crossed(&seen), expected, "{seen:?}");
        }
        let own: Thresholds = "nodefs.available<20Gi".parse().unwrap();
        assert_eq!(own.crossed(&seen(0, 19 * GIB, 0, 0)), disk);
        assert_eq!(own.crossed(&seen(0, 20 * GIB, 0, 0)), none);
        let nothing: Thresholds = "".parse().unwrap();
        assert_eq!(nothing.crossed(&seen(0, 0, 0, 0)), none);
        for bad in [
            "nodefs.available",
            "pid.available<1",
            "memory.available<-1",
            "a<1%",
            "nodefs.available<101%",
        ] {
            assert!(bad.parse::<Thresholds>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pressure_is_told_at_once_and_taken_back_after_a_while() {
        let thresholds = Thresholds::default();
        let (good, bad) = (seen(GIB, 50 * GIB, 500, 50 * GIB), seen(GIB, GIB, 500, GIB));
        let start = Instant::now();
        let mut told = Told::default();
        let cases = [
            (0, &good, false),
            (10, &bad, true),
            (20, &good, true),
            (300, &bad, true),
            (599, &good, true),
            (600, &good, false),
            (610, &bad, true),
        ];
        for (second, seen, expected) in cases {
            let now = start + Duration::from_secs(second);
            let pressures = told.step(&thresholds, seen, now);
            assert_eq!(
                (pressures.disk, pressures.memory),
                (expected, false),
                "{second}"
            );
        }
    }

    #[test]
    fn memory_is_read_from_the_machine_and_its_group() {
        let meminfo = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    300 kB\n";
        let left = |left, of| Some(Left { left, of });
        assert_eq!(machine_memory(meminfo), left(300 << 10, 1000 << 10));
        assert_eq!(own_group("4:memory:/x\n0::/pod/a\n"), Some("/pod/a"));
        let stat = "anon 5\ninactive_file 200\n";
        assert_eq!(group_memory("1000\n", "700\n", stat), left(500, 1000));
        assert_eq!(group_memory("max\n", "700\n", stat), None);
        let here = Places {
            node: "/".into(),
            images: "/does/not/exist".into(),
        };
        let looked = look(&here);
        assert!(looked.node_disk.is_some() && looked.image_disk.is_none());
    }
}
