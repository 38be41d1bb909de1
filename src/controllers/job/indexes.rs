//! Sets of completion indexes in the form of `status.completedIndexes`: `1,3-5,7`.
//!
//! Kept as ranges, so that a job of a hundred thousand completions costs a few words. Text that
//! cannot be read counts as nothing: it can only be what this controller wrote.

use std::fmt;

/// Disjoint ranges with gaps between them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Those below `completions`: a job may have been made smaller.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let range = |part: &str| -> Option<(i32, i32)> {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (from.parse().ok()?, to.parse::<i32>().ok()?);
            (0 <= from && from <= to && from < completions)
                .then_some((from, to.min(completions - 1)))
        };
        let mut indexes = Self::default();
        for (from, to) in text.split(',').filter_map(range) {
            indexes.add(from, to);
        }
        indexes
    }

    pub(super) fn insert(&mut self, index: i32) {
        self.add(index, index);
    }

    fn add(&mut self, mut from: i32, mut to: i32) {
        let touches = |range: &(i32, i32)| {
            range.0 <= to.saturating_add(1) && range.1.saturating_add(1) >= from
        };
        let (touched, mut apart): (Vec<_>, Vec<_>) = self.0.iter().copied().partition(touches);
        for (other_from, other_to) in touched {
            from = from.min(other_from);
            to = to.max(other_to);
        }
        apart.push((from, to));
        apart.sort_unstable();
        self.0 = apart;
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        self.0
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&index))
    }

    pub(super) fn len(&self) -> i32 {
        self.0.iter().map(|(from, to)| to - from + 1).sum()
    }

    /// How many are in both.
    pub(super) fn common(&self, other: &Self) -> i32 {
        let overlap = |one: &(i32, i32), other: &(i32, i32)| {
            (one.1.min(other.1) - one.0.max(other.0) + 1).max(0)
        };
        let pairs = self.0.iter();
        let pairs = pairs.flat_map(|one| other.0.iter().map(move |other| overlap(one, other)));
        pairs.sum()
    }

    /// Takes in all of another set.
    pub(super) fn extend(&mut self, other: &Self) {
        other.0.iter().for_each(|(from, to)| self.add(*from, *to));
    }

    /// The first `count` indexes below `completions` that are in neither set.
    pub(super) fn missing(&self, taken: &Self, completions: i32, count: usize) -> Vec<i32> {
        let is_free = |index: &i32| !self.contains(*index) && !taken.contains(*index);
        (0..completions).filter(is_free).take(count).collect()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (from, to)) in self.0.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            match to - from {
                0 => write!(f, "{comma}{from}")?,
                1 => write!(f, "{comma}{from},{to}")?,
                _ => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_like_kubernetes() {
        for (text, completions, expected) in [
            ("", 5, ""),
            ("1,3-5,7", 10, "1,3-5,7"),
            ("1,3-5,7", 5, "1,3,4"),
            ("1,2,3", 5, "1-3"),
            ("x,2", 5, "2"),
        ] {
            assert_eq!(Indexes::parse(text, completions).to_string(), expected);
        }
        let done = Indexes::parse("0,2-4", 9);
        assert_eq!(done.missing(&Indexes::parse("5", 9), 9, 2), [1, 6]);
        assert_eq!(done.len(), 4);
    }

    proptest! {
        #[test]
        fn holds_what_was_put_in(wanted in proptest::collection::btree_set(0..40_i32, 0..30)) {
            let mut indexes = Indexes::default();
            wanted.iter().rev().for_each(|index| indexes.insert(*index));
            let read = Indexes::parse(&indexes.to_string(), 40);
            prop_assert_eq!(&read, &indexes);
            prop_assert_eq!(read.len() as usize, wanted.len());
            for index in 0..40 {
                prop_assert_eq!(read.contains(index), wanted.contains(&index));
            }
        }
    }
}
