//! The path of a field, `spec.containers[0].image`, as error texts and causes name it.
//!
//! A path is a chain of borrowed steps on the stack: walking a valid object allocates nothing, and
//! the text is made only when there is something to complain about.

use std::fmt;

/// One step and what stands before it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'a> {
    /// The object itself.
    Root,
    /// `.name`
    Field(&'a Path<'a>, &'a str),
    /// `[3]`
    Index(&'a Path<'a>, usize),
    /// `[key]`
    Key(&'a Path<'a>, &'a str),
}

impl<'a> Path<'a> {
    pub(crate) fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    pub(crate) fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }

    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_kubernetes() {
        let (spec, root) = (Path::Root.field("spec"), Path::Root);
        let containers = spec.field("containers");
        let first = containers.index(0);
        assert_eq!(first.field("image").to_string(), "spec.containers[0].image");
        let limits = root.field("limits");
        assert_eq!(limits.key("cpu").to_string(), "limits[cpu]");
    }
}
