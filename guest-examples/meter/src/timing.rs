//! What a measured program says: one line per step, `name count nanoseconds`.

use std::time::Instant;

/// How long so many operations took.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// The step.
    pub(crate) name: String,
    /// Operations, or bytes.
    pub(crate) count: u64,
    /// Nanoseconds for all of them.
    pub(crate) nanos: u64,
}

impl Timing {
    /// Times one step, which says how many operations it did.
    pub(crate) fn of<E>(name: &str, step: impl FnOnce() -> Result<u64, E>) -> Result<Self, E> {
        let since = Instant::now();
        let count = step()?;
        Ok(Self {
            name: name.to_owned(),
            count,
            nanos: u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX),
        })
    }
}

impl std::fmt::Display for Timing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.name, self.count, self.nanos)
    }
}
