//! How errors are shown.
//!
//! Every `Display` in the crate states its own operation and never repeats its source; the whole
//! story is told once, where the error is consumed, by [`chain`].

use std::error::Error;
use std::fmt;

/// Displays an error and all its sources as `outer: middle: root`.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

/// See [`chain`].
pub struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read module `{0}`")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn the_chain_names_each_error_once() {
        let error = Outer("hello", std::io::Error::other("disk on fire"));
        assert_eq!(
            chain(&error).to_string(),
            "read module `hello`: disk on fire"
        );
    }
}
