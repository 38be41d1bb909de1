//! Integration tests of the room `controllers`.
