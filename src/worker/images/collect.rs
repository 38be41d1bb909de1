//! Modules and compiled code that no pod uses, removed when the disk is nearly full, by the rules of
//! the kubelet's image garbage collection: from the high threshold on, down to the low one, what was
//! unused for longest first, and nothing that this process has known for less than the minimum age.
//!
//! A pull that finds a file just before it goes fails and is tried again. Code in a directory that
//! several workers share may be another's: it stays mapped there, and is compiled again when needed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::{Images, Loaded, Shelf};
use crate::api::image::Digest;
use crate::worker::node::{Left, bytes_left};

/// How often, as the kubelet.
const PERIOD: Duration = Duration::from_mins(5);
/// Digits of a digest.
const HEX: usize = 64;

/// When to remove, and what not; the high threshold 100 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Percent of the disk in use.
    pub high: u8,
    pub low: u8,
    pub minimum_age: Duration,
}

/// All files of one module.
#[derive(Debug, Default)]
struct Stored {
    bytes: u64,
    files: Vec<PathBuf>,
}

/// What this process knows of a module on disk.
#[derive(Clone, Copy, Debug)]
struct Record {
    first_seen: Instant,
    /// Before everything if it never was.
    last_used: Option<Instant>,
}

#[derive(Debug, Default)]
struct Records(HashMap<Digest, Record>);

impl Records {
    /// What to remove now; `stored` is all there is, with its size and whether it is used.
    fn plan(
        &mut self,
        stored: &BTreeMap<Digest, (u64, bool)>,
        disk: Left,
        policy: Policy,
        now: Instant,
    ) -> Vec<Digest> {
        self.0.retain(|digest, _| stored.contains_key(digest));
        for (digest, (_, is_used)) in stored {
            let new = Record {
                first_seen: now,
                last_used: None,
            };
            let record = self.0.entry(digest.clone()).or_insert(new);
            if *is_used {
                record.last_used = Some(now);
            }
        }
        let mut to_free = policy.to_free(disk);
        let mut unused: Vec<(Record, &Digest, u64)> = stored
            .iter()
            .filter(|(_, (_, is_used))| !is_used)
            .filter_map(|(digest, (bytes, _))| Some((*self.0.get(digest)?, digest, *bytes)))
            .filter(|(record, ..)| {
                now.saturating_duration_since(record.first_seen) >= policy.minimum_age
            })
            .collect();
        unused.sort_by_key(|(record, ..)| (record.last_used, record.first_seen));
        let needed = unused.into_iter().take_while(|(_, _, bytes)| {
            let is_needed = to_free > 0;
            to_free = to_free.saturating_sub(*bytes);
            is_needed
        });
        needed.map(|(_, digest, _)| digest.clone()).collect()
    }
}

impl Policy {
    fn to_free(self, Left { left, of }: Left) -> u64 {
        let share = |percent: u8| (u128::from(of) * u128::from(percent) / 100) as u64;
        let used = of.saturating_sub(left);
        if self.high >= 100 || of == 0 || used < share(self.high) {
            return 0;
        }
        used.saturating_sub(share(self.low))
    }
}

impl Images {
    /// Keeps the disk from getting full of what nobody uses; `compiled` is where the code is.
    pub fn collect(&self, policy: Policy, compiled: PathBuf) {
        if policy.high >= 100 {
            return;
        }
        let shelf = Arc::clone(&self.0);
        let stopping = self.0.tasks.cancelled();
        let collecting = async move {
            let mut records = Records::default();
            let mut ticks = tokio::time::interval(PERIOD);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (shelf, compiled) = (Arc::clone(&shelf), compiled.clone());
                let pass = tokio::task::spawn_blocking(move || {
                    shelf.pass(&mut records, policy, &compiled);
                    records
                });
                match pass.await {
                    Ok(known) => records = known,
                    // The process ends.
                    Err(_) => return,
                }
            }
        };
        self.0
            .tasks
            .spawn_contained("image garbage collection", async move {
                let _ = stopping.run_until_cancelled(collecting).await;
            });
    }
}

impl Shelf {
    /// Looks and removes; waits for the disk.
    fn pass(&self, records: &mut Records, policy: Policy, compiled: &Path) {
        let mut found = BTreeMap::<Digest, Stored>::new();
        for directory in [self.directory.as_path(), compiled] {
            if let Err(error) = scan(directory, &mut found) {
                // What was not seen is not known to be unused.
                tracing::warn!(path = %directory.display(), %error, "look for unused modules");
                return;
            }
        }
        let Some(disk) = bytes_left(compiled) else {
            return;
        };
        let with_use = |(digest, stored): (&Digest, &Stored)| {
            (digest.clone(), (stored.bytes, self.is_used(digest)))
        };
        let stored = found.iter().map(with_use).collect();
        for digest in records.plan(&stored, disk, policy, Instant::now()) {
            // A pod may have come for it meanwhile.
            if self.is_used(&digest) {
                continue;
            }
            let Some(stored) = found.remove(&digest) else {
                continue;
            };
            tracing::info!(%digest, bytes = stored.bytes, "remove an unused module, the disk is nearly full");
            for file in stored.files {
                if let Err(error) = std::fs::remove_file(&file)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %file.display(), %error, "remove an unused module");
                }
            }
        }
    }

    fn is_used(&self, digest: &Digest) -> bool {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let is_loading = matches!(loaded.get(digest), Some(Loaded::Loading(_)));
        is_loading || self.runtime.is_in_use(digest)
    }
}

/// Adds the files of modules in a directory; others stay out.
fn scan(directory: &Path, found: &mut BTreeMap<Digest, Stored>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let is_ours = path
            .extension()
            .is_some_and(|it| it == "wasm" || it == "cwasm" || it == "seal");
        let name = entry.file_name();
        let hex = name.to_str().and_then(|name| name.get(..HEX));
        let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        if let Some(digest) = digest.filter(|_| is_ours) {
            let stored = found.entry(digest).or_default();
            stored.bytes += entry.metadata()?.len();
            stored.files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        high: 85,
        low: 80,
        minimum_age: Duration::from_mins(2),
    };

    fn digest(number: u8) -> Digest {
        Digest::of(&[number])
    }

    /// Modules of 10 bytes on a disk of 1000; who is used.
    fn stored(used: &[(u8, bool)]) -> BTreeMap<Digest, (u64, bool)> {
        let with_size = |(number, is_used): &(u8, bool)| (digest(*number), (10, *is_used));
        used.iter().map(with_size).collect()
    }

    #[test]
    fn what_was_unused_for_longest_goes_first_and_no_more_than_needed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let disk = |left| Left { left, of: 1000 };
        let mut records = Records::default();
        let first = stored(&[(1, true), (2, false), (3, true), (4, true)]);
        assert_eq!(records.plan(&first, disk(100), POLICY, at(0)), []);
        let second = stored(&[(1, true), (2, false), (3, true), (4, false)]);
        assert_eq!(records.plan(&second, disk(500), POLICY, at(300)), []);
        let third = [(1, true), (2, false), (3, false), (4, false), (5, false)];
        let third = stored(&third);
        let cases = [
            (disk(151), vec![]),
            (disk(185), vec![]),
            // Down to 80 %: five modules' worth, of which three are old enough.
            (disk(150), vec![2, 4, 3]),
            (Left { left: 0, of: 0 }, vec![]),
        ];
        for (disk, expected) in cases {
            let planned = records.plan(&third, disk, POLICY, at(600));
            let expected: Vec<Digest> = expected.into_iter().map(digest).collect();
            assert_eq!(planned, expected, "{disk:?}");
        }
        let narrow = Policy { low: 84, ..POLICY };
        assert_eq!(
            records.plan(&third, disk(145), narrow, at(600)),
            [digest(2), digest(4)]
        );
        let never = Policy {
            high: 100,
            ..POLICY
        };
        assert_eq!(records.plan(&third, disk(0), never, at(600)), []);
        // What went away and came back is new.
        records.plan(&stored(&[(1, true)]), disk(500), POLICY, at(700));
        assert_eq!(records.plan(&third, disk(100), POLICY, at(710)), []);
    }

    #[test]
    fn a_modules_files_belong_together_and_others_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let hex = digest(1).hex().to_owned();
        for name in [
            format!("{hex}.wasm"),
            format!("{hex}.concurrent-1.cwasm"),
            format!("{hex}.concurrent-1.seal"),
            format!("{hex}.lock"),
            "key".to_owned(),
            "compiling-x".to_owned(),
            "notes.wasm".to_owned(),
        ] {
            std::fs::write(directory.path().join(name), "12345").unwrap();
        }
        let mut found = BTreeMap::new();
        scan(directory.path(), &mut found).unwrap();
        let all: Vec<_> = found.into_iter().collect();
        assert_eq!(all.len(), 1);
        assert_eq!((&all[0].0, all[0].1.bytes), (&digest(1), 15));
        assert_eq!(all[0].1.files.len(), 3);
    }
}
