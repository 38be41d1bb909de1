//! How events are called: `<object>.<hex of the moment in nanoseconds>`, as `client-go` calls them.
//!
//! Lists come in the order of names and times of events have whole seconds, so the names tell what of
//! one second was first. All who write events name them here.

use jiff::Timestamp;

/// The longest name of an object.
const LONGEST: usize = 253;

/// Names of the events of one writer, each after the one before.
#[derive(Debug, Default)]
pub struct EventNames {
    last: i128,
}

impl EventNames {
    /// The name of the next event about `object`. No moment is used twice, whatever the clock says.
    pub fn next(&mut self, object: &str, now: Timestamp) -> String {
        self.last = now.as_nanosecond().max(self.last + 1);
        let moment = format!(".{:x}", self.last);
        let end = object.floor_char_boundary(LONGEST - moment.len());
        let object = object[..end].trim_end_matches(['.', '-']);
        format!("{object}{moment}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_events_came() {
        let mut names = EventNames::default();
        let now = Timestamp::from_nanosecond(0x18d0_0000_0000_0000).unwrap();
        let later = Timestamp::from_nanosecond(0x18d0_0000_0000_0009).unwrap();
        let made = [now, now, now, later, now].map(|at| names.next("web", at));
        assert_eq!(made[0], "web.18d0000000000000");
        assert_eq!(made[3], "web.18d0000000000009");
        assert!(made.is_sorted_by(|one, next| one < next), "{made:?}");
    }

    #[test]
    fn a_long_name_makes_room() {
        let object = format!("{}.{}", "a".repeat(235), "b".repeat(17));
        let name = EventNames::default().next(&object, Timestamp::MAX);
        assert!(name.len() <= LONGEST, "{name}");
        assert!(crate::api::names::is_dns_subdomain(&name), "{name}");
    }
}
