//! Integration tests of the room `worker`.
