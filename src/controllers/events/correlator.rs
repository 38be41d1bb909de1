//! Which events become objects: `client-go` `tools/record/events_cache.go` in short.
//!
//! - The same words about the same object raise the `count` of one event.
//! - One object may make noise 25 times; after that it gets one write in five minutes. A container
//!   that crashes for a year costs no more than one that crashes for an hour.
//!
//! Both memories are bounded: the least recently used half is forgotten when they are full, and
//! forgetting means at worst one event more.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

use super::Severity;
use crate::api::event_name::EventNames;

const MEMORY: usize = 4096;
const BURST: u32 = 25;
const REFILL: SignedDuration = SignedDuration::from_mins(5);
/// The event object itself is gone after an hour; a repetition later than this makes a new one.
const FORGET: SignedDuration = SignedDuration::from_mins(50);

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) object: String,
    pub(super) name: String,
    pub(super) severity: Severity,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Create { name: String },
    Repeat { name: String, count: i32 },
    Drop,
}

#[derive(Default)]
pub(super) struct Correlator {
    seen: HashMap<Identity, Seen>,
    noise: HashMap<String, Noise>,
    names: EventNames,
}

struct Seen {
    name: String,
    count: i32,
    at: Timestamp,
}

struct Noise {
    left: u32,
    at: Timestamp,
}

impl Correlator {
    pub(super) fn decide(&mut self, identity: &Identity, now: Timestamp) -> Decision {
        if !self.may_speak(&identity.object, now) {
            if let Some(seen) = self.seen.get_mut(identity) {
                seen.count = seen.count.saturating_add(1);
            }
            return Decision::Drop;
        }
        if let Some(seen) = self.seen.get_mut(identity)
            && now.duration_since(seen.at) < FORGET
        {
            seen.count = seen.count.saturating_add(1);
            seen.at = now;
            return Decision::Repeat {
                name: seen.name.clone(),
                count: seen.count,
            };
        }
        forget_half(&mut self.seen, |seen| seen.at);
        let name = self.names.next(&identity.name, now);
        self.seen.insert(
            identity.clone(),
            Seen {
                name: name.clone(),
                count: 1,
                at: now,
            },
        );
        Decision::Create { name }
    }

    /// A token bucket per object.
    fn may_speak(&mut self, object: &str, now: Timestamp) -> bool {
        if !self.noise.contains_key(object) {
            forget_half(&mut self.noise, |noise| noise.at);
        }
        let noise = self.noise.entry(object.to_owned()).or_insert(Noise {
            left: BURST,
            at: now,
        });
        let refilled = now.duration_since(noise.at).as_secs() / REFILL.as_secs();
        if refilled > 0 {
            noise.left = (noise.left + refilled.min(i64::from(BURST)) as u32).min(BURST);
            noise.at = now;
        }
        let may = noise.left > 0;
        noise.left = noise.left.saturating_sub(1);
        may
    }
}

fn forget_half<K: Eq + Hash, V>(map: &mut HashMap<K, V>, at: impl Fn(&V) -> Timestamp) {
    if map.len() < MEMORY {
        return;
    }
    let mut ages: Vec<Timestamp> = map.values().map(&at).collect();
    ages.sort_unstable();
    let middle = ages[ages.len() / 2];
    let before = map.len();
    map.retain(|_, value| at(value) > middle);
    if map.len() == before {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(object: &str, message: &str) -> Identity {
        Identity {
            object: object.to_owned(),
            name: object.to_owned(),
            severity: Severity::Warning,
            reason: "BackOff",
            message: message.to_owned(),
        }
    }

    #[test]
    fn repetitions_count_and_other_words_are_another_event() {
        let mut correlator = Correlator::default();
        let now = Timestamp::UNIX_EPOCH;
        let Decision::Create { name } = correlator.decide(&identity("a", "x"), now) else {
            panic!("the first of its kind is created");
        };
        assert_eq!(
            correlator.decide(&identity("a", "x"), now),
            Decision::Repeat { name, count: 2 }
        );
        assert!(matches!(
            correlator.decide(&identity("a", "y"), now),
            Decision::Create { .. }
        ));
    }

    #[test]
    fn a_storm_is_cut_and_trickles_later() {
        let mut correlator = Correlator::default();
        let mut now = Timestamp::UNIX_EPOCH;
        let mut written = 0;
        for second in 0..3600 {
            now = Timestamp::from_second(second).unwrap();
            for _ in 0..10 {
                written += i32::from(correlator.decide(&identity("a", "x"), now) != Decision::Drop);
            }
        }
        assert!((25..=25 + 12).contains(&written), "{written}");
        // Others are not made to pay for it.
        assert!(matches!(
            correlator.decide(&identity("b", "x"), now),
            Decision::Create { .. }
        ));
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        for n in 0..20_000_i64 {
            let now = Timestamp::from_millisecond(n).unwrap();
            correlator.decide(&identity(&n.to_string(), "x"), now);
        }
        assert!(correlator.seen.len() <= MEMORY && correlator.noise.len() <= MEMORY);
    }
}
