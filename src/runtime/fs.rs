//! The pod's virtual filesystem.
