//! Decisions out of a row of numbers. A zero is always the tamest one, so that smaller numbers, to
//! which proptest shrinks, make simpler requests; after the last number all are zero.

pub(super) struct Choices<'a> {
    numbers: std::slice::Iter<'a, u16>,
}

impl<'a> Choices<'a> {
    pub(super) fn new(numbers: &'a [u16]) -> Self {
        Self {
            numbers: numbers.iter(),
        }
    }

    pub(super) fn number(&mut self) -> usize {
        self.numbers.next().copied().unwrap_or(0).into()
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.number() % limit
    }

    pub(super) fn pick<T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// True once in `odds` times.
    pub(super) fn is_rare(&mut self, odds: usize) -> bool {
        self.below(odds) == odds - 1
    }
}
