//! WASI 0.1 by native host functions.
