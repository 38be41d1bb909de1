//! Whom a pod has exchanged datagrams with a moment ago, so that answers pass.
//!
//! A datagram is an answer if the other side has sent one to just this port from just that address.
//! Only the side that began is judged by rules, each of its datagrams anew, so changed rules hold
//! for the next one. The memory is short and bounded: the oldest peer is forgotten first.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer may take.
const MEMORY: Duration = Duration::from_mins(1);
const MOST: usize = 1024;

/// A port of the pod, and its peer.
type Flow = (u16, SocketAddr);

/// See the module; flows in one direction.
#[derive(Default)]
pub(super) struct Flows(Mutex<HashMap<Flow, Instant>>);

impl Flows {
    pub(super) fn remember(&self, port: u16, peer: SocketAddr, now: Instant) {
        let mut flows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flows.len() >= MOST && !flows.contains_key(&(port, peer)) {
            flows.retain(|_, since| now.saturating_duration_since(*since) < MEMORY);
            if flows.len() >= MOST
                && let Some(oldest) = flows.iter().min_by_key(|(_, since)| **since)
            {
                let oldest = *oldest.0;
                flows.remove(&oldest);
            }
        }
        flows.insert((port, peer), now);
    }

    /// Whether a datagram the other way is an answer; a stream of answers keeps itself alive.
    pub(super) fn answers(&self, port: u16, peer: SocketAddr, now: Instant) -> bool {
        let mut flows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = flows.get_mut(&(port, peer));
        match known.filter(|since| now.saturating_duration_since(**since) < MEMORY) {
            Some(since) => *since = now,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_forgotten_by_age_and_by_number() {
        let (flows, start) = (Flows::default(), Instant::now());
        let peer = |port| SocketAddr::from(([10, 64, 0, 9], port));
        flows.remember(53, peer(1), start);
        assert!(flows.answers(53, peer(1), start));
        assert!(!flows.answers(54, peer(1), start) && !flows.answers(53, peer(2), start));
        assert!(!flows.answers(53, peer(1), start + MEMORY));
        for number in 0..MOST as u16 {
            let now = start + Duration::from_millis(1 + u64::from(number));
            flows.remember(53, peer(1000 + number), now);
        }
        let end = start + Duration::from_millis(1 + MOST as u64);
        assert!(!flows.answers(53, peer(1), end), "the oldest has gone");
        assert!(flows.answers(53, peer(1000), end));
        assert_eq!(flows.0.lock().unwrap().len(), MOST);
    }
}
