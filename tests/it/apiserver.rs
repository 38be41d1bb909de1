//! Integration tests of the room `apiserver`.
